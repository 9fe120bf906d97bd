"""Translates a decision into an append, and the outcome into an answer. Pure."""

from collections.abc import Mapping
from typing import Any

from huahuo.actors.entities.decider import Answer, Decision, Origin
from huahuo.eventstore.model import Append, Appended, CommandRecord


def writes(decision: Decision[Any, Any], origin: Origin) -> bool:
    """Whether the decision writes anything to the log."""
    return bool(
        decision.events
        or (origin.key is not None and decision.record is not None)
        or decision.rows
        or decision.blobs
        or decision.drop_blobs
        or decision.secrets
        or decision.drop_secrets
        or decision.shred
    )


def append_of(decision: Decision[Any, Any], origin: Origin, now_ms: int, guard: Mapping[str, int]) -> Append:
    """The one append of a decision. `guard` is added to the decision's own expectations."""
    record = None
    if origin.key is not None and decision.record is not None:
        record = CommandRecord(origin.key, origin.fingerprint, decision.record, decision.at_stream)
    return Append(
        ts_ms=now_ms,
        events=decision.events,
        expected={**decision.expected, **guard},
        command=record,
        principal=origin.principal,
        command_id=origin.command_id,
        cause=origin.cause,
        rows=decision.rows,
        blobs=decision.blobs,
        drop_blobs=decision.drop_blobs,
        secrets=decision.secrets,
        drop_secrets=decision.drop_secrets,
        shred=decision.shred,
        owner=decision.owner,
    )


def answer_of(decision: Decision[Any, Any], outcome: Appended) -> Answer[Any]:
    """The answer to a first execution."""
    seq = outcome.seq_of(decision.at_stream)
    return Answer(
        reply=decision.reply,
        at=(decision.at_stream, seq) if seq else None,
        position=outcome.position,
    )


def repeated(record: CommandRecord) -> Answer[Any]:
    """The answer to a command that was executed before."""
    at = (record.at_stream, record.at_seq) if record.at_stream and record.at_seq else None
    return Answer(reply=None, at=at, duplicate=record)
