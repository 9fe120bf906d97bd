"""The interfaces between the parts of the transport: types.

The server asks the `Door`, then makes a connection (`LiveConnection`) for each socket. The connection is
the shell of a sans-I/O session. It uses the `Hub` (live connections, takeover, acks, the timer), the
`Verifier` (tokens) and the `CommandGate` (`huahuo.transport.commands.gate`). `Socket` is what it needs of
its client's socket; `WebSocket` implements it, and so do sockets in `transport.http`. A `Listener` is told
what happens on a socket, and gets its messages.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from huahuo.actors.plugins.actions import Action
from huahuo.actors.plugins.calls import Call, Reply
from huahuo.transport.access.rights import Verified
from huahuo.transport.load.intake import Load
from huahuo.transport.load.metrics import Tally
from huahuo.transport.wire.lobby import Aborted, HasTransport
from huahuo.transport.wire.sends import Direct


class LiveConnection(Protocol):
    """What the hub needs of one open WebSocket. Hashable by identity; all calls on the loop."""

    def tick(self, now_s: float) -> float:
        """Called by the hub's one timer about once a second (`now_s` = `Ambient.monotonic_s`).

        Returns until when it need not be called again, unless the connection calls `Hub.stirred`. Must not
        raise.
        """
        ...

    def wake_up(self, now_s: float) -> None:
        """Called in place of `tick` in the first turn after the process slept (`huahuo.eventstore.ambient`).

        Sends a ping and closes no connection: bytes that came during the sleep are read until the next turn.
        """
        ...

    def close(self, code: int, reason: str) -> None:
        """Send `goaway`, close with `code`, abort the transport at a deadline. Idempotent; does not wait.

        `code` is a v1 code of PROTOCOL 10; a classic connection translates it.
        """
        ...


class Hub(Protocol):
    """The process-wide table of live connections, as a connection sees it."""

    def opened(self, connection: LiveConnection) -> None:
        """A WebSocket is open (not yet authenticated): it is ticked from now on."""
        ...

    def join(self, connection: LiveConnection, verified: Verified, client: str) -> bool | Awaitable[bool]:
        """The connection authenticated for the first time. `client` is "" if none was given.

        An older connection of the same user and (non-empty) client is closed with 4009 first.
        False: the user has too many connections (the caller closes with 4504; it did not join).
        """
        ...

    def refreshed(self, connection: LiveConnection, verified: Verified) -> None:
        """A joined connection presented a new token of the same user."""
        ...

    def leave(self, connection: LiveConnection) -> None:
        """The connection is gone (or closing). Idempotent, also for one that never joined."""
        ...

    def stirred(self, connection: LiveConnection) -> None:
        """A connection has something to do: it is ticked each second, until `tick` says that it rests."""
        ...

    def note_ack(self, user: str, client: str, stream: str, seq: int) -> None:
        """`client` of `user` (`user/42`) has processed `stream` up to `seq`. Written later, max wins."""
        ...


class Begun(Protocol):
    """A command that has begun."""

    def ended(self) -> asyncio.Future[None]:
        """Done when its answer was told. It is to be waited for, not cancelled."""
        ...


class CommandGate(Protocol):
    """Answers calls, and keeps the answers that a connection finds itself."""

    told: Callable[[], None] | None
    """Called when `done` was called for each command of one commit."""

    async def execute(self, call: Call[Any], spec: Action) -> Reply:
        """Answer a call. A command id has at most one effect, and a repeat gets the same answer."""
        ...

    def begin(self, call: Call[Any], spec: Action, done: Callable[[Reply | None], None]) -> Begun:
        """As `execute`, for commands: `done` gets the answer in a later turn of the loop.

        It gets None if the service stops and cut the command short.
        """
        ...

    def has_room(self, user: str) -> bool:
        """Whether so few commands of this user run that the next one may be looked at."""
        ...

    def record(self, call: Call[Any], reply: Reply, done: Callable[[Reply | None], None]) -> Begun:
        """Keep an answer that was found without a handler. `done` gets it, or the first one of its id."""
        ...


class Meter(Protocol):
    """Counts what connections do; see `huahuo.transport.load.metrics`."""

    @property
    def tally(self) -> Tally:
        """What was written to connections."""
        ...

    def delivered(self, events: int, size_bytes: int) -> None:
        """Frames with `events` events and `size_bytes` bytes were written."""
        ...

    def resumed(self, outcome: str) -> None:
        """A subscription began."""
        ...

    def cursor_ahead(self) -> None:
        """A client was ahead of the log, or its check differed."""
        ...

    def closed(self, code: int) -> None:
        """A connection ended."""
        ...

    def authenticated(self, result: str) -> None:
        """A token was checked."""
        ...


class InLobby(HasTransport, Protocol):
    """A socket that may wait in the lobby. `address`: set once the door has counted it."""

    address: str


class PlainHttp(Protocol):
    """Reads every request but the usual ones for a WebSocket (`transport.http.native`)."""

    def take_over(self, transport: asyncio.Transport, data: bytes, deadline_s: float) -> None:
        """Serve the socket. Its first request must have come by the deadline, on the lobby's clock."""
        ...

    def drain(self) -> None:
        """Let every connection end after the answer that it waits for."""
        ...


class TakesAcks(Protocol):
    """Takes acks that differ from the last one in the number only."""

    @property
    def front(self) -> bytes:
        """What such an ack has before its number. The same as long as all messages are taken here."""
        ...

    def acked(self, seq: int, now_s: float) -> bool:
        """Process such an ack, up to `seq`. False: nothing has changed."""
        ...


class Listener(Protocol):
    """Receives what happens on a socket."""

    @property
    def quick_acks(self) -> TakesAcks | None:
        """Where the part in C may bring the next acks, after `took` one. None: by `took` again."""
        ...

    def took(self, text: bytes) -> bool:
        """An ack came. False: it is none, or must wait for its turn."""
        ...

    @property
    def is_busy(self) -> bool:
        """Whether a message is being handled, and none can be before it has been."""
        ...

    def heard(self, texts: list[bytes]) -> int:
        """Messages came, and none waits before them. The texts are UTF-8.

        Returns how many of them were handled. The others are offered again when the listener calls
        `Socket.go_on` or `Socket.go_on_soon`.
        """
        ...

    def owes(self) -> bool:
        """Whether a message of the client waits, or is not answered yet."""
        ...

    def ponged(self) -> None:
        """A pong came."""
        ...

    def filled(self) -> None:
        """The write buffer is full."""
        ...

    def drained(self) -> None:
        """The write buffer has room again."""
        ...

    def disconnected(self) -> None:
        """TCP is gone. Messages that came before may still wait."""
        ...

    def lost(self) -> None:
        """All of them were handled: leave everything that knows the connection."""
        ...


class Socket(Protocol):
    """A client's socket. It is written complete WebSocket frames, whatever it makes of them."""

    listener: Listener | None
    address: str
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

    def go_on(self) -> None:
        """Offer again, now, what the listener wanted later."""
        ...

    def go_on_soon(self) -> None:
        """As `go_on`, in the loop's next turn."""
        ...

    def write(self, frame: bytes) -> None:
        """Write complete frames, or nothing if the connection is no longer open."""
        ...

    def end(self, code: int, reason: str, deadline_s: float) -> None:
        """Close, and abort if the peer has not finished by the deadline."""
        ...
