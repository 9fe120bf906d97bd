"""What the clockwork heard of the log while it read a page of timers: at which head each of them is pending.

A row that was read was pending at some moment of the reading. If no event of that entity's timers came
meanwhile, it is pending at the present head. Else it was pending at a head from that before the first such
event on, and an entity that knows all changes since then (`known`) knows whether it still is. So the entity
need not read its timers to be sure. Should a commit be on its way, the head will move, and the append of a
firing expects the head: nothing fires twice.
"""

from collections.abc import Sequence

from msgspec.structs import replace

from huahuo.actors.timers.timer import STREAMS, Due
from huahuo.eventstore.model import StoredEvent
from huahuo.eventstore.port import Log


class Heard:
    """See the module. A lost signal of the log certifies nothing until the next page."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._position = log.position
        self._streams: dict[str, int] = {}
        """The head of each stream before the first event that came."""
        self._whole = False

    def hear(self, events: Sequence[StoredEvent], timers: Sequence[StoredEvent]) -> None:
        """Events of a commit, and those of timers among them."""
        self._whole &= events[0].position == self._position + 1
        self._position = events[-1].position
        streams = self._streams
        for event in timers:
            if event.stream not in streams:
                streams[event.stream] = event.seq - 1

    def begin(self) -> None:
        """A page is read from now on."""
        self._streams.clear()
        self._position = self._log.position
        self._whole = True

    def certified(self, page: list[Due]) -> list[Due]:
        """The timers of the page that came, with the heads at which they are pending, if that is sure."""
        if not self._whole or self._position != self._log.position:
            return page
        head_of, streams = self._log.head, self._streams
        certified: list[Due] = []
        for due in page:
            timer = due[1]
            stream = STREAMS + timer.entity
            head = streams.get(stream) if streams else None
            if head is None:
                head = head_of(stream).seq
            certified.append(due if timer.seq >= head else (due[0], replace(timer, seq=head)))
        return certified
