"""What a connection needs of its client's socket. Implemented by `WebSocket`, and in `transport.http`."""

from collections.abc import Callable, Sequence
from typing import Protocol

from huahuo.transport.protocol.dialects import Negotiated
from huahuo.transport.server.intake import Load
from huahuo.transport.server.listener import Listener
from huahuo.transport.server.lobby import Aborted
from huahuo.transport.server.sends import Direct


class Socket(Protocol):
    """A client's socket. It is written complete WebSocket frames, whatever it makes of them."""

    listener: Listener | None
    address: str
    over_limit: bool
    negotiated: Negotiated | None
    trusted: bool
    load: Load | None
    """What counts a long message while it comes. None: the client has not authenticated."""
    root: str
    """The path below which the service is mounted, without a slash at its end."""

    @property
    def transport(self) -> Aborted:
        """What to abort where a close is not possible."""
        ...

    @property
    def paused(self) -> bool:
        """Whether the write buffer is full."""
        ...

    @property
    def is_open(self) -> bool:
        """Whether the connection can be written to at all."""
        ...

    @property
    def unsent_bytes(self) -> int:
        """The size of the write buffer's content."""
        ...

    @property
    def close_code(self) -> int | None:
        """The code that the peer or this side closed with."""
        ...

    def has_room(self) -> bool:
        """Whether frames may be written without filling the buffer beyond its bound."""
        ...

    def direct(self, leave: Callable[[], None]) -> tuple[Direct, int] | None:
        """Itself and its descriptor, if it has nothing to write and may be written to without its transport.

        `leave` is called before anything else is written to it, until `on_its_own`. None: always by `write`.
        """
        ...

    def on_its_own(self) -> None:
        """`leave` need not be called any more."""
        ...

    def bound_buffer(self, bytes_max: int) -> None:
        """Set the bound of the write buffer."""
        ...

    def trust(self, if_too_large: Sequence[bytes] = ()) -> None:
        """The client authenticated: from the next message on, they may have their full size.

        `if_too_large`: the texts that are sent before the close if one is larger.
        """
        ...

    def handed_over(self) -> None:
        """The message that `recv` gave is queued where all later ones come."""
        ...

    def go_on(self) -> None:
        """Offer again, now, what the listener wanted later."""
        ...

    def go_on_soon(self) -> None:
        """As `go_on`, in the loop's next turn."""
        ...

    def handled(self) -> None:
        """All messages that were handed out before have been handled."""
        ...

    def write(self, frame: bytes) -> None:
        """Write complete frames, or nothing if the connection is no longer open."""
        ...

    def end(self, code: int, reason: str, deadline_s: float) -> None:
        """Close, and abort if the peer has not finished by the deadline."""
        ...

    async def recv(self) -> str | bytes:
        """The next message. Raises `websockets.exceptions.ConnectionClosed` after the last one."""
        ...

    async def wait_closed(self) -> None:
        """Wait until the connection is gone."""
        ...
