"""Heads of plain HTTP/1.1: what that of a request must be, and what that of an answer says. Pure."""

from email.utils import formatdate
from http import HTTPStatus
from typing import Final

import h11

from huahuo.transport.http.messages import Answer, Headers

HEAD_BYTES_MAX: Final = 64 << 10
_VERSIONS: Final = (b"1.0", b"1.1")
_BODILESS = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)


def refusal_of(head: bytes) -> HTTPStatus | None:
    """Why a head that h11 has accepted is refused nevertheless; None if it is not."""
    if len(head) > HEAD_BYTES_MAX:  # h11 takes one that came in a single piece
        return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    if b"\n" in head.replace(b"\r\n", b""):  # a proxy in front may have seen another end of a line
        return HTTPStatus.BAD_REQUEST
    version = head.partition(b"\r\n")[0].rpartition(b"HTTP/")[2]
    if version not in _VERSIONS:  # h11 takes any two digits
        return HTTPStatus.HTTP_VERSION_NOT_SUPPORTED
    if version == b"1.0" and b"\r\ntransfer-encoding:" in head.lower():  # RFC 9112, 6.1: it knows no chunks
        return HTTPStatus.BAD_REQUEST
    return None


def has_body(request: h11.Request) -> bool:
    """Whether the head of a request announces a body."""
    return body_bytes(request) != 0


def body_bytes(request: h11.Request) -> int | None:
    """The size of the body as the head announces it; None: it comes in chunks."""
    announced = 0
    for name, value in request.headers:
        if name == b"transfer-encoding":
            return None
        if name == b"content-length":
            announced = int(value)
    return announced


def languages(request: h11.Request | None) -> list[str]:
    """The values of `Accept-Language`: of no request, none."""
    headers = () if request is None else request.headers
    return [value.decode("latin-1") for name, value in headers if name == b"accept-language"]


def without_body(answer: Answer, request: h11.Request | None) -> bool:
    """Whether an answer is its head alone, by its status or by the method of the request."""
    return answer.status in _BODILESS or (request is not None and request.method == b"HEAD")


def head_of(answer: Answer, *, ends: bool) -> h11.Response:
    """The head of an answer. `ends`: the connection ends with it."""
    headers = [("Date", formatdate(usegmt=True)), *answer.headers]
    if answer.status not in _BODILESS:
        headers.append(("Content-Length", str(len(answer.body))))
    if ends:
        headers.append(("Connection", "close"))
    return h11.Response(status_code=answer.status, headers=headers, reason=answer.status.phrase.encode())


def head_of_events(status: HTTPStatus, headers: Headers) -> h11.Response:
    """The head of a stream of events, which ends with its connection."""
    fixed = (("Date", formatdate(usegmt=True)), ("Connection", "close"))
    return h11.Response(status_code=status, headers=[*fixed, *headers], reason=status.phrase.encode())
