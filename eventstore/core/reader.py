"""Reading a log, and walking it from its beginning: the hash chain, and the receipts for pruned events."""

from huahuo.eventstore.core.chain import GENESIS, check, merged
from huahuo.eventstore.core.plain_reader import PlainReader
from huahuo.eventstore.core.receipts import AUDIT_STREAM, Ledger, Receipt, is_receipt, read_receipt
from huahuo.eventstore.errors import Damaged
from huahuo.eventstore.model import (
    LOG_STREAM,
    StoredEvent,
    Tombstone,
)

_VERIFY_EVENTS = 1000
_VERIFY_BYTES = 4 << 20


class LogReader(PlainReader):
    """The reading half of a `Log`."""

    async def verify(self, from_position: int = 0) -> int:
        """Walk the hash chain after `from_position` to the head; returns how many events were checked.

        Raises:
            Damaged: with the first position that is not what was written.
        """
        place = self._place()
        upto, end = place.position, place.chain
        at, chain, seqs = from_position, GENESIS, dict[str, int]()
        if 0 < from_position <= upto:
            [chain] = await self.chains(from_position - 1, from_position)
        while at < upto:
            page = await self._page(at, upto)
            if not page:
                raise Damaged(at + 1, f"missing, the log should go to {upto}")
            chain = check(chain, at, seqs, page)
            at = page[-1].position
        if from_position <= upto and chain != end:
            raise Damaged(upto, "the last event is not the one that was written")
        await self.check_receipts()
        return max(0, upto - from_position)

    async def tombstones(self, after: int, upto: int, limit: int) -> list[Tombstone]:
        """The tombstones at positions in (after, upto], ascending."""
        return await self._read(lambda: self._reads.tombstones(after, upto, limit))

    async def chains(self, after: int, upto: int) -> list[bytes]:
        """The links of the chain at positions in (after, upto], pruned or not.

        Raises:
            Damaged: one is missing.
        """
        return await self._read(lambda: self._reads.chains(after, upto))

    async def receipts(self) -> list[Receipt]:
        """The receipts for pruned events, in the order of the log.

        Raises:
            Damaged: one is not readable.
        """
        found: list[Receipt] = []
        seq, head = 0, self.head(AUDIT_STREAM).seq
        while seq < head:
            page = await self.read(AUDIT_STREAM, seq, events_max=_VERIFY_EVENTS)
            if not page:
                break
            found += [read_receipt(event) for event in page if is_receipt(event)]
            seq = page[-1].seq
        return found

    async def check_receipts(self) -> int:
        """Count the pruned events. Raises Damaged at the first that no receipt vouches for."""
        ledger, at, upto, count = Ledger(await self.receipts()), 0, self.position, 0
        while stones := await self.tombstones(at, upto, _VERIFY_EVENTS):
            for stone in stones:
                ledger.take(stone)
            at, count = stones[-1].position, count + len(stones)
        ledger.finish()
        return count

    async def _page(self, after: int, upto: int) -> list[StoredEvent | Tombstone]:
        """Events and tombstones without a hole between them, if the log has none."""

        def job() -> list[StoredEvent | Tombstone]:
            reads = self._reads
            events = reads.events(LOG_STREAM, after, upto, _VERIFY_EVENTS, _VERIFY_BYTES)
            pruned = reads.tombstones(after, events[-1].position if events else upto, _VERIFY_EVENTS)
            if len(pruned) == _VERIFY_EVENTS:
                events = [event for event in events if event.position < pruned[-1].position]
            return merged(events, pruned)

        return await self._read(job)
