"""The answers of commands: refusals, what a fault is answered with, what is recorded of an answer. Pure."""

from collections.abc import Awaitable
from typing import Any, Final

import msgspec
import structlog

from huahuo.actors.actor.errors import HandlerCancelled, InboxFull
from huahuo.actors.domain.errors import Fault
from huahuo.actors.entities.errors import Busy, Degraded
from huahuo.actors.plugins.actions import OneAppend
from huahuo.actors.plugins.calls import BUSY_RETRY_S, Call, Refusal, Reply, error_reply, from_record
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.errors import (
    Closed,
    CommandMismatch,
    Conflict,
    Corrupt,
    QueueFull,
    TooLarge,
    Unavailable,
)
from huahuo.eventstore.model import Append, Appended, CommandRecord, Duplicate
from huahuo.transport.protocol.codes import ErrorCode
from huahuo.transport.words import en, zh

_log = structlog.get_logger(__name__)
_ERROR: Final = b'{"type":"error"'

BUSY = Refusal(ErrorCode.BUSY, zh.BUSY, retry_s=BUSY_RETRY_S)
_UNAVAILABLE = Refusal(ErrorCode.UNAVAILABLE, zh.OUTCOME_UNKNOWN)
BEHIND = Refusal(ErrorCode.UNAVAILABLE, zh.NODE_BEHIND, retry_s=BUSY_RETRY_S)
_CORRUPT = Refusal(ErrorCode.CORRUPT, zh.CORRUPT)
UNKNOWN = Refusal(ErrorCode.UNKNOWN_ACTION, zh.NO_SUCH_ACTION)
MISMATCH = Refusal(ErrorCode.INVALID_FIELD, zh.ID_IN_USE, f"id: {en.USED_BEFORE}")
_TOO_LARGE = Refusal(ErrorCode.TOO_LARGE, zh.CONTENT_TOO_LARGE)
_FORBIDDEN = Refusal(ErrorCode.FORBIDDEN, zh.ADMINS_ONLY)
_KEY_FORBIDDEN = Refusal(ErrorCode.FORBIDDEN, zh.NO_RIGHT_OF_KEY)


class _Code(msgspec.Struct):
    code: str


def outcome_of(reply: Reply) -> str:
    """`duplicate`, the code of an error, or `ok`."""
    if reply.duplicate:
        return "duplicate"
    return error_code(reply) or "ok"


def error_code(reply: Reply) -> str:
    """The code of a reply made by `error_reply`, else "". Large answers are not decoded."""
    return msgspec.json.decode(reply.body, type=_Code).code if reply.body.startswith(_ERROR) else ""


def refusal_of(error: BaseException) -> Refusal | None:
    """The refusal for an exception that says how things are. None: it is a fault."""
    match error:
        case CommandMismatch():
            return MISMATCH
        case TooLarge():
            return _TOO_LARGE
        case Corrupt():
            return _CORRUPT
        case Unavailable() | Closed() | Degraded() | HandlerCancelled():
            return _UNAVAILABLE
        case TimeoutError() | Busy() | InboxFull() | QueueFull() | Conflict():
            return BUSY
    return None


def fault(call: Call[Any], error: BaseException, ambient: Ambient) -> Reply:
    """The answer for an exception of a handler or of the log. No text of it reaches the client but `told`."""
    if (refusal := refusal_of(error)) is not None:
        return error_reply(refusal)
    correlation_id = ambient.token(8)
    _log.error(
        "command_failed",
        action=call.action,
        command_id=call.command_id,
        principal=call.principal.name,
        correlation_id=correlation_id,
        exc_info=error,
    )
    told = f": {error.told}" if isinstance(error, Fault) and error.told else ""
    return error_reply(Refusal(ErrorCode.INTERNAL, zh.INTERNAL, correlation_id + told))


def append_of(call: Call[Any], one: OneAppend) -> Append:
    """The commit of a command: its events, and its answer if the command has an id."""
    record = None
    if call.key is not None:
        record = CommandRecord(call.key, call.fingerprint, one.body, one.events[-1].stream)
    return Append(
        ts_ms=one.ts_ms,
        events=one.events,
        command=record,
        principal=call.user,
        command_id=call.command_id,
        shred=one.shred,
    )


def forbidden(call: Call[Any]) -> Reply:
    """The refusal of a command that the principal may not send."""
    return error_reply(_FORBIDDEN if call.principal.rights is None else _KEY_FORBIDDEN)


def recorded(written: Appended | Duplicate, reply: Reply) -> Reply:
    """The answer after its record was appended: an earlier one counts, if there is one."""
    return from_record(written.command) if isinstance(written, Duplicate) else reply


def repeated(call: Call[Any], record: CommandRecord) -> Reply:
    """The answer to a command whose id has this record."""
    return from_record(record) if record.fingerprint == call.fingerprint else error_reply(MISMATCH)


async def answer_of(work: Awaitable[Reply] | OneAppend | Reply) -> Reply:
    """What a handler answers that appends nothing by way of `OneAppend`. Raises TypeError: it does."""
    if isinstance(work, OneAppend):
        raise TypeError("only a command may append")
    return work if isinstance(work, Reply) else await work
