"""Events as JSON objects and back: the output of `--json` and the lines of an export. Pure.

An export in JSON Lines begins with a header. One line per event follows, ascending by position:

    {"huahuo_export":1,"log":"a7c1…","position":1055}
    {"position":1,"stream":"user/42","seq":1,"type":…,"ts_ms":…,"data":{…},"chain":"…", …}
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from huahuo.eventstore.ambient import rfc3339
from huahuo.eventstore.errors import Damaged
from huahuo.eventstore.model import StoredEvent

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
    return head, _events(source)


def _events(lines: Iterator[bytes]) -> Iterator[StoredEvent]:
    position = 0
    seqs: dict[str, int] = {}
    for text in lines:
        if not text.strip():
            continue
        event = _event(text, position)
        if event.position <= position or event.seq <= seqs.get(event.stream, 0):
            raise Damaged(event.position, "out of order")
        position = event.position
        seqs[event.stream] = event.seq
        yield event


def _event(text: bytes, after: int) -> StoredEvent:
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
