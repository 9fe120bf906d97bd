"""Requests that are refused: what went wrong, as an answer."""

from collections.abc import Coroutine
from http import HTTPStatus
from typing import Any, Final

from huahuo.eventstore.errors import Conflict, Corrupt, EventStoreError, QueueFull, TooLarge
from huahuo.transport.durable_streams.asking import NoRoom, Wrong
from huahuo.transport.http.messages import Answer, Headers
from huahuo.transport.http.problems import problem
from huahuo.transport.protocol.codes import ErrorCode
from huahuo.transport.words import http_zh, zh

SAFE: Final[Headers] = (
    ("X-Content-Type-Options", "nosniff"),
    ("Cross-Origin-Resource-Policy", "cross-origin"),
)

_CODES: Final = {
    HTTPStatus.BAD_REQUEST: ErrorCode.INVALID_FIELD,
    HTTPStatus.NOT_FOUND: ErrorCode.NOT_FOUND,
    HTTPStatus.FORBIDDEN: ErrorCode.FORBIDDEN,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: ErrorCode.TOO_LARGE,
    HTTPStatus.SERVICE_UNAVAILABLE: ErrorCode.UNAVAILABLE,
}


async def refusing(work: Coroutine[Any, Any, Answer]) -> Answer:
    """The answer of `work`, or the refusal that it ended in."""
    try:
        found = await work
    except Wrong as wrong:
        code = _CODES.get(wrong.status, "conflict" if wrong.status is HTTPStatus.CONFLICT else "refused")
        found = problem(code, str(wrong), status=wrong.status, headers=wrong.headers)
    except NoRoom as full:
        refusal = full.refusal
        found = problem(refusal.code, refusal.message, retry_s=refusal.retry_s)
    except TooLarge:
        found = problem(ErrorCode.TOO_LARGE, zh.EVENT_TOO_LARGE)
    except (QueueFull, Conflict):
        found = problem(ErrorCode.BUSY, http_zh.MUCH_WRITTEN)
    except Corrupt:
        found = problem(ErrorCode.CORRUPT, http_zh.STREAM_DAMAGED)
    except EventStoreError:
        found = problem(ErrorCode.UNAVAILABLE, http_zh.WRITTEN_UNKNOWN)
    return found.adding(SAFE)
