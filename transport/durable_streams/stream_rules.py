"""What a request asks of a stream, what it changes, and how bytes stand in the log. Pure.

Raises `Wrong` with the status that the protocol has for it. `ANYBODY` may read and write without a token.
`judge`: a state and a request in, a change or a refusal out.

Each message of a JSON stream is an event. Other bodies are cut into pieces, as an event of the log has at
most 1 MiB; a piece of text is kept as text, other bytes are kept as base64.
"""

import base64
import ipaddress
import re
from collections.abc import Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Final
from urllib.parse import quote

import msgspec

from huahuo.actors.plugins.calls import Principal, Refusal, user_id_of
from huahuo.eventstore.limits import BROWSER_INT_MAX, EVENT_BYTES_MAX
from huahuo.eventstore.model import NewEvent, StoredEvent
from huahuo.transport.access.door import is_loopback
from huahuo.transport.access.rights import READ, WRITE, Verified
from huahuo.transport.http.messages import Headers, Request
from huahuo.transport.protocol.strict_json import depth_exceeds, has_number_out_of_range
from huahuo.transport.words import en, http_zh

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


ANYBODY: Final = Verified(Principal("ds:open", "anybody"), expires_at_ms=1 << 52)
"""Who asks without a token where that is allowed. No token can name this user."""

_HOST: Final = re.compile(r"(\[(?P<address>[0-9a-f:.]+)\]|(?P<name>[a-z0-9.-]+))(:[0-9]*)?", re.IGNORECASE)


def may_use(principal: Principal, path: str, *, is_open: bool, writes: bool = False) -> bool:
    """Whether `principal` may read the stream at `path`, or write it.

    `user/<id>/…` belongs to that user, `group/<name>/…` to the group's members, and all to administrators.
    """
    if not is_open and not principal.may(WRITE if writes else READ):
        return False
    if is_open or principal.is_admin:
        return True
    kind, _, rest = path.partition("/")
    owner = rest.partition("/")[0]
    if kind == "user":
        return user_id_of(owner) == principal.user_id
    return kind == "group" and owner in principal.groups


def is_near(request: Request, address: str) -> bool:
    """Whether a request comes from this machine and names it: a page of another site cannot.

    `address` is as `Door.address` gives it. That of a proxy on this machine that is not trusted is a loopback
    address, too; then the client counts that it names in X-Forwarded-For.
    """
    hops = ",".join(request.all("x-forwarded-for"))
    if hops and not _is_loopback(hops.rpartition(",")[2].strip()):
        return False
    host = _HOST.fullmatch(request.header("host") or "")
    if host is None or not is_loopback(address):
        return False
    name = host["address"] or host["name"]
    return name.lower() == "localhost" or _is_loopback(name)


def _is_loopback(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).is_loopback
    except ValueError:
        return False


type Header = tuple[str, str]


class State(msgspec.Struct, frozen=True):
    """A stream. `start`: the seq of the event that created it; `tail`: of its last data, else `start`.

    `seen_ms`: when it was last read or written, from which its TTL counts. `order`: the last `Stream-Seq`.
    """

    start: int
    tail: int
    content_type: str
    seen_ms: int
    ttl_s: int | None = None
    expires_ms: int | None = None
    closed: bool = False
    order: str | None = None

    def expired(self, now_ms: int) -> bool:
        """Whether it is gone."""
        due = self.due_ms
        return due is not None and now_ms >= due

    @property
    def due_ms(self) -> int | None:
        """When it is gone unless it is used before."""
        return self.expires_ms if self.ttl_s is None else self.seen_ms + self.ttl_s * 1000

    @property
    def headers(self) -> Headers:
        """Its end, as most answers have it."""
        closed = (("Stream-Closed", "true"),) if self.closed else ()
        return (("Stream-Next-Offset", offset_text(self.tail)), *closed)


class Accepted(msgspec.Struct, frozen=True):
    """A change to commit with its answer. `producer`: its new place."""

    status: HTTPStatus
    closes: bool = False
    producer: Producer | None = None


class Repeated(msgspec.Struct, frozen=True):
    """It was done before: nothing to commit."""

    status: HTTPStatus
    headers: Headers


