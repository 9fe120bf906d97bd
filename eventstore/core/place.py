"""Where a log stands: `Loaded` is what a start reads from the disk, `Place` what the log keeps in memory."""

from collections import OrderedDict

import msgspec

from huahuo.eventstore.core.ages import AgeNote
from huahuo.eventstore.core.changes import Passed
from huahuo.eventstore.core.packed_heads import UNPACKED_MAX, NothingPacked, Packed
from huahuo.eventstore.model import Head

NOTHING_PACKED: Packed = NothingPacked()


class Loaded(msgspec.Struct, frozen=True):
    """The durable state of a log; `counters` maps a counter to its next number.

    `heads` and `packed` have the streams that have not ended. A counter that is not in `counters` begins at
    `first_number`. `age` is the last note of the clock of the command records, None if there is none.
    `shared` and `passed`: what the last `PutPassed` wrote, and the newest `PASSED_KEPT`; empty for a log that
    is no replica.
    """

    log_id: str
    position: int
    chain: bytes
    heads: dict[str, Head]
    counters: dict[str, int]
    first_number: int = 1
    age: AgeNote | None = None
    shared: bytes = b""
    passed: tuple[Passed, ...] = ()
    packed: Packed = NOTHING_PACKED

    def place(self) -> "Place":
        """Where a log begins that was loaded so."""
        return Place(self.position, self.chain, self.heads, self.packed)


class Place(msgspec.Struct):
    """The state of the log in memory. The writer changes it only on the loop, and while no commit runs.

    A reader may unpack a head and fill in its missing link at any time, because no commit depends on it: a
    head that it takes from `packed` stays there, too.
    """

    position: int
    chain: bytes
    heads: dict[str, Head]
    """Of all streams that are not packed, and of those that were written to lately, or asked for a link."""
    packed: Packed = NOTHING_PACKED
    unpacked: OrderedDict[str, None] = msgspec.field(default_factory=OrderedDict)
    """The streams that are in both; what `heads` says is newer."""

    def head(self, stream: str) -> Head | None:
        """The head of a stream that has one and did not end."""
        head = self.heads.get(stream)
        return self.packed.head(stream) if head is None else head

    def unpack(self, stream: str) -> Head | None:
        """As `head`; one that is packed becomes an entry of `heads`."""
        head = self.heads.get(stream)
        if head is None and (head := self.packed.head(stream)) is not None:
            self.heads[stream] = head
            self.unpacked[stream] = None
        return head

    def look(self, stream: str) -> Head | None:
        """As `unpack`, for somebody who may append to it next, as long as there is room."""
        return self.unpack(stream) if len(self.unpacked) < UNPACKED_MAX else self.head(stream)

    def pack(self) -> None:
        """Pack the heads that were unpacked first, where those are many."""
        while len(self.unpacked) > UNPACKED_MAX:
            stream, _ = self.unpacked.popitem(last=False)
            if self.packed.put(stream, self.heads[stream]):
                del self.heads[stream]
            else:
                self.packed.drop(stream)

    def end(self, stream: str) -> None:
        """Forget a stream that ended."""
        self.heads.pop(stream, None)
        self.unpacked.pop(stream, None)
        self.packed.drop(stream)

    def streams(self, prefix: str) -> set[str]:
        """The streams that begin with `prefix`, have an event and did not end."""
        found = {name for name, head in self.heads.items() if head.seq and name.startswith(prefix)}
        return found.union(self.packed.streams(prefix))

    @property
    def count(self) -> int:
        """How many streams have a head here."""
        return len(self.heads) + len(self.packed) - len(self.unpacked)
