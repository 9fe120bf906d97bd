"""What if: a history with events left out, changed or added, and renumbered. Pure; nothing is written.

A fork has its own numbers and its own hash chain, so it can be read like any history. It does not guess what
deciders would have done differently: it shows what the *folds* compute from the edited events.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from huahuo.eventstore.ambient import rfc3339
from huahuo.eventstore.core.chain import GENESIS, relink
from huahuo.eventstore.model import StoredEvent
from huahuo.replay.history.delta import Path

type Where = tuple[str, int]
"""(stream, seq) of an event, or (`log`, position)."""


class Skip(msgspec.Struct, frozen=True):
    """Leave this event out."""

    where: Where


class Put(msgspec.Struct, frozen=True):
    """Replace a field of this event's body."""

    where: Where
    path: Path
    value: Any


class Add(msgspec.Struct, frozen=True):
    """Add an event after all others."""

    stream: str
    type: str
    fields: dict[str, Any]
    entity: str = ""


type Edit = Skip | Put | Add


def fork(events: Sequence[StoredEvent], edits: Sequence[Edit]) -> list[StoredEvent]:
    """The events with the edits applied.

    Raises:
        LookupError: an edit names an event that does not exist. ValueError: a path is not in its body.
    """
    skipped = {edit.where for edit in edits if isinstance(edit, Skip)}
    puts: dict[Where, list[Put]] = {}
    for edit in edits:
        if isinstance(edit, Put):
            puts.setdefault(edit.where, []).append(edit)
    left = skipped | puts.keys()
    kept: list[StoredEvent] = []
    for event in events:
        names = {(event.stream, event.seq), ("log", event.position)}
        left -= names
        if names & skipped:
            continue
        changed = event
        for name in names & puts.keys():
            for put in puts[name]:
                changed = _put(changed, put)
        kept.append(changed)
    if left:
        stream, number = min(left)
        raise LookupError(f"there is no event {stream}#{number} to skip or set")
    now_ms = events[-1].ts_ms if events else 0
    kept += [_added(edit, now_ms) for edit in edits if isinstance(edit, Add)]
    return renumbered(kept)


def renumbered(events: Sequence[StoredEvent]) -> list[StoredEvent]:
    """Number positions and seqs from 1 without a gap, map the causes, and compute the hash chain anew.

    An event with position 0 is new, so no other event names it as its cause.
    """
    positions: dict[int, int] = {}
    seqs: dict[str, int] = {}
    chain = GENESIS
    done: list[StoredEvent] = []
    for position, event in enumerate(events, start=1):
        seq = seqs[event.stream] = seqs.get(event.stream, 0) + 1
        if event.position:
            positions[event.position] = position
        moved = msgspec.structs.replace(
            event, position=position, seq=seq, cause=positions.get(event.cause, 0) if event.cause else 0
        )
        chain = relink(chain, moved)
        done.append(msgspec.structs.replace(moved, chain=chain))
    return done


class Apart(NamedTuple):
    """The events of a stream between what two runs of it begin and end with alike."""

    one: list[StoredEvent]
    other: list[StoredEvent]


def apart(one: Sequence[StoredEvent], other: Sequence[StoredEvent]) -> dict[str, Apart]:
    """The streams in which two runs differ.

    Type, version, entity and body are compared. Times, numbers and the order between streams are not.
    """
    held: dict[str, Apart] = {}
    for run, events in enumerate((one, other)):
        for event in events:
            held.setdefault(event.stream, Apart([], []))[run].append(event)
    found: dict[str, Apart] = {}
    for stream, both in held.items():
        begin = _alike(*both)
        left, right = both.one[begin:], both.other[begin:]
        end = _alike(left[::-1], right[::-1])
        if left or right:
            found[stream] = Apart(left[: len(left) - end], right[: len(right) - end])
    return found


def _alike(one: Sequence[StoredEvent], other: Sequence[StoredEvent]) -> int:
    """How many events both begin with."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((n for n, (left, right) in pairs if _told(left) != _told(right)), min(len(one), len(other)))


def _told(event: StoredEvent) -> tuple[str, int, str, bytes]:
    return event.type, event.version, event.entity, event.body


def _put(event: StoredEvent, put: Put) -> StoredEvent:
    body = msgspec.json.decode(event.body, type=dict[str, Any])
    inside: Any = body
    for step in put.path[:-1]:
        inside = inside.get(step) if isinstance(inside, dict) else None
    if not isinstance(inside, dict):
        raise ValueError(f"the body of {event.stream}#{event.seq} has no {'.'.join(put.path[:-1])}")  # noqa: TRY004
    inside[put.path[-1]] = put.value
    return msgspec.structs.replace(event, body=msgspec.json.encode(body))


def _added(add: Add, now_ms: int) -> StoredEvent:
    body = {"type": add.type, "timestamp": rfc3339(now_ms)} | add.fields
    return StoredEvent(
        0,
        add.stream,
        0,
        add.type,
        msgspec.json.encode(body),
        1,
        now_ms,
        add.entity,
        "fork",
        "",
        0,
        "fork",
        b"",
    )