def created_before(state: State, asked: Creation) -> Repeated:
    """The answer to a PUT for a stream that exists. Raises Wrong: it is another one."""
    same = (
        same_type(state.content_type, asked.content_type)
        and (state.ttl_s, state.expires_ms) == (asked.ttl_s, asked.expires_ms)
        and state.closed == asked.closed
    )
    if not same:
        raise Wrong(HTTPStatus.CONFLICT, http_zh.OTHER_CONFIGURATION)
    return Repeated(HTTPStatus.OK, (("Content-Type", state.content_type), *state.headers))


def judge(state: State, last: Producer | None, asked: Addition, size: int) -> Accepted | Repeated:
    """What becomes of a POST with a body of `size` bytes. `last`: the last place of its producer."""
    if not size and not asked.closes:
        raise Wrong(HTTPStatus.BAD_REQUEST, http_zh.EMPTY_BODY)
    if size:
        if asked.content_type is None:
            raise Wrong(HTTPStatus.BAD_REQUEST, http_zh.CONTENT_TYPE_MISSING)
        if not same_type(asked.content_type, state.content_type):
            raise Wrong(HTTPStatus.CONFLICT, http_zh.OTHER_TYPE.format(state.content_type), state.headers)
    if asked.producer is not None:
        known = _known(state, last, asked.producer)
        if known is not None:
            return known
    if state.closed:
        if not size and asked.producer is None:
            return Repeated(HTTPStatus.NO_CONTENT, state.headers)
        raise Wrong(HTTPStatus.CONFLICT, http_zh.CLOSED_STREAM, state.headers)
    if asked.order is not None and state.order is not None and asked.order <= state.order:
        raise Wrong(HTTPStatus.CONFLICT, http_zh.ORDER_NEEDED)
    says_more = asked.producer is not None and size
    status = HTTPStatus.OK if says_more else HTTPStatus.NO_CONTENT
    return Accepted(status, asked.closes, asked.producer)


def _known(state: State, last: Producer | None, asked: Producer) -> Repeated | None:
    """The answer if this was accepted before. Raises Wrong: it is fenced off, or something is missing."""
    if last is not None and asked.epoch < last.epoch:
        epoch = (("Producer-Epoch", str(last.epoch)),)
        raise Wrong(HTTPStatus.FORBIDDEN, http_zh.NEWER_EPOCH, epoch)
    if last is not None and asked.epoch > last.epoch and asked.seq != 0:
        raise Wrong(HTTPStatus.BAD_REQUEST, http_zh.EPOCH_BEGINS)
    expected = 0 if last is None or asked.epoch > last.epoch else last.seq + 1
    if asked.seq > expected:
        gap = (("Producer-Expected-Seq", str(expected)), ("Producer-Received-Seq", str(asked.seq)))
        raise Wrong(HTTPStatus.CONFLICT, http_zh.SEQ_EXPECTED.format(expected), gap)
    if last is None or asked.seq == expected:
        return None
    return Repeated(HTTPStatus.NO_CONTENT, (*state.headers, *place_headers(last)))


def place_headers(producer: Producer) -> Sequence[Header]:
    """The place of a producer, as answers have it."""
    return (("Producer-Epoch", str(producer.epoch)), ("Producer-Seq", str(producer.seq)))


JSON: Final = "application/json"
CREATED, CLOSED, DELETED = "ds_created", "ds_closed", "ds_deleted"
MESSAGE, TEXT, BYTES = "ds_message", "ds_text", "ds_bytes"
_DATA: Final = frozenset({MESSAGE, TEXT, BYTES})

PIECE_BYTES_MAX: Final = 128 << 10
"""JSON writes a control character with six, so a piece of text has at most 768 KiB in the log."""
MESSAGES_MAX: Final = 2_000
"""Of one request: they are made and committed at once, and others wait meanwhile."""
_ROOM_BYTES: Final = 256
_CONTINUED_MAX: Final = 3
"""The most bytes of a character of UTF-8 after its first one."""


class _Kept(msgspec.Struct):
    data: msgspec.Raw = msgspec.Raw()
    text: str = ""
    base64: bytes = b""


def is_json(content_type: str) -> bool:
    """Whether the stream has messages rather than bytes."""
    return bare_type(content_type) == JSON


def is_text(content_type: str) -> bool:
    """Whether server-sent events can carry it as it is."""
    return is_json(content_type) or bare_type(content_type).startswith("text/")


