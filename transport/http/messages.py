"""Requests, answers and refusals, as every shell of the room gives and takes them. Pure.

* Heads of plain HTTP/1.1: what that of a request must be, and what that of an answer says.
* Pages of other origins (CORS): the setting `origins` decides, as for WebSockets.
* Refusals are problem details (RFC 9457). `code` is an error code of PROTOCOL 6, or a code of PROTOCOL 3.1
  for a refused token, or an application's own. `type` is a URN made of it.
"""

import math
import re
from collections.abc import Mapping, Sequence
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

import h11
import msgspec

from huahuo.transport.access.door import origin_allowed
from huahuo.transport.protocol.codes import AUTH_CLOSES, CLOSES, AuthCode, CloseCode, ErrorCode
from huahuo.transport.protocol.problem import METHOD_NOT_ALLOWED, PROBLEM, problem_body
from huahuo.transport.session.outgoing import REFUSED, Speech
from huahuo.transport.words import http_zh, zh

JSON = "application/json"
EVENT_STREAM = "text/event-stream"
NO_STORE = "no-store"
_PARAMETERS_MAX = 32

_ABSOLUTE = re.compile(r"https?://(?P<authority>[^/?#@]+)(?=[/?]|$)", re.IGNORECASE)

type Headers = tuple[tuple[str, str], ...]
type RawHeaders = Sequence[tuple[bytes, bytes]]


class Request(msgspec.Struct, frozen=True):
    """A request without its body. Names of headers are lower case; `peer` is the socket's address.

    `path` is decoded and begins with a slash. A parameter that comes twice has its last value. `root`: the
    decoded path at which the service is mounted; "", or without a slash at its end.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Headers
    peer: str = ""
    root: str = ""

    @classmethod
    def of(cls, method: str, target: str, headers: RawHeaders, peer: str) -> "Request":
        """From a request line's target. Raises ValueError: it is not usable."""
        target, headers = origin_form(target, headers)
        path, _, query = target.partition("?")
        if not path.startswith("/") and (method, target) != ("OPTIONS", "*"):
            raise ValueError("the target is no path")
        return cls.at(method, unquote(path, errors="strict"), query, headers, peer)

    @classmethod
    def at(
        cls, method: str, path: str, query: str, headers: RawHeaders, peer: str, root: str = ""
    ) -> "Request":
        """From a decoded path. Raises ValueError: the query has too many parameters or is no UTF-8."""
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=_PARAMETERS_MAX)
        named = tuple((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in headers)
        return cls(method, path, dict(pairs), named, peer, root)

    def all(self, name: str) -> list[str]:
        """The values of a header that may come more than once."""
        return [value for known, value in self.headers if known == name]

    def header(self, name: str) -> str | None:
        """The value of a header, None if there is none, or if it is said more than once."""
        values = self.all(name)
        return values[0].strip() if len(values) == 1 else None

    def joined(self, name: str) -> str | None:
        """What a header says; different values of it are joined, so that none is passed over."""
        return ", ".join(dict.fromkeys(value.strip() for value in self.all(name))) or None

    @property
    def is_upgrade(self) -> bool:
        """Whether a WebSocket is asked for."""
        named = (item.strip().lower() for value in self.all("upgrade") for item in value.split(","))
        return self.method == "GET" and "websocket" in named

    @property
    def framed_twice(self) -> bool:
        """Whether two headers say where the body ends. A proxy in front may have believed the other one."""
        names = {name for name, _value in self.headers}
        return "transfer-encoding" in names and "content-length" in names

    def accepts(self, content_type: str) -> bool:
        """Whether this type is named in `Accept`, without a wild card."""
        named = (item for value in self.all("accept") for item in value.split(","))
        return content_type in (item.partition(";")[0].strip().lower() for item in named)


def origin_form(target: str, headers: RawHeaders) -> tuple[str, RawHeaders]:
    """The target as a path, and the headers. A whole URL names the host itself (RFC 9112, 3.2.2)."""
    found = _ABSOLUTE.match(target)
    if found is None:
        return target, headers
    rest = target[found.end() :]
    path = rest if rest.startswith("/") else f"/{rest}"
    kept = [(name, value) for name, value in headers if name.lower() != b"host"]
    return path, [(b"host", found["authority"].encode("ascii")), *kept]


class Answer(msgspec.Struct, frozen=True):
    """A whole answer. The shell adds `Content-Length`, and `Date` where its server does not.

    `hold_s`: the answer is held back for this long. `ends`: the connection is closed after it.
    `is_refusal`: it is a problem of the service, whose detail is a text of the catalogue.
    """

    status: HTTPStatus
    headers: Headers = ()
    body: bytes = b""
    hold_s: float = 0.0
    ends: bool = False
    is_refusal: bool = False

    def adding(self, headers: Headers) -> "Answer":
        """The same with more headers. There is one `Vary`, since some caches read the last one only."""
        if not headers:
            return self
        varies = [value for name, value in (*self.headers, *headers) if name == "Vary"]
        if len(varies) > 1:
            others = [one for one in (*self.headers, *headers) if one[0] != "Vary"]
            headers = (*others, ("Vary", ", ".join(dict.fromkeys(varies))))
            return msgspec.structs.replace(self, headers=headers)
        return msgspec.structs.replace(self, headers=(*self.headers, *headers))


def json_answer(body: bytes, headers: Headers = (), status: HTTPStatus = HTTPStatus.OK) -> Answer:
    """An answer of JSON that nobody may keep, unless `headers` say so."""
    cached = any(name == "Cache-Control" for name, _ in headers)
    keep = () if cached else (("Cache-Control", NO_STORE),)
    return Answer(status, (("Content-Type", JSON), *keep, *headers), body)


NO_CONTENT = Answer(HTTPStatus.NO_CONTENT, (("Cache-Control", NO_STORE),))

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


_HEADERS = (
    "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, Huahuo-Client, If-None-Match, "
    "Stream-Closed, Stream-Expires-At, Stream-Seq, Stream-TTL, Producer-Id, Producer-Epoch, Producer-Seq"
)
_EXPOSED = (
    "ETag, Huahuo-Heartbeat, Link, Location, Retry-After, Stream-Closed, Stream-Cursor, Stream-Expires-At, "
    "Stream-Next-Offset, Stream-SSE-Data-Encoding, Stream-TTL, Stream-Up-To-Date, "
    "Producer-Epoch, Producer-Seq, Producer-Expected-Seq, Producer-Received-Seq"
)
_PREFLIGHT_S = 7200


def cors_headers(request: Request, origins: Sequence[str]) -> Headers | None:
    """What lets the page read the answer. None: its origin is refused.

    Every answer varies: a cache must not give a page one that was made for a request without an origin.
    """
    said = request.all("origin")
    if not said:
        return (("Vary", "Origin"),)
    if not origin_allowed(said, request.all("host"), origins):
        return None
    return (
        ("Access-Control-Allow-Origin", said[0].strip()),
        ("Access-Control-Expose-Headers", _EXPOSED),
        ("Vary", "Origin"),
    )


def preflight(allowed: Sequence[str], headers: Headers) -> Answer:
    """The answer to a browser that asks before it sends a request with a token."""
    methods = ", ".join(allowed)
    return Answer(
        HTTPStatus.NO_CONTENT,
        (
            *headers,
            ("Allow", methods),
            ("Access-Control-Allow-Methods", methods),
            ("Access-Control-Allow-Headers", _HEADERS),
            ("Access-Control-Max-Age", str(_PREFLIGHT_S)),
        ),
    )


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
