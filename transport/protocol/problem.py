"""The body of a refusal as problem details (RFC 9457). Pure.

`detail` is a text of the catalogue; where the answer leaves, it is said in the client's language.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import msgspec

from huahuo.transport.protocol.codes import ErrorCode

PROBLEM: Final = "application/problem+json"
METHOD_NOT_ALLOWED: Final = "method_not_allowed"
"""Has no counterpart on a WebSocket, so it is no `ErrorCode`."""

_CODES: Final[Mapping[HTTPStatus, str]] = {
    HTTPStatus.FORBIDDEN: ErrorCode.FORBIDDEN,
    HTTPStatus.NOT_FOUND: ErrorCode.NOT_FOUND,
    HTTPStatus.METHOD_NOT_ALLOWED: METHOD_NOT_ALLOWED,
    HTTPStatus.REQUEST_URI_TOO_LONG: ErrorCode.TOO_LARGE,
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: ErrorCode.TOO_LARGE,
    HTTPStatus.TOO_MANY_REQUESTS: ErrorCode.RATE_LIMITED,
    HTTPStatus.INTERNAL_SERVER_ERROR: ErrorCode.INTERNAL,
    HTTPStatus.SERVICE_UNAVAILABLE: ErrorCode.UNAVAILABLE,
}


def code_of(status: HTTPStatus) -> str:
    """The code of a request that was refused before it was known what it asks for."""
    return _CODES.get(status, ErrorCode.BAD_MESSAGE)


def problem_body(code: str, detail: str, status: HTTPStatus, **more: Any) -> bytes:
    """The JSON text. `more`: further members."""
    said = {"type": f"urn:huahuo:{code}", "title": status.phrase, "status": status.value, "code": code}
    return msgspec.json.encode({**said, "detail": detail, **more})
