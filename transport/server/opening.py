"""The library's server protocol, changed to parse nothing after a request until the request is answered.

The library parses the bytes after a request as frames. To it, a second request is a protocol error, so it
ends the connection before the first request is answered.
"""

from collections.abc import Generator
from http import HTTPStatus

from websockets.exceptions import HeaderLineTooLong
from websockets.protocol import CONNECTING, Protocol
from websockets.server import ServerProtocol


class _Patient(Protocol):
    """Runs after the library's parser of requests and before its parser of frames."""

    def parse(self) -> Generator[None]:
        while self.state is CONNECTING and not self.reader.eof:
            yield
        if self.state is CONNECTING:  # TCP is gone, so no answer is possible
            self.reader.discard()
        yield from super().parse()


class OpeningProtocol(ServerProtocol, _Patient):
    """See the module."""

    @property
    def waiting_bytes(self) -> int:
        """The bytes that are not parsed: part of a line or frame, or bytes that wait for the answer."""
        return len(self.reader.buffer)

    def refuse_head(self, bytes_max: int) -> None:
        """Refuse a request whose head exceeds `bytes_max`. The library bounds the lines, not their sum."""
        self.handshake_exc = HeaderLineTooLong(f"the head has more than {bytes_max} bytes")
        text = f"The head of the request has more than {bytes_max} bytes.\n"
        self.send_response(self.reject(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, text))
