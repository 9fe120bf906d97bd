"""The answer to a request that the library cannot read: it has a body, or its bytes are no request. Pure."""

from http import HTTPStatus

from websockets.datastructures import Headers
from websockets.http11 import Response

METHOD_BYTES_MAX = 16
"""So much of the beginning tells the method."""


def answer_to(beginning: bytes) -> bytes:
    """The response, by the first bytes of the request."""
    method = beginning.partition(b" ")[0]
    allowed = method in (b"GET", b"HEAD") or not method.isalpha()
    return _BAD_REQUEST if allowed else _METHOD_NOT_ALLOWED


def _refusal(status: HTTPStatus, text: str, *headers: tuple[str, str]) -> bytes:
    body = f"{text}\n".encode()
    fixed = [
        ("Connection", "close"),
        ("Content-Length", str(len(body))),
        ("Content-Type", "text/plain; charset=utf-8"),
    ]
    return Response(status.value, status.phrase, Headers([*fixed, *headers]), body).serialize()


_BAD_REQUEST = _refusal(HTTPStatus.BAD_REQUEST, "not a request that is understood here")
_METHOD_NOT_ALLOWED = _refusal(HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD", ("Allow", "GET, HEAD"))
