"""A socket that offers messages to its listener, and keeps those that the listener wants later.

What the listener does not take at all goes through the library, behind what is kept, so that the order stays.
"""

from abc import abstractmethod
from typing import Any

from websockets.protocol import OPEN

from huahuo.transport.server.batch import Heard
from huahuo.transport.server.listener import Listener
from huahuo.transport.server.lobby_socket import LobbySocket
from huahuo.transport.server.text_frames import as_frames

ACK = b'{"action":"ack"'
_LATER_BYTES_MAX = 256 << 10
"""With more than this, the socket is not read until the listener has taken them."""
_TEXT_BYTES = 48
"""Counted for a message that waits, in addition to its payload."""


class DeferringSocket(LobbySocket):
    """See the module."""

    __slots__ = ("_going_on", "_later", "_later_bytes", "_paused_late")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._later: list[bytes] = []  # complete messages, to be offered again
        self._later_bytes = 0
        self._going_on = False  # they are offered in the loop's next turn
        self._paused_late = False

    def go_on(self) -> None:
        """Offer again, now, what the listener wanted later."""
        self._going_on = False
        texts, self._later, self._later_bytes = self._later, [], 0
        if not texts:  # the peer has ended meanwhile
            return
        self._read_all_kinds()
        listener = self.listener
        if listener is None or self.protocol.state is not OPEN:
            unheard = as_frames(texts)
        else:
            unheard = self._hear(listener, texts)
        self._read_on()  # before the library, which may stop reading in its turn
        if unheard:
            self._through_library(unheard)

    def _offer_texts(self, listener: Listener, texts: list[bytes]) -> bytes:
        """Let the listener handle messages. Returns the frames that are for the library.

        If messages are for the library, so are those that were kept for later.
        """
        if self._later:
            self._defer(listener, texts)
            return b""
        unheard = self._hear(listener, texts)
        return as_frames(self._take_later()) + unheard if unheard else b""

    def _take_later(self) -> list[bytes]:
        texts, self._later, self._later_bytes = self._later, [], 0
        self._read_on()
        return texts

    @abstractmethod
    def _through_library(self, data: bytes) -> None:
        """Let the library read these frames."""

    def _hear(self, listener: Listener, texts: list[bytes]) -> bytes:
        """Let the listener handle messages. Returns as frames those that must be queued in the library."""
        count, then = listener.heard(texts)
        if count == len(texts):
            return b""
        unheard = texts[count:]
        if then is Heard.QUEUE or self.protocol.state is not OPEN:
            return as_frames(unheard)
        self._defer(listener, unheard)
        return b""

    def _defer(self, listener: Listener, texts: list[bytes]) -> None:
        """Keep messages for later, except for acks."""
        for text in texts:
            if not (text.startswith(ACK) and listener.took(text)):
                self._later.append(text)
                self._later_bytes += len(text) + _TEXT_BYTES
        if self._later_bytes > _LATER_BYTES_MAX and not self._paused_late:
            self._paused_late = True
            self.transport.pause_reading()

    def _read_on(self) -> None:
        if self._paused_late and self._later_bytes <= _LATER_BYTES_MAX:
            self._paused_late = False
            if not self.transport.is_closing():
                self.transport.resume_reading()
