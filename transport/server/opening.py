"""The library's server protocol, which reads nothing behind a request until the request is answered.

The library itself takes whatever follows a request for frames: a second request is a breach of the framing
to it, and it ends the connection before the first one is answered.
"""

from collections.abc import Generator
from http import HTTPStatus

from websockets.exceptions import HeaderLineTooLong
from websockets.protocol import CONNECTING, Protocol
from websockets.server import ServerProtocol


class _Patient(Protocol):
    """Stands between the library's parser of requests and its parser of frames."""

    def parse(self) -> Generator[None]:
        while self.state is CONNECTING and not self.reader.eof:
            yield
        if self.state is CONNECTING:  # TCP is gone: nobody is left to answer
            self.reader.discard()
        yield from super().parse()


class OpeningProtocol(ServerProtocol, _Patient):
    """See the module."""

    @property
    def waiting_bytes(self) -> int:
        """How much came and is not parsed: the rest of a line or frame, or what waits for the answer."""
        return len(self.reader.buffer)

    def refuse_head(self, bytes_max: int) -> None:
        """End the request, whose head is larger than `bytes_max`: the library bounds lines, not their sum."""
        self.handshake_exc = HeaderLineTooLong(f"the head has more than {bytes_max} bytes")
        text = f"The head of the request has more than {bytes_max} bytes.\n"
        self.send_response(self.reject(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, text))
