"""A socket that keeps most messages which wait for its reader as bytes.

Texts that came whole, behind a message that the library holds, are read by it only when the reader has taken
those before. The bytes of anything else are for the library at once: a control frame, a fragment or a fault
has its effect when it comes.
"""

from collections.abc import Coroutine
from typing import Any, Final

from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN

from huahuo.transport.server.deferring_socket import DeferringSocket
from huahuo.transport.server.packed_texts import PackedTexts
from huahuo.transport.server.text_frames import as_frames, texts_in

READ_FRAMES_MAX: Final = 4
"""With more messages than this, the socket is not read until no more than a quarter of them wait."""


class QueueingSocket(DeferringSocket):
    """See the module. The texts lie behind all messages that the library holds."""

    __slots__ = ("_packed", "_packed_paused", "_rest", "_whole")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._packed: PackedTexts | None = None
        self._packed_paused = False
        self._rest = b""  # a frame that is not complete, at the end of the bytes
        self._whole = False  # the library holds no partial frame or message

    @property
    def waiting_count(self) -> int:
        """How many whole messages wait for the reader."""
        packed = self._packed
        return len(self.recv_messages.frames) + (0 if packed is None else packed.count)

    def recv(self) -> Coroutine[Any, Any, str | bytes]:  # type: ignore[override]  # as `Socket` has it
        """See `Socket`."""
        packed, frames = self._packed, self.recv_messages.frames
        if packed is not None and not len(frames):
            frames.put(Frame(Opcode.TEXT, packed.take()))
            if not packed.count:
                self._packed = None
            if packed.count <= READ_FRAMES_MAX // 4:
                self._read_behind_packed()
        return super().recv()

    def _pack(self, data: bytes) -> bytes | None:
        """Keep messages that must wait. Returns the bytes that the library is to read now; None: no call."""
        protocol = self.protocol
        if protocol.state is not OPEN:  # the library discards, but still reads if this side alone has closed
            return data if protocol.eof_sent else self._unpacked() + data
        if self.trusted and self._whole and not self.recv_messages.paused:
            texts, end, begun = texts_in(data)
            if (begun or end == len(data)) and self._may_be_so_long(texts):
                if self.waiting_count or not texts:
                    self._keep(texts, data[end:])
                    return None
                self._keep(texts[1:], data[end:])
                return as_frames(texts[:1])
        return self._unpacked() + data

    def _may_be_so_long(self, texts: list[bytes]) -> bool:
        bytes_max = self.protocol.max_message_size
        return bytes_max is None or max(map(len, texts), default=0) <= bytes_max

    def _keep(self, texts: list[bytes], rest: bytes) -> None:
        if rest:
            self._rest = rest
        if texts:
            packed = self._packed = self._packed or PackedTexts()
            packed.add(texts)
            if packed.count >= READ_FRAMES_MAX and not self.transport.is_closing():
                self._packed_paused = True
                self.transport.pause_reading()

    def _unpacked(self) -> bytes:
        packed, self._packed = self._packed, None
        self._read_behind_packed()  # before the library, which may stop reading in its turn
        return b"" if packed is None else as_frames([packed.take() for _ in range(packed.count)])

    def _read_behind_packed(self) -> None:
        if self._packed_paused:
            self._packed_paused = False
            if not self.transport.is_closing():
                self.transport.resume_reading()
