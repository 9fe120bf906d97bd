"""Events that one command writes, in one commit with the command's answer."""

from typing import Any

from huahuo.actors.plugins.calls import Call, Reply, from_record
from huahuo.eventstore.ambient import json_bytes
from huahuo.eventstore.model import Append, CommandRecord, Duplicate, NewEvent
from huahuo.eventstore.port import Log


async def append_recorded(
    log: Log,
    call: Call[Any],
    *events: NewEvent,
    now_ms: int,
    done: str,
    shred: tuple[str, ...] = (),
) -> Reply:
    """Append `events` and answer `done` with the last one's place; a repeat gets the first answer.

    Raises:
        EventStoreError: as `Log.append`.
    """
    body = json_bytes({"type": "success", "message": done})
    record = None
    if call.key is not None:
        record = CommandRecord(call.key, call.fingerprint, body, events[-1].stream)
    written = await log.append(
        Append(
            ts_ms=now_ms,
            events=events,
            command=record,
            principal=call.principal.name,
            command_id=call.command_id,
            shred=shred,
        )
    )
    if isinstance(written, Duplicate):
        return from_record(written.command)
    at = (events[-1].stream, written.seq_of(events[-1].stream))
    return Reply(body=body, at=at, recorded=record is not None)
