"""The ports of a reader of server-sent events: the way out to it, and what that tells of it."""

from http import HTTPStatus
from typing import Protocol

from huahuo.transport.http.messages import Answer, Headers


class Outlet(Protocol):
    """The way out to one reader, by whatever server has its socket."""

    @property
    def paused(self) -> bool:
        """Whether more is waiting to be sent than should be."""
        ...

    @property
    def unsent_bytes(self) -> int:
        """How much waits."""
        ...

    def bound(self, bytes_max: int) -> None:
        """Be paused from `bytes_max` on."""
        ...

    def refuse(self, answer: Answer) -> None:
        """Answer with this instead of events. Nothing else is written."""
        ...

    def begin(self, status: HTTPStatus, headers: Headers) -> None:
        """Write the head of the answer."""
        ...

    def write(self, text: bytes) -> None:
        """Write text of the body."""
        ...

    def write_shared(self, text: bytes, chunk: bytes) -> None:
        """As `write`. `chunk`: the same as a chunk of HTTP/1.1 (RFC 9112, 7.1), made once for all readers."""
        ...

    def end(self, deadline_s: float) -> None:
        """The body ends here. A reader that has not read it by the deadline is cut off."""
        ...

    def abort(self) -> None:
        """Close at once."""
        ...


class Reader(Protocol):
    """What an outlet tells of its reader."""

    def filled(self) -> None:
        """The outlet is full."""
        ...

    def drained(self) -> None:
        """The outlet has room again."""
        ...

    def lost(self) -> None:
        """The reader is gone."""
        ...
