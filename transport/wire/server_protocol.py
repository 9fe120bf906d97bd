"""The library's server protocol, changed where the service needs something else.

* `LastWords` says something more before it closes because of a large message.
* `OpeningProtocol` parses nothing after a request until the request is answered; its refusals are problem
  details. The library parses the bytes after a request as frames. To it, a second request is a protocol
  error, so it ends the connection before the first request is answered.
* `WelcomedProtocol` is for a WebSocket that was opened without it. The library's constructor draws a
  random id, which is a system call that lets other threads have the interpreter, and looks up a logger by
  name: after a restart, for ten thousand clients in a row.
* `LazyDeque` takes no memory while it is empty; an empty `deque` has 760 bytes. The library keeps one for
  the frames that wait on each connection, and on an idle connection none waits.
"""

import logging
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from http import HTTPStatus
from typing import Any, Final

from websockets.frames import CloseCode
from websockets.http11 import Response
from websockets.protocol import CONNECTING, OPEN, SERVER, Protocol
from websockets.server import ServerProtocol
from websockets.streams import StreamReader
from websockets.typing import Subprotocol

from huahuo.transport.protocol.problem import PROBLEM, code_of, problem_body
from huahuo.transport.session.outgoing import Speech
from huahuo.transport.words import http_zh


class LastWords(ServerProtocol):
    """See the module."""

    if_too_large: Sequence[bytes] = ()
    """The texts that are sent before the close. Most clients know what the close code means."""

    def fail(self, code: CloseCode | int, reason: str = "") -> None:
        """The library closes here when it cannot go on."""
        if code == CloseCode.MESSAGE_TOO_BIG and self.state is OPEN:
            for text in self.if_too_large:
                self.send_text(text)
        super().fail(code, reason)


_PREFIX: Final = "Failed to open a WebSocket connection: "
"""The library's refusals begin with it."""


class _Patient(Protocol):
    """Runs after the library's parser of requests and before its parser of frames."""

    def parse(self) -> Generator[None]:
        while self.state is CONNECTING and not self.reader.eof:
            yield
        if self.state is CONNECTING:  # TCP is gone, so no answer is possible
            self.reader.discard()
        yield from super().parse()


class OpeningProtocol(LastWords, _Patient):
    """The library's server protocol, changed to parse nothing after a request until the request is answered.

    `speech`: says refusals in the client's language.
    """

    def __init__(self, speech: Speech, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._speech = speech

    @property
    def waiting_bytes(self) -> int:
        """The bytes that are not parsed: part of a line or frame, or bytes that wait for the answer."""
        return len(self.reader.buffer)

    def reject(self, status: int, text: str) -> Response:
        """The library asks for each of its refusals here. `text`: its own, or one of the catalogue."""
        refusal = super().reject(status, text)
        detail = text.removeprefix(_PREFIX).partition("\n")[0].removesuffix(".")
        if detail.isascii():
            detail = http_zh.NO_HANDSHAKE.format(detail)
        known = HTTPStatus(status)
        refusal.body = problem_body(code_of(known), self._speech.text(detail), known)
        for name, value in (("Content-Type", PROBLEM), ("Content-Length", str(len(refusal.body)))):
            del refusal.headers[name]
            refusal.headers[name] = value
        return refusal


LOGGER = logging.getLogger("websockets.server")
"""The library's own. Each connection would have an adapter of it, which nothing here uses."""
_SAME_ID = ServerProtocol().id


class WelcomedProtocol(LastWords):
    """The library's server protocol for a WebSocket that was opened without it.

    It sets what the library's constructors set; a test compares them.
    """

    def __init__(self, bytes_max: int, subprotocol: Subprotocol | None) -> None:
        self.id = _SAME_ID
        self.logger = LOGGER
        self.debug = False
        self.side = SERVER
        self.state = OPEN
        self.max_message_size, self.max_fragment_size = bytes_max, None
        self.current_size = None
        self.expect_continuation_frame = False
        self.origin = None
        self.extensions = []
        self.subprotocol = subprotocol
        self.close_rcvd = self.close_sent = self.close_rcvd_then_sent = None
        self.handshake_exc = None
        self.eof_sent = False
        self.reader = StreamReader()
        self.events = []
        self.writes = []
        self.parser = self.parse()
        next(self.parser)  # as the library begins it
        self.parser_exc = None
        self.origins = self.available_extensions = self.available_subprotocols = None
        self.accept_called = False


class LazyDeque[T]:
    """What the library uses of a deque: both ends, the length, and whether it is empty."""

    __slots__ = ("_items",)

    def __init__(self) -> None:
        self._items: deque[T] | None = None

    def __len__(self) -> int:
        return 0 if self._items is None else len(self._items)

    def append(self, item: T) -> None:
        """Add at the end."""
        if self._items is None:
            self._items = deque()
        self._items.append(item)

    def extendleft(self, items: Iterable[T]) -> None:
        """Add at the front, one by one."""
        if self._items is None:
            self._items = deque()
        self._items.extendleft(items)

    def popleft(self) -> T:
        """Take the first. Raises IndexError: there is none."""
        if self._items is None:
            raise IndexError("pop from an empty deque")
        item = self._items.popleft()
        if not self._items:
            self._items = None
        return item
