"""A socket that is read by `ack_reader` while its client sends nothing but acks that are alike."""

from typing import Any

from huahuo.transport.server.ack_reader import AckReader
from huahuo.transport.server.listener import TakesAcks
from huahuo.transport.server.writing_socket import WritingSocket

_ALIKE_MIN = 2
_ALIKE_AGAIN = 8
"""A socket changes its reader after this many acks, since that costs some system calls (16 µs to and fro). If
it did before, the second number counts. So a few acks between a client's other messages do not cause it."""


class AckingSocket(WritingSocket):
    """See the module. The transport of a socket that is read there does not read."""

    __slots__ = ("_ack_reader", "_alike", "_alike_min", "_place", "_quick_acks")

    def __init__(self, *args: Any, ack_reader: AckReader, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._quick_acks: TakesAcks | None = None  # the last bytes were an ack, and the library holds none
        self._alike = 0  # how many acks `_quick_acks` has taken
        self._alike_min = _ALIKE_MIN
        self._ack_reader = ack_reader
        self._place = -1  # where it is read there, or -1

    def _read_acks(self, quick_acks: TakesAcks) -> None:
        """`quick_acks` has taken an ack. If these were some, let the ack reader read this socket."""
        self._alike += 1
        if self._alike < self._alike_min or self._descriptor < 0:
            return
        self._alike, self._alike_min = 0, _ALIKE_AGAIN
        self._place = self._ack_reader.admit(self, quick_acks, self._descriptor)
        if self._place >= 0:
            self.transport.pause_reading()

    def _read_all_kinds(self) -> None:
        """What comes or is sent may be anything: it goes the longer ways, and the transport reads."""
        self._quick_acks, self._alike = None, 0
        self.read_by_transport()

    def read_by_transport(self) -> None:
        """See `ack_reader.Readable`."""
        if self._place >= 0:
            self._ack_reader.dismiss(self._place)
            self._place = -1
            if not self.transport.is_closing():
                self.transport.resume_reading()

    def handed(self, data: bytes) -> None:
        """See `ack_reader.Readable`. A transport that is being closed would not have read them."""
        if not self.transport.is_closing():
            self.data_received(data)
