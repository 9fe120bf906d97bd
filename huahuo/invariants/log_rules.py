"""Rules of the log itself: numbers, the hash chain, acks. Pure."""

from huahuo.eventstore.core.chain import GENESIS, relink
from huahuo.eventstore.model import StoredEvent, Tombstone
from huahuo.eventstore.verdict import Ends, Tally, Verdict


class NumbersFollow:
    """I3: positions and the seqs of each stream have no gap and no duplicate, also over pruned events."""

    def __init__(self) -> None:
        self._tally = Tally("I3")
        self._position = 0
        self._seqs: dict[str, int] = {}

    def see(self, one: StoredEvent | Tombstone) -> None:
        """See `Rule`."""
        self._tally.judged += 1
        if one.position != self._position + 1:
            self._tally.wrong(f"position {one.position} follows {self._position}")
        last = self._seqs.get(one.stream, 0)
        if one.seq != last + 1:
            self._tally.wrong(f"{one.stream}: seq {one.seq} follows {last}, at position {one.position}")
        self._position, self._seqs[one.stream] = one.position, one.seq

    def verdict(self, ends: Ends) -> Verdict:
        """See `Rule`."""
        for stream, seq in ends.heads.items():
            if seq != self._seqs.get(stream, 0):
                self._tally.wrong(f"{stream}: the head is {seq}, the last event {self._seqs.get(stream, 0)}")
        return self._tally.verdict("numbers without a gap")


class ChainHolds:
    """I4: each link of the hash chain follows from the event and the link before it."""

    def __init__(self) -> None:
        self._tally = Tally("I4")
        self._chain = GENESIS

    def see(self, one: StoredEvent | Tombstone) -> None:
        """See `Rule`."""
        self._tally.judged += 1
        if isinstance(one, StoredEvent) and relink(self._chain, one) != one.chain:
            self._tally.wrong(f"position {one.position} is not what was written")
        self._chain = one.chain

    def verdict(self, ends: Ends) -> Verdict:
        """See `Rule`."""
        del ends
        return self._tally.verdict("links of the hash chain")


class AcksWithinStreams:
    """I9: no stored ack is beyond the last event of its stream."""

    def __init__(self) -> None:
        self._tally = Tally("I9")
        self._seqs: dict[str, int] = {}

    def see(self, one: StoredEvent | Tombstone) -> None:
        """See `Rule`."""
        self._seqs[one.stream] = one.seq

    def verdict(self, ends: Ends) -> Verdict:
        """See `Rule`."""
        for ack in ends.acks:
            self._tally.judged += 1
            if ack.seq > self._seqs.get(ack.stream, 0):
                head = self._seqs.get(ack.stream, 0)
                self._tally.wrong(f"{ack.user} acknowledged {ack.seq} of {ack.stream}, which ends at {head}")
        return self._tally.verdict("acks within their streams")
