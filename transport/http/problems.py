"""Refusals as problem details (RFC 9457). Pure.

`code` is an error code of PROTOCOL 6, or a code of PROTOCOL 3.1 for a refused token, or an application's own.
`type` is a URN made of it.
"""

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import msgspec

from huahuo.transport.http.messages import NO_STORE, Answer, Headers
from huahuo.transport.protocol.codes import CLOSES, AuthCode, CloseCode, ErrorCode
from huahuo.transport.protocol.english import translated

_STATUS: Final[Mapping[str, HTTPStatus]] = {
    ErrorCode.BAD_MESSAGE: HTTPStatus.BAD_REQUEST,
    ErrorCode.UNKNOWN_ACTION: HTTPStatus.NOT_FOUND,
    ErrorCode.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
    ErrorCode.FORBIDDEN: HTTPStatus.FORBIDDEN,
    ErrorCode.NOT_FOUND: HTTPStatus.NOT_FOUND,
    ErrorCode.ALREADY_EXISTS: HTTPStatus.CONFLICT,
    ErrorCode.INVALID_FIELD: HTTPStatus.BAD_REQUEST,
    ErrorCode.BUSY: HTTPStatus.SERVICE_UNAVAILABLE,
    ErrorCode.RATE_LIMITED: HTTPStatus.TOO_MANY_REQUESTS,
    ErrorCode.TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    ErrorCode.BAD_ACK: HTTPStatus.BAD_REQUEST,
    ErrorCode.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    ErrorCode.STORAGE_FULL: HTTPStatus.INSUFFICIENT_STORAGE,
    ErrorCode.QUOTA_EXCEEDED: HTTPStatus.FORBIDDEN,
    ErrorCode.CORRUPT: HTTPStatus.INTERNAL_SERVER_ERROR,
    ErrorCode.INTERNAL: HTTPStatus.INTERNAL_SERVER_ERROR,
    AuthCode.TOKEN_EXPIRED: HTTPStatus.UNAUTHORIZED,
    AuthCode.TOKEN_INVALID: HTTPStatus.UNAUTHORIZED,
    AuthCode.TOKEN_REVOKED: HTTPStatus.UNAUTHORIZED,
}
"""A code of an application is not here: its refusal of a command is a conflict with the state (409)."""

_CLOSES: Final[Mapping[int, ErrorCode | AuthCode]] = {
    CloseCode.TOKEN_INVALID: AuthCode.TOKEN_INVALID,
    CloseCode.TOKEN_EXPIRED: AuthCode.TOKEN_EXPIRED,
    CloseCode.REVOKED: AuthCode.TOKEN_REVOKED,
    CloseCode.FORBIDDEN: ErrorCode.FORBIDDEN,
    CloseCode.TOO_MANY_CONNECTIONS: ErrorCode.RATE_LIMITED,
    CloseCode.SERVER_FAULT: ErrorCode.INTERNAL,
}
PROBLEM: Final = "application/problem+json"
_RETRY_S: Final = 1.0
_PASSING = (
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.INSUFFICIENT_STORAGE,
)


def status_of(code: str) -> HTTPStatus:
    """The status for a code."""
    return _STATUS.get(code, HTTPStatus.CONFLICT)


def problem(
    code: str,
    detail: str,
    *,
    status: HTTPStatus | None = None,
    retry_s: float | None = None,
    headers: Headers = (),
    ends: bool = False,
    **more: Any,
) -> Answer:
    """The answer for a refusal. `more`: further members."""
    status = status or status_of(code)
    said = {"type": f"urn:huahuo:{code}", "title": status.phrase, "status": status.value, "code": code}
    if retry_s is not None:
        more["retry_s"] = retry_s
    body = msgspec.json.encode({**said, "detail": detail, **more})
    extra = list(headers)
    if status in _PASSING:
        extra.append(("Retry-After", str(max(1, math.ceil(retry_s or _RETRY_S)))))
    if status is HTTPStatus.UNAUTHORIZED:
        extra.append(("WWW-Authenticate", "Bearer"))
    fixed = (("Content-Type", PROBLEM), ("Cache-Control", NO_STORE))
    return Answer(status, (*fixed, *extra), body, ends=ends)


def from_error(message: Mapping[str, Any]) -> Answer:
    """The answer for an `error` message of PROTOCOL 6."""
    code, text = str(message["code"]), translated(str(message.get("message", "")))
    details = message.get("details")
    kept = {name: message[name] for name in ("id", "duplicate") if name in message}
    detail = f"{text} ({details})" if details else text
    return problem(code, detail, retry_s=message.get("retry_s"), **kept)


def from_close(code: int, reason: str) -> Answer:
    """The answer for a connection that ended before anything was sent."""
    fact = CLOSES.get(CloseCode(code))
    retry_s = fact.retry_s if fact else None
    return problem(_CLOSES.get(code, ErrorCode.UNAVAILABLE), reason, retry_s=retry_s[0] if retry_s else None)
