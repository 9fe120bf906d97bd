"""The hash chain over the log: it reveals lost or rewritten history, which a sync alone cannot.

    chain[0] = 32 zero bytes
    chain[p] = BLAKE2b-256( chain[p-1] || MessagePack([position, stream, seq, type, body, version,
                            ts_ms, entity, principal, command_id, cause, build]) )

with `p` the position and the array in exactly this order: integers in MessagePack's shortest form,
texts as `str`, the body as `bin`. Every stored column is covered, names as text and not as the
engine's own row numbers, so that all engines give the same chain for the same history.

The link of a pruned event stays, so that the chain continues after it. A receipt in the chain
(`huahuo.eventstore.core.reader`) proves that it was pruned on purpose.
"""

from collections.abc import Iterable
from hashlib import blake2b

import msgspec

from huahuo.eventstore.errors import Damaged
from huahuo.eventstore.model import StoredEvent, Tombstone

GENESIS = bytes(32)
"""The chain before the first event."""

CHECK_BYTES = 8
"""A client keeps this many bytes of a link: two histories agree in them by chance once in 2^64."""

type Facts = tuple[int, str, int, str, bytes, int, int, str, str, str, int, str]
"""Position, stream, seq, type, body, version, ts_ms, entity, principal, command_id, cause, build."""

_encode = msgspec.msgpack.Encoder().encode
_blank = blake2b(digest_size=32).copy
"""Copying a fresh hash costs less than making one with its parameters."""


def link(before: bytes, facts: Facts) -> bytes:
    """The chain after an event, from the chain `before` it.

    Raises:
        UnicodeEncodeError: a text holds a lone surrogate.
    """
    hashed = _blank()
    hashed.update(before + _encode(facts))  # a second call would cost more than the copy
    return hashed.digest()


def check_of(linked: bytes) -> str:
    """The check of an event, from its link: 16 hex digits that depend on the whole log up to that event."""
    return linked[:CHECK_BYTES].hex()


def relink(before: bytes, event: StoredEvent) -> bytes:
    """The chain that `event` must carry if `before` is the chain of the event before it."""
    return link(
        before,
        (
            event.position,
            event.stream,
            event.seq,
            event.type,
            event.body,
            event.version,
            event.ts_ms,
            event.entity,
            event.principal,
            event.command_id,
            event.cause,
            event.build,
        ),
    )


def check(
    before: bytes, after: int, seqs: dict[str, int], events: Iterable[StoredEvent | Tombstone]
) -> bytes:
    """Walk `events`, which must follow position `after`, and return the chain of the last one.

    `seqs` holds the last seq met in each stream; it is updated.

    Raises:
        Damaged: a position or a seq is missing, or an event is not what was written.
    """
    chain, position = before, after
    for event in events:
        position += 1
        if event.position != position:
            raise Damaged(position, f"missing, the next event stands at {event.position}")
        known = seqs.get(event.stream)
        if known is not None and event.seq != known + 1:
            raise Damaged(position, f"{event.stream} goes from seq {known} to {event.seq}")
        if isinstance(event, StoredEvent) and relink(chain, event) != event.chain:
            raise Damaged(position, "the event does not fit its hash")
        chain = event.chain
        seqs[event.stream] = event.seq
    return chain


def merged(events: list[StoredEvent], pruned: list[Tombstone]) -> list[StoredEvent | Tombstone]:
    """Both by ascending position."""
    if not pruned:
        return [*events]
    return sorted([*events, *pruned], key=lambda one: one.position)