def events_of(stream: str, content_type: str, body: bytes, at: str, depth_max: int) -> list[NewEvent]:
    """The events that keep `body`, said to be of the time `at`. Raises Wrong: it is no JSON, or too large."""
    if not body:
        return []
    if not is_json(content_type):
        return [_piece(stream, piece, at) for piece in _pieces(body)]
    head = b'{"type":"%b","timestamp":"%b","data":' % (MESSAGE.encode(), at.encode())
    messages = _messages(body, depth_max)
    if max(map(len, messages), default=0) > EVENT_BYTES_MAX - _ROOM_BYTES:
        raise Wrong(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, http_zh.MESSAGE_TOO_LARGE)
    return [NewEvent(stream, MESSAGE, b"%b%b}" % (head, message)) for message in messages]


def note(stream: str, type_: str, at: str, **fields: object) -> NewEvent:
    """An event about the stream itself."""
    return NewEvent(stream, type_, msgspec.json.encode({"type": type_, "timestamp": at, **fields}))


def data_of(events: Sequence[StoredEvent]) -> list[StoredEvent]:
    """The events that hold data, up to the first that ends the stream's life."""
    found: list[StoredEvent] = []
    for event in events:
        if event.type in _DATA:
            found.append(event)
        elif event.type != CLOSED:
            break
    return found


def joined(content_type: str, events: Sequence[StoredEvent]) -> bytes:
    """The body of an answer with these events."""
    kept = [msgspec.json.decode(event.body, type=_Kept) for event in events]
    if is_json(content_type):
        return b"[%b]" % b",".join([bytes(one.data) for one in kept])
    return b"".join([one.text.encode() or one.base64 for one in kept])


def sse_data(content_type: str, body: bytes) -> bytes:
    """`body` as a server-sent event. No line of it can end the event or begin a field."""
    text = body.decode("utf-8", "replace") if is_text(content_type) else base64.b64encode(body).decode()
    # Each by one call: a part may have nothing but ends of lines, and a loop over them would hold up others.
    lines = "\n" + text.replace("\r\n", "\n").replace("\r", "\n")
    fields = lines.replace("\n ", "\n  ").replace("\n", "\ndata:")
    return f"event: data{fields}\n\n".encode()


def sse_control(**fields: object) -> bytes:
    """The event that follows each event of data."""
    return b"event: control\ndata:%b\n\n" % msgspec.json.encode(fields)


def _messages(body: bytes, depth_max: int) -> list[bytes]:
    try:
        if depth_exceeds(body.decode("utf-8"), depth_max):
            raise Wrong(HTTPStatus.BAD_REQUEST, http_zh.KEPT_TOO_DEEP.format(depth_max))
        plain = msgspec.json.format(body, indent=-1)
        if has_number_out_of_range(plain):
            raise Wrong(HTTPStatus.BAD_REQUEST, http_zh.NO_JSON_BODY.format(en.OUT_OF_RANGE))
        if plain[:1] != b"[":
            return [plain]
        found = [bytes(one) for one in msgspec.json.decode(plain, type=list[msgspec.Raw])]
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Wrong(HTTPStatus.BAD_REQUEST, http_zh.NO_JSON_BODY.format(error)) from None
    if len(found) > MESSAGES_MAX:
        raise Wrong(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, http_zh.TOO_MANY_MESSAGES.format(MESSAGES_MAX))
    return found


def _pieces(body: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(body):
        end = min(at + PIECE_BYTES_MAX, len(body))
        back = end
        while end < len(body) and end - back < _CONTINUED_MAX and _continues(body[back]):
            back -= 1
        end = back
        found.append(body[at:end])
        at = end
    return found


def _continues(byte: int) -> bool:
    """Whether a character of UTF-8 goes on with this byte."""
    return byte & 0xC0 == 0x80  # noqa: PLR2004  the two bits


def _piece(stream: str, piece: bytes, at: str) -> NewEvent:
    try:
        kept: dict[str, str] = {"type": TEXT, "timestamp": at, "text": piece.decode("utf-8")}
    except UnicodeDecodeError:
        kept = {"type": BYTES, "timestamp": at, "base64": base64.b64encode(piece).decode()}
    return NewEvent(stream, kept["type"], msgspec.json.encode(kept))


class Part(msgspec.Struct, frozen=True):
    """Some data of a stream. `following`: the seq to go on behind; `at_end`: nothing more was there."""

    state: State
    body: bytes
    after: int
    following: int
    at_end: bool

    @property
    def closed(self) -> bool:
        """Whether nothing will ever follow."""
        return self.at_end and self.state.closed

    @property
    def empty(self) -> bool:
        """Whether there is no data."""
        return self.following == self.after
