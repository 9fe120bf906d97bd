"""Rot on the disk of a run that is over: each event comes as it was written, or is refused (I28)."""

from collections.abc import Sequence
from random import Random
from typing import Final

from huahuo.eventstore.core.reader import LogReader
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.model import LOG_STREAM, StoredEvent
from tests.support.simulator.node import Node

BLOCK: Final = 512
PAGE: Final = 4096
READS_MAX: Final = 60
HOWS: Final = ("bits", "zeros", "swapped", "stale")


def damaged(data: bytes, chance: Random) -> bytes:
    """The bytes after rot: bits that turned, a block of zeros, two pages swapped, or one twice."""
    rotten = bytearray(data)
    at = chance.randrange(len(data))
    match chance.choice(HOWS):
        case "bits":
            for _ in range(chance.randint(1, 8)):
                rotten[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        case "zeros":
            end = min(len(data), at + BLOCK)
            rotten[at:end] = bytes(end - at)
        case how:
            first, second = (chance.randrange(1 + len(data) // PAGE) * PAGE for _ in range(2))
            one, other = data[first : first + PAGE], data[second : second + PAGE]
            size = min(len(one), len(other))
            rotten[first : first + size] = other[:size]
            if how == "swapped":
                rotten[second : second + size] = one[:size]
    return bytes(rotten)


async def read_beside_rot(
    node: Node, events: Sequence[StoredEvent], chance: Random
) -> list[tuple[str, bytes, bytes | None]]:
    """(place, what was written, what is served; None: refused) of some events, with rot on the disk."""
    some = sorted(chance.sample(range(len(events)), min(READS_MAX, len(events))))
    try:
        log = await node.log_of(lambda data: damaged(data, chance))
    except EventStoreError:
        return [(f"event {events[at].position}", _written(events[at]), None) for at in some]
    try:
        return [
            (f"event {event.position}", _written(event), await _served(log, event.position))
            for event in (events[at] for at in some)
        ]
    finally:
        await log.close()


async def _served(log: LogReader, position: int) -> bytes | None:
    try:
        found = await log.read(LOG_STREAM, position - 1, events_max=1, bytes_max=1 << 20)
    except EventStoreError:
        return None
    return _written(found[0]) if found and found[0].position == position else None


def _written(event: StoredEvent) -> bytes:
    return f"{event.stream} {event.seq} {event.type} ".encode() + event.body
