"""The library's server protocol, which says something more before it closes because of a large message."""

from collections.abc import Sequence

from websockets.frames import CloseCode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol


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
