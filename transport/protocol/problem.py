"""The body of a refusal as problem details (RFC 9457), and the service's refusals in English. Pure.

The code says each text in Chinese (`transport.words`); where an answer leaves, it is said in the client's
language. Texts of an application stay as they are, in whatever language it writes them.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import msgspec

from huahuo.actors.plugins.words import Words
from huahuo.transport.protocol.codes import SENTENCES, ErrorCode
from huahuo.transport.words import en, http_en, http_zh, zh

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


_WORDS: Final = Words()
_WORDS.add(zh, en)
_WORDS.add(http_zh, http_en)


def translated(message: str) -> str:
    """`message` in English if it is a text of the transport, else as it is."""
    return _WORDS.say(message, "en")


def of_service(code: str, message: str) -> str:
    """A refusal of the service or of a plug-in in English: its text, else what its code means."""
    said = translated(message)
    known = said.isascii() or code not in SENTENCES
    return said if known else SENTENCES[code]
