"""What a request says: its path, its headers and its place in a stream. Pure.

Raises `Wrong` with the status that the protocol has for it.
"""

import re
from datetime import datetime
from http import HTTPStatus
from typing import Final
from urllib.parse import quote

import msgspec

from huahuo.actors.plugins.calls import Refusal
from huahuo.eventstore.limits import BROWSER_INT_MAX
from huahuo.transport.http.messages import Headers, Request
from huahuo.transport.words import http_zh

BEGINNING: Final = "-1"
NOW: Final = "now"
DEFAULT_TYPE: Final = "application/octet-stream"
PATH_CHARS_MAX: Final = 120
"""With `ds/` before it, the path is the name of a stream."""

_PATH = re.compile(r"[A-Za-z0-9_.:@+~=-]+(/[A-Za-z0-9_.:@+~=-]+)*")
_OFFSET = re.compile(r"[0-9]{16}")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,15}")
_CURSOR = re.compile(r"[0-9]{1,15}")
_CONTENT_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,64}/[A-Za-z0-9!#$&^_.+-]{1,64}( *;[ -~]{0,128})?")
_TEXT_CHARS_MAX = 256
_PREFIX: Final = re.compile(r"(/[A-Za-z0-9_.~%-]+)*")
_ONCE: Final = (
    "Content-Type", "Stream-TTL", "Stream-Expires-At", "Stream-Closed", "Stream-Seq",
    "Producer-Id", "Producer-Epoch", "Producer-Seq",
)  # fmt: skip
_FORK = ("stream-forked-from", "stream-fork-offset")

_CURSOR_EPOCH_MS = 1_728_432_000_000
"""9 October 2024, from which the protocol counts intervals (PROTOCOL of Durable Streams, 8.1)."""
_CURSOR_INTERVAL_MS = 20_000
_CURSOR_JITTER = 180


class Wrong(Exception):  # noqa: N818  it is said to the client
    """The request is refused."""

    def __init__(self, status: HTTPStatus, why: str, headers: Headers = ()) -> None:
        super().__init__(why)
        self.status = status
        self.headers = headers


class NoRoom(Exception):  # noqa: N818  it is said to the client
    """The client may store nothing more now, or has too many answers that it did not read."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


class Producer(msgspec.Struct, frozen=True):
    """A producer with its place: what a request names, or the last that was accepted."""

    id: str
    epoch: int
    seq: int


class Creation(msgspec.Struct, frozen=True):
    """The configuration that a PUT asks for. `expires_ms`: since 1970."""

    content_type: str
    ttl_s: int | None = None
    expires_ms: int | None = None
    closed: bool = False


class Addition(msgspec.Struct, frozen=True):
    """What a POST asks for besides its body. `order`: its `Stream-Seq`."""

    content_type: str | None = None
    closes: bool = False
    producer: Producer | None = None
    order: str | None = None


def path_of(name: str) -> str:
    """The path of a stream, checked."""
    parts = name.split("/")
    if len(name) > PATH_CHARS_MAX or not _PATH.fullmatch(name) or "." in parts or ".." in parts:
        raise Wrong(HTTPStatus.BAD_REQUEST, http_zh.PATH_OF_STREAM.format(PATH_CHARS_MAX))
    return name


def location_of(request: Request) -> str:
    """The URL that the client used, also below a mount or a proxy that takes a prefix away."""
    scheme = "https" if (request.header("x-forwarded-proto") or "").lower() == "https" else "http"
    prefix = (request.header("x-forwarded-prefix") or "").rstrip("/")
    root = quote(request.root) or (prefix if _PREFIX.fullmatch(prefix) else "")
    return f"{scheme}://{request.header('host') or 'localhost'}{root}{quote(request.path)}"


def creation_of(request: Request) -> Creation:
    """What a PUT asks for."""
    _must_say_once(request)
    if any(request.all(name) for name in _FORK):
        raise Wrong(HTTPStatus.NOT_IMPLEMENTED, http_zh.NO_FORKS)
    ttl, expires = request.header("stream-ttl"), request.header("stream-expires-at")
    if ttl is not None and expires is not None:
        raise Wrong(HTTPStatus.BAD_REQUEST, http_zh.ONE_END)
    return Creation(
        content_type=_content_type(request) or DEFAULT_TYPE,
        ttl_s=None if ttl is None else _number("Stream-TTL", ttl),
        expires_ms=None if expires is None else _ms_of(expires),
        closed=_closes(request),
    )


def addition_of(request: Request) -> Addition:
    """What a POST asks for."""
    _must_say_once(request)
    order = request.header("stream-seq")
    if order is not None and len(order) > _TEXT_CHARS_MAX:
        raise Wrong(HTTPStatus.BAD_REQUEST, http_zh.TEXT_NEEDED.format("Stream-Seq", _TEXT_CHARS_MAX))
    return Addition(_content_type(request), _closes(request), _producer(request), order)


def offset_of(request: Request) -> str | int | None:
    """`now`, or the seq behind which to read (-1: the beginning); None if there is no parameter."""
    text = request.query.get("offset")
    if text is None or text == NOW:
        return text
    if text == BEGINNING:
        return -1
    if not _OFFSET.fullmatch(text):
        raise Wrong(HTTPStatus.BAD_REQUEST, http_zh.OFFSET_NEEDED)
    return int(text)


def offset_text(seq: int) -> str:
    """The offset behind an event. Texts are in the order of the numbers."""
    return f"{seq:016d}"


def cursor(request: Request, now_ms: int, random: float) -> str:
    """The cursor of a live answer: greater than the client's, so that no cache answers for ever."""
    interval = max(0, now_ms - _CURSOR_EPOCH_MS) // _CURSOR_INTERVAL_MS
    said = request.query.get("cursor", "")
    theirs = int(said) if _CURSOR.fullmatch(said) else -1
    return str(interval if theirs < interval else theirs + 1 + int(random * _CURSOR_JITTER))


def same_type(left: str, right: str) -> bool:
    """Whether two content types are the same but for case and parameters."""
    return bare_type(left) == bare_type(right)


def bare_type(content_type: str) -> str:
    """Without parameters, in lower case."""
    return content_type.partition(";")[0].strip().lower()


def _must_say_once(request: Request) -> None:
    """Raise Wrong for a header that is there twice: passed over, it would repeat what was sent before."""
    for name in _ONCE:
        if len(request.all(name.lower())) > 1:
            raise Wrong(HTTPStatus.BAD_REQUEST, http_zh.ONE_NEEDED.format(name))


def _closes(request: Request) -> bool:
    return (request.header("stream-closed") or "").lower() == "true"


def _content_type(request: Request) -> str | None:
    said = request.header("content-type")
    if said is not None and not _CONTENT_TYPE.fullmatch(said):
        raise Wrong(HTTPStatus.BAD_REQUEST, http_zh.NO_CONTENT_TYPE)
    return said


def _producer(request: Request) -> Producer | None:
    names = ("producer-id", "producer-epoch", "producer-seq")
    said = [request.header(name) for name in names]
    if said == [None, None, None]:
        return None
    id_, epoch, seq = said
    if id_ is None or epoch is None or seq is None:
        raise Wrong(HTTPStatus.BAD_REQUEST, http_zh.ALL_OF_PRODUCER)
    if not 1 <= len(id_) <= _TEXT_CHARS_MAX:
        raise Wrong(HTTPStatus.BAD_REQUEST, http_zh.TEXT_NEEDED.format("Producer-Id", _TEXT_CHARS_MAX))
    return Producer(id_, _number("Producer-Epoch", epoch), _number("Producer-Seq", seq))


def _number(name: str, text: str) -> int:
    if not _NUMBER.fullmatch(text) or int(text) > BROWSER_INT_MAX:
        raise Wrong(HTTPStatus.BAD_REQUEST, http_zh.NUMBER_NEEDED.format(name, BROWSER_INT_MAX))
    return int(text)


def _ms_of(text: str) -> int:
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        when = None
    if when is None or when.tzinfo is None or "T" not in text.upper():
        raise Wrong(HTTPStatus.BAD_REQUEST, http_zh.TIME_NEEDED)
    return int(when.timestamp() * 1000)
