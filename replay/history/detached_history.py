"""Histories apart from their log: exported as JSON, and forked. Pure; nothing is written.

An export in JSON Lines begins with a header. One line per event follows, ascending by position:

    {"huahuo_export":1,"log":"a7c1…","position":1055}
    {"position":1,"stream":"user/42","seq":1,"type":…,"ts_ms":…,"data":{…},"chain":"…", …}

A fork is a history with events left out, changed or added, and renumbered. It has its own numbers and its
own hash chain, so it can be read like any history. It does not guess what deciders would have done
differently: it shows what the *folds* compute from the edited events.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from huahuo.eventstore.ambient import rfc3339
from huahuo.eventstore.core.chain import GENESIS, relink
from huahuo.eventstore.errors import Damaged
from huahuo.eventstore.model import StoredEvent
from huahuo.replay.history.conditions import Path

FORMAT: Final = 1
LINE_BYTES_MAX: Final = 4 << 20


class Header(msgspec.Struct, frozen=True):
    """The first line: the id of the log and its position at the export."""

    huahuo_export: int
    log: str
    position: int


class Line(msgspec.Struct, frozen=True):
    """One event. `timestamp` and `sealed` are for readers and can be computed from the rest.

    `data` is the stored body, byte for byte, so that the hash chain can be checked.
    """

    position: int
    stream: str
    seq: int
    type: str
    ts_ms: int
    data: msgspec.Raw
    version: int = 1
    entity: str = ""
    principal: str = ""
    command_id: str = ""
    cause: int = 0
    build: str = ""
    chain: str = ""
    timestamp: str = ""
    sealed: dict[str, str] | None = None


def header(log_id: str, position: int) -> bytes:
    """The first line of an export."""
    return msgspec.json.encode(Header(FORMAT, log_id, position))


def line(event: StoredEvent, sealed: Iterable[str] = ()) -> bytes:
    """The line of one event. `sealed` names the secrets that were sealed with it."""
    names = dict.fromkeys(sealed, "[sealed]")
    return msgspec.json.encode(
        Line(
            position=event.position,
            stream=event.stream,
            seq=event.seq,
            type=event.type,
            ts_ms=event.ts_ms,
            data=msgspec.Raw(event.body),
            version=event.version,
            entity=event.entity,
            principal=event.principal,
            command_id=event.command_id,
            cause=event.cause,
            build=event.build,
            chain=event.chain.hex(),
            timestamp=rfc3339(event.ts_ms),
            sealed=names or None,
        )
    )


def plain(event: StoredEvent, sealed: Iterable[str] = ()) -> dict[str, Any]:
    """An event as a JSON object for people and scripts, without the hash and empty fields."""
    shown: dict[str, Any] = {
        "position": event.position,
        "stream": event.stream,
        "seq": event.seq,
        "type": event.type,
        "timestamp": rfc3339(event.ts_ms),
        "entity": event.entity,
        "principal": event.principal,
        "command_id": event.command_id,
        "cause": event.cause or None,
        "build": event.build,
        "data": msgspec.json.decode(event.body),
    }
    names = dict.fromkeys(sealed, "[sealed]")
    return shown | ({"sealed": names} if names else {})


def parse_lines(lines: Iterable[bytes]) -> tuple[Header, Iterator[StoredEvent]]:
    """The header and the events of an export. Events are read lazily.

    Raises:
        ValueError: it is not an export. Damaged (while reading): a line is malformed or out of order.
    """
    source = iter(lines)
    first = next(source, b"")
    try:
        head = msgspec.json.decode(first, type=Header)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise ValueError("not an export: its first line does not say so") from None
    if head.huahuo_export != FORMAT:
        raise ValueError(
            f"an export of format {head.huahuo_export}, and this program knows {FORMAT}: update huahuo"
        )
    return head, _events_of_lines(source)


def _events_of_lines(lines: Iterator[bytes]) -> Iterator[StoredEvent]:
    position = 0
    seqs: dict[str, int] = {}
    for text in lines:
        if not text.strip():
            continue
        event = _event_of_line(text, position)
        if event.position <= position or event.seq <= seqs.get(event.stream, 0):
            raise Damaged(event.position, "out of order")
        position = event.position
        seqs[event.stream] = event.seq
        yield event


def _event_of_line(text: bytes, after: int) -> StoredEvent:
    if len(text) > LINE_BYTES_MAX:
        raise Damaged(after + 1, f"a line of more than {LINE_BYTES_MAX} bytes")
    try:
        held = msgspec.json.decode(text, type=Line)
        chain = bytes.fromhex(held.chain)
        msgspec.json.decode(held.data, type=dict[str, msgspec.Raw])
    except ValueError:
        raise Damaged(after + 1, "the line is not an event") from None
    return StoredEvent(
        held.position,
        held.stream,
        held.seq,
        held.type,
        bytes(held.data),
        held.version,
        held.ts_ms,
        held.entity,
        held.principal,
        held.command_id,
        held.cause,
        held.build,
        chain,
    )


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
                changed = _with_put(changed, put)
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
    return next(
        (n for n, (left, right) in pairs if _as_told(left) != _as_told(right)), min(len(one), len(other))
    )


def _as_told(event: StoredEvent) -> tuple[str, int, str, bytes]:
    return event.type, event.version, event.entity, event.body


def _with_put(event: StoredEvent, put: Put) -> StoredEvent:
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
