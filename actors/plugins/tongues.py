"""Other languages on the WebSocket: a plug-in translates for clients of another program. Pure.

A client that offers no subprotocol and whose first message a tongue knows is served through its interpreter.
Sign-in, rights, limits and delivery stay the host's: it hears only messages of docs/protocol.md.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

type Message = Mapping[str, Any]


class Understood(NamedTuple):
    """What one message of the client comes to.

    `asked`: messages of the protocol (`action`, …), in order. `said`: answers that need nothing of the host.
    """

    asked: Sequence[Message] = ()
    said: Sequence[Message] = ()


class Interpreter(Protocol):
    """Translates for one connection. A fault in it ends the connection."""

    @property
    def unchanged(self) -> tuple[bytes, ...]:
        """Messages to the client whose text begins like this are sent as they are."""
        ...

    def hear(self, message: object, now_s: float) -> Understood:
        """A message came, as decoded from JSON. None: it was none."""
        ...

    def say(self, message: Message, now_s: float) -> Sequence[Message]:
        """What the client is told for a message of the protocol."""
        ...

    def close_code(self, code: int) -> int:
        """The code to close with in place of one of docs/protocol.md 10."""
        ...


@runtime_checkable
class SaysTooLarge(Protocol):
    """What an `Interpreter` may have too. Without it, a message that is too large is closed for only."""

    def too_large(self, bytes_max: int) -> Sequence[Message]:
        """What a signed-in client is told before the close, if a message has more than `bytes_max`."""
        ...


class Tongue(Protocol):
    """One other language."""

    def interpreter(self, first: Message) -> Interpreter | None:
        """An interpreter for a client that begins with this message, None if it speaks another language."""
        ...
