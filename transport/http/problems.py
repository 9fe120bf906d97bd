"""Refusals as problem details (RFC 9457). Pure.

`code` is an error code of PROTOCOL 6, or a code of PROTOCOL 3.1 for a refused token, or an application's own.
`type` is a URN made of it.
"""

import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import msgspec

from huahuo.transport.http.messages import NO_STORE, Answer, Headers
from huahuo.transport.protocol.codes import AUTH_CLOSES, CLOSES, AuthCode, CloseCode, ErrorCode
from huahuo.transport.protocol.problem import METHOD_NOT_ALLOWED, PROBLEM, problem_body
from huahuo.transport.session.speech import REFUSED, Speech
from huahuo.transport.words import http_zh, zh

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

_CLOSES: Final[Mapping[int, tuple[ErrorCode | AuthCode, str]]] = {
    **{close: (code, REFUSED[code]) for code, close in AUTH_CLOSES.items()},
    CloseCode.FORBIDDEN: (ErrorCode.FORBIDDEN, http_zh.NOT_YOURS_TO_READ),
    CloseCode.TOO_MANY_CONNECTIONS: (ErrorCode.RATE_LIMITED, http_zh.TOO_MANY_OF_BOTH),
    CloseCode.SERVER_FAULT: (ErrorCode.INTERNAL, zh.INTERNAL),
}
_CONTENT_TYPE: Final = ("Content-Type", PROBLEM)
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
    if retry_s is not None:
        more["retry_s"] = retry_s
    body = problem_body(code, detail, status, **more)
    extra = list(headers)
    if status in _PASSING:
        extra.append(("Retry-After", str(max(1, math.ceil(retry_s or _RETRY_S)))))
    if status is HTTPStatus.UNAUTHORIZED:
        extra.append(("WWW-Authenticate", "Bearer"))
    fixed = (_CONTENT_TYPE, ("Cache-Control", NO_STORE))
    return Answer(status, (*fixed, *extra), body, ends=ends, is_refusal=True)


def from_error(message: Mapping[str, Any]) -> Answer:
    """The answer for an `error` message of PROTOCOL 6."""
    code, text = str(message["code"]), str(message.get("message", ""))
    details = message.get("details")
    kept = {name: message[name] for name in ("id", "duplicate") if name in message}
    if isinstance(details, dict):
        kept["details"] = details
    detail = f"{text} ({details})" if details and "details" not in kept else text
    return problem(code, detail, retry_s=message.get("retry_s"), **kept)


def wrong_method(allowed: Sequence[str]) -> Answer:
    """The refusal of a method that a path does not take."""
    methods = ", ".join(allowed)
    return problem(
        METHOD_NOT_ALLOWED, http_zh.WRONG_METHOD.format(methods), status=HTTPStatus.METHOD_NOT_ALLOWED,
        headers=(("Allow", methods),), ends=True,
    )  # fmt: skip


def worded(answer: Answer, speech: Speech) -> Answer:
    """The same in the client's language, if it is a refusal."""
    if not answer.is_refusal:
        return answer
    said = msgspec.json.decode(answer.body)
    text = speech.text(said["detail"])
    if text == said["detail"]:
        return answer
    return msgspec.structs.replace(answer, body=msgspec.json.encode({**said, "detail": text}))


def from_close(code: int) -> Answer:
    """The answer for a connection that ended before anything was sent."""
    fact = CLOSES.get(CloseCode(code))
    retry_s = fact.retry_s if fact else None
    known, detail = _CLOSES.get(code, (ErrorCode.UNAVAILABLE, http_zh.NOT_SERVED_NOW))
    return problem(known, detail, retry_s=retry_s[0] if retry_s else None)
