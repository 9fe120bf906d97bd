"""Server-sent events (WHATWG HTML, 9.2): how the messages of one stream's reader look as text. Pure.

An event of the stream is an unnamed event, which `EventSource.onmessage` gets. Its id is `<log>:<seq>`, which
the reader sends back as `Last-Event-ID`. What the service says about the stream is a named event.
"""

from typing import Final

HEARTBEAT: Final = b":\n\n"
"""A comment. It keeps proxies from closing the connection."""
RETRY_MS: Final = 2000
"""A browser comes back after this. `goaway` says how long to wait after a particular end."""


class ServerSent:
    """The texts of one log's events. Implements `frames.EventTexts`."""

    __slots__ = ("_prefix", "name")

    def __init__(self, log_id: str) -> None:
        self.name = "sse"
        self._prefix = b"id: %b:" % log_id.encode()

    def text(self, seq: int, event: bytes) -> bytes:
        """See `frames.EventTexts`. JSON has no line break outside of its texts, where it is escaped."""
        return b"%b%d\ndata: %b\n\n" % (self._prefix, seq, event)

    def place(self, seq: int) -> bytes:
        """Lets the reader know where it stands, without an event."""
        return b"%b%d\n\n" % (self._prefix, seq)

    def named(self, name: str, message: bytes, seq: int | None = None) -> bytes:
        """A message of the service; `seq`: the reader's place after it."""
        place = b"" if seq is None else b"%b%d\n" % (self._prefix, seq)
        return b"%bevent: %b\ndata: %b\n\n" % (place, name.encode(), message)


def retry(seconds: float) -> bytes:
    """How long the reader should wait before it comes back."""
    return b"retry: %d\n\n" % round(seconds * 1000)
