"""Who is told what happens on a socket."""

from typing import Protocol

from huahuo.transport.server.batch import Heard


class TakesAcks(Protocol):
    """Takes acks from the bytes of a socket."""

    @property
    def front(self) -> bytes:
        """What such an ack has before its number. The same as long as all messages are taken here."""
        ...

    def acked(self, seq: int, now_s: float) -> bool:
        """Process such an ack, up to `seq`. False: nothing has changed."""
        ...

    def take(self, data: bytes) -> bool:
        """Process `data` if it is a frame with an ack like the last one. False: nothing has changed."""
        ...


class Listener(Protocol):
    """Receives what happens on a socket."""

    @property
    def quick_acks(self) -> TakesAcks | None:
        """Where to offer the next bytes first, after `took` an ack. None: by `took` again."""
        ...

    def took(self, text: bytes) -> bool:
        """A short message came while the library holds no partial one. False: it must wait for its turn."""
        ...

    def heard(self, texts: list[bytes]) -> tuple[int, Heard]:
        """Messages of an authenticated client came, and none waits before them. Not checked to be UTF-8.

        Returns how many of them were handled, and what is to be done with the others.
        """
        ...

    def began(self, text: bytes) -> bool:
        """The connection's first message came. False: it must wait for its turn."""
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
        """TCP is gone. Messages that came before may still wait to be read."""
        ...
