"""What a stream's bytes are in the log, and what its events are in an answer. Pure.

Each message of a JSON stream is an event. Other bodies are cut into pieces, as an event of the log has at
most 1 MiB; a piece of text is kept as text, other bytes are kept as base64.
"""

import base64
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

import msgspec

from huahuo.eventstore.limits import EVENT_BYTES_MAX
from huahuo.eventstore.model import NewEvent, StoredEvent
from huahuo.transport.durable_streams.asking import Wrong, bare_type
from huahuo.transport.protocol.strict_json import depth_exceeds, has_number_out_of_range
from huahuo.transport.words import en, http_zh

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
