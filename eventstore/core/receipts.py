"""Receipts: how the log vouches for the events that were pruned from it. Pure.

A pruned event leaves a tombstone: its place and its link of the chain. A receipt, an event of the log
itself, states that it was pruned on purpose: it holds the positions, and a digest of their tombstones.
To remove an event unnoticed, an attacker would have to forge a receipt, which breaks the chain.

    digest = BLAKE2b-256( MessagePack([position, stream, seq, chain]) of each tombstone, ascending )
"""

from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import pairwise

import msgspec

from huahuo.eventstore.ambient import json_bytes, rfc3339
from huahuo.eventstore.errors import Damaged
from huahuo.eventstore.model import NewEvent, StoredEvent, Tombstone

AUDIT_STREAM = "audit"
"""The stream of operations on the log itself; only readers of `log` see it."""

COMPACTED = "compacted"


class Receipt(msgspec.Struct, frozen=True):
    """The body of a `compacted` event: `ranges` holds [first position, count] pairs, ascending."""

    ranges: list[tuple[int, int]]
    digest: str

    def positions(self) -> Iterator[int]:
        """Every position that it covers."""
        for first, count in self.ranges:
            yield from range(first, first + count)


def receipt(tombstones: Sequence[Tombstone], policy: dict[str, object], now_ms: int) -> NewEvent:
    """The event that vouches for `tombstones`, which are ascending; `policy` says why they were pruned."""
    body = {
        "type": COMPACTED,
        "timestamp": rfc3339(now_ms),
        "pruned": len(tombstones),
        "policy": policy,
        "ranges": _ranges([stone.position for stone in tombstones]),
        "digest": _digest(tombstones),
    }
    return NewEvent(AUDIT_STREAM, COMPACTED, json_bytes(body))


def is_receipt(event: StoredEvent) -> bool:
    """Whether `event` vouches for pruned ones."""
    return event.stream == AUDIT_STREAM and event.type == COMPACTED


def read_receipt(event: StoredEvent) -> Receipt:
    """The receipt in an event.

    Raises:
        Damaged: it is not readable.
    """
    try:
        return msgspec.json.decode(event.body, type=Receipt)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Damaged(event.position, "a receipt of pruned events is not readable") from None


class Ledger:
    """Checks the tombstones of a log against its receipts: `take` each, ascending, then `finish`."""

    def __init__(self, receipts: Sequence[Receipt]) -> None:
        self._receipts = receipts
        self._digests = [blake2b(digest_size=32) for _ in receipts]
        self._covered = self._positions()

    def take(self, stone: Tombstone) -> None:
        """Raises Damaged if no receipt covers `stone`, or a covered position before it was skipped."""
        position, number = next(self._covered, (1 << 63, 0))
        if stone.position < position:
            raise Damaged(stone.position, "the event was taken away: no receipt vouches for its pruning")
        if stone.position > position:
            raise Damaged(position, "pruned with a receipt, but its tombstone is missing")
        _digest_one(self._digests[number], stone)

    def finish(self) -> None:
        """Raises Damaged if a tombstone is missing or is not what its receipt says."""
        missing = next(self._covered, None)
        if missing is not None:
            raise Damaged(missing[0], "pruned with a receipt, but its tombstone is missing")
        for one, digest in zip(self._receipts, self._digests, strict=True):
            if digest.hexdigest() != one.digest:
                raise Damaged(one.ranges[0][0], "the tombstones are not those of their receipt")

    def _positions(self) -> Iterator[tuple[int, int]]:
        """Every covered position, ascending, with the number of its receipt."""
        ranges = sorted(
            (first, count, number) for number, one in enumerate(self._receipts) for first, count in one.ranges
        )
        for first, count, number in ranges:
            for position in range(first, first + count):
                yield position, number


def _digest(tombstones: Iterable[Tombstone]) -> str:
    digest = blake2b(digest_size=32)
    for stone in tombstones:
        _digest_one(digest, stone)
    return digest.hexdigest()


def _digest_one(digest: blake2b, stone: Tombstone) -> None:
    digest.update(msgspec.msgpack.encode((stone.position, stone.stream, stone.seq, stone.chain)))


def _ranges(positions: Sequence[int]) -> list[tuple[int, int]]:
    starts = [positions[0], *(b for a, b in pairwise(positions) if b != a + 1)]
    ends = [*(a for a, b in pairwise(positions) if b != a + 1), positions[-1]]
    return [(start, end - start + 1) for start, end in zip(starts, ends, strict=True)]
