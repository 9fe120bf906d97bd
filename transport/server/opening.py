"""The library's server protocol, changed to parse nothing after a request until the request is answered.

Its refusals are problem details.

The library parses the bytes after a request as frames. To it, a second request is a protocol error, so it
ends the connection before the first request is answered.
"""

from collections.abc import Generator
from http import HTTPStatus
from typing import Any, Final

from websockets.http11 import Response
from websockets.protocol import CONNECTING, Protocol

from huahuo.transport.protocol.problem import PROBLEM, code_of, problem_body
from huahuo.transport.server.last_words import LastWords
from huahuo.transport.session.speech import Speech
from huahuo.transport.words import http_zh

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
    """See the module. `speech`: says refusals in the client's language."""

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
