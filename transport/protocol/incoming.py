"""The parser of client messages: bytes in, typed values or a typed refusal out (PROTOCOL 3, 6). Pure.

It has two steps, because before authentication only a message's action is read: `parse` makes a strict JSON
object, `convert` makes the typed value. A refusal names the field and never repeats its value: a client may
put a password into the wrong field.

Two forms that clients write have short ways. Acks (PROTOCOL 5) are read without `parse`. A `publish` of
several events in compact JSON is decoded and proven at once (`listed`), where `parse` looks at each value
of each event one by one: for the depth, for long numbers, and again to convert it.

`fingerprint` is the hash by which a command that is sent again is told from another one with the same id.
"""

import hashlib
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any, Final, Literal, TypeGuard, cast

import msgspec

from huahuo.actors.plugins.words import Language
from huahuo.eventstore.limits import BROWSER_INT_MAX, KEY_BYTES_MAX
from huahuo.eventstore.model import Secret
from huahuo.replay.list_window import LIMIT_MAX
from huahuo.transport.protocol.codes import ErrorCode
from huahuo.transport.protocol.strict_json import (
    VALUES_MAX,
    compact_object,
    decode_closely,
    depth_exceeds,
    field_with_huge,
    field_with_lost_key,
    has_many_powers,
    is_unicode,
    text_of,
    values_exceed,
)
from huahuo.transport.words import en, zh

EVENTS_MAX: Final = 1_000
"""Events of one `publish`."""
DEPTH: Final = 4
"""How deep such a message nests: itself, the list, an event, its fields."""

_LISTED_ID_CHARS_MAX: Final = 64
_BEGIN: Final = b'{"action":"publish","id":"'
_LIST: Final = b',"events":[{'
LIST: Final = (_LIST, len(_BEGIN), len(_BEGIN) + 6 * _LISTED_ID_CHARS_MAX + len(_LIST) + 1)
"""What such a message holds, and where to look for it: each character of an id may be escaped."""

type _Whole = Annotated[int, msgspec.Meta(ge=-BROWSER_INT_MAX, le=BROWSER_INT_MAX)]


class ListedEvent(msgspec.Struct, frozen=True, gc=False):
    """An event of the list. Its fields hold nothing that nests, and no number that a browser rounds."""

    stream: str
    type: str
    fields: dict[str, str | _Whole | float | bool | None]


class _Publish(msgspec.Struct, frozen=True):
    action: Literal["publish"]
    id: Annotated[str, msgspec.Meta(min_length=1, max_length=_LISTED_ID_CHARS_MAX)]
    events: Annotated[list[ListedEvent], msgspec.Meta(min_length=1, max_length=EVENTS_MAX)]


_decode: Final = msgspec.json.Decoder(_Publish).decode
_encode_text: Final = msgspec.json.Encoder().encode


def listed(data: bytes) -> tuple[str, list[ListedEvent]] | None:
    """The id and the events, if `data` is such a message. None: it must be looked at closely.

    Without `LIST` it is none.

    What gives the same bytes again when it is encoded has no member twice, no unknown one, no number out of
    range and no lone surrogate.
    """
    if not data.startswith(_BEGIN):
        return None
    try:
        found = _decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return (found.id, found.events) if _encode_text(found) == data else None


ID_CHARS_MAX = 64
STREAM_CHARS_MAX = 128

type Seq = Annotated[int, msgspec.Meta(ge=0, le=BROWSER_INT_MAX)]
type Check = tuple[Seq, Annotated[str, msgspec.Meta(max_length=ID_CHARS_MAX)]]
"""A seq with its check. A malformed check counts as one that differs: a client with a damaged store then
gets a `reset`, and not the same refusal each time."""
type StreamName = Annotated[str, msgspec.Meta(min_length=1, max_length=STREAM_CHARS_MAX)]


class Invalid(msgspec.Struct, frozen=True):
    """Why a message is refused. `id` is that of the message, if it has a valid one."""

    code: ErrorCode
    message: str
    details: str = ""
    id: str | None = None


class Parsed(msgspec.Struct, frozen=True):
    """A strict JSON object. `action` is "" if it has none."""

    action: str
    id: str | None
    fields: dict[str, Any]

    def __repr__(self) -> str:
        return f"Parsed({len(self.fields)} fields)"


class Resume(msgspec.Struct, frozen=True):
    """Cursors to resume from, and the id of their log.

    An impossible stream name is treated as a stream that the client may not read: only this entry is denied.
    `checks` holds the last check that the client got for each stream.
    """

    log: str | None = None
    cursors: dict[str, Seq] = {}
    checks: dict[str, Check] = {}


class Authenticate(msgspec.Struct, frozen=True):
    """PROTOCOL 3.1. `client` "" means not given. `parts`: the client accepts long messages in parts.

    `language`: of messages to it; None is the service's own.
    """

    token: str
    client: Annotated[str, msgspec.Meta(max_length=ID_CHARS_MAX)] | None = None
    window: Annotated[int, msgspec.Meta(ge=1)] | None = None
    resume: Resume | None = None
    parts: bool = False
    language: Language | None = None

    def __repr__(self) -> str:
        return "Authenticate(token='[hidden]')"


class Subscribe(msgspec.Struct, frozen=True):
    """PROTOCOL 3.2. `after`: a number (with `log`), `head`, `start` or `snapshot`."""

    stream: StreamName
    after: Seq | str = "head"
    log: str | None = None
    check: Check | None = None


class Unsubscribe(msgspec.Struct, frozen=True):
    """PROTOCOL 3.2."""

    stream: StreamName


class Acks(msgspec.Struct, frozen=True):
    """PROTOCOL 5: processed up to these seqs."""

    cursors: dict[StreamName, Seq]


type Key = Annotated[str, msgspec.Meta(max_length=KEY_BYTES_MAX)]
type KeyAndPart = Annotated[list[Key], msgspec.Meta(min_length=2, max_length=2)]
"""A list: in a union with a text that has a bound, msgspec 0.22 reads beyond the end of a tuple's type."""


type Bound = Key | KeyAndPart


class From(msgspec.Struct, frozen=True):
    """Where a follower of a list stands. `bound`: its last row, as [key, part] where there are several parts.

    Without `bound` it has all rows of the list. `seq`: of the state that it has, if it follows one.
    """

    log: Annotated[str, msgspec.Meta(max_length=ID_CHARS_MAX)]
    position: Seq = 0
    of: Annotated[str, msgspec.Meta(max_length=ID_CHARS_MAX)] = ""
    seq: Seq = 0
    bound: Bound | None = None


class Follow(msgspec.Struct, frozen=True, rename={"since": "from"}):
    """A list, a `state` or a `presence` to follow from now on; or (`view`) another limit for a list.

    `data`: what the others are shown of this connection. `count`: the number of rows in place of them.
    """

    list: Annotated[str, msgspec.Meta(max_length=ID_CHARS_MAX)] = ""
    fields: dict[str, Any] = {}
    limit: Annotated[int, msgspec.Meta(ge=1, le=LIMIT_MAX)] = 100
    view: Seq | None = None
    state: StreamName | None = None
    presence: StreamName | None = None
    data: Any = None
    count: bool = False
    since: From | None = None


class Present(msgspec.Struct, frozen=True):
    """Other data of this connection in a presence that it follows."""

    view: Seq
    data: Any = None


class Unfollow(msgspec.Struct, frozen=True):
    """Follow this view no more."""

    view: Seq


class ViewAcks(msgspec.Struct, frozen=True):
    """Of each view, the position of the last `rows` that was applied; and `cursors`, as in `Acks`."""

    views: dict[Annotated[str, msgspec.Meta(max_length=16)], Seq]
    cursors: dict[StreamName, Seq] = {}


def parse(data: str | bytes, *, bytes_max: int, depth_max: int) -> Parsed | Invalid:
    """The message as a JSON object of bounded depth and number of values, without NaN, infinities, duplicate
    keys, lone surrogates or integers that a browser cannot hold.

    The events of a `publish` in the usual form are `ListedEvent`s in place of objects.
    """  # noqa: D205  one sentence
    value: dict[str, Any] | None = None
    size = len(data)
    if (
        size <= bytes_max
        and (size <= VALUES_MAX or not (_is_escaped(data) or values_exceed(data)))
        and not has_many_powers(data)
    ):
        if depth_max >= DEPTH and data.__class__ is bytes and data.find(*LIST) > 0:
            found = listed(data)
            if found is not None:
                name, events = found
                return Parsed("publish", name, {"action": "publish", "id": name, "events": events})
        value = compact_object(data, depth_max)
    if value is None:
        return parse_closely(data, bytes_max=bytes_max, depth_max=depth_max)
    request_id, action = value.get("id"), value.get("action")
    if request_id.__class__ is str and 1 <= len(request_id) <= ID_CHARS_MAX and action.__class__ is str:
        return Parsed(action, request_id, value)
    return _named(value)


def _is_escaped(data: str | bytes) -> bool:
    """Whether a character is written by its number, as no encoder of ours does: the short way would fail."""
    return b"\\u" in data if isinstance(data, bytes) else "\\u" in data


def parse_closely(data: str | bytes, *, bytes_max: int, depth_max: int) -> Parsed | Invalid:
    """As `parse`, for messages of any form."""
    text = text_of(data) if len(data) <= bytes_max else None
    if text is None:
        return Invalid(ErrorCode.BAD_MESSAGE, zh.NO_TEXT)
    if values_exceed(text):
        return _beyond(zh.TOO_MANY_VALUES, "values", VALUES_MAX, text)
    if depth_exceeds(text, depth_max):
        return _beyond(zh.TOO_DEEP, "levels", depth_max, text)
    try:
        value, fault, huge = decode_closely(text)
    except (ValueError, RecursionError):
        return Invalid(ErrorCode.BAD_MESSAGE, zh.NO_JSON)
    if not isinstance(value, dict):
        return Invalid(ErrorCode.BAD_MESSAGE, zh.NO_OBJECT)
    _, request_id = _id_of(value)
    if fault:
        return Invalid(ErrorCode.BAD_MESSAGE, zh.NO_STRICT_JSON, fault, request_id)
    if huge:
        return invalid_field(field_with_huge(value), en.BEYOND.format(BROWSER_INT_MAX), request_id)
    return _named(value)


_FRONT = re.compile(
    rf'\s*{{\s*"action"\s*:\s*"\w*"\s*,\s*"id"\s*:\s*"([\w.:/@-]{{1,{ID_CHARS_MAX}}})"', re.ASCII
)


def _beyond(message: str, what: str, bound: int, text: str) -> Invalid:
    """The refusal of a message that is not read, with its id where our clients write it: they wait for it."""
    front = _FRONT.match(text)
    why = f"{what}: {en.BEYOND.format(bound)}"
    return Invalid(ErrorCode.BAD_MESSAGE, message.format(bound), why, front[1] if front else None)


def _named(value: dict[str, Any]) -> Parsed | Invalid:
    """The message with its id and action."""
    has_id, request_id = _id_of(value)
    if has_id and request_id is None:
        return invalid_field("id", en.TEXT_OF.format(ID_CHARS_MAX), None)
    action = value.get("action", "")
    if not isinstance(action, str):
        return invalid_field("action", en.TEXT_WANTED, request_id)
    return Parsed(action, request_id, value)


def convert[T](parsed: Parsed, wanted: type[T]) -> T | Invalid:
    """The message's fields (without `action` and `id`) as `wanted`."""
    fields = {**parsed.fields}
    fields.pop("action", None)
    fields.pop("id", None)
    return converted(fields, parsed.id, wanted)


def converted[T](
    fields: dict[str, Any], request_id: str | None, wanted: type[T], *, strict: bool = True
) -> T | Invalid:
    """As `convert`, of fields without `action` and `id`; they may become the value itself.

    Not `strict`: numbers and truths may be texts.
    """
    if wanted is dict:
        return cast("T", fields)
    try:
        return msgspec.convert(fields, wanted, strict=strict, dec_hook=_secret)
    except msgspec.ValidationError as error:
        if _KEY not in str(error):
            return _refused(str(error), request_id)
    return _with_numbers_as_keys(fields, request_id, wanted)


def _with_numbers_as_keys[T](fields: dict[str, Any], request_id: str | None, wanted: type[T]) -> T | Invalid:
    """As `converted`: a dict whose keys are numbers has them as texts in JSON."""
    try:
        read = msgspec.convert(fields, wanted, strict=True, str_keys=True, dec_hook=_secret)
    except msgspec.ValidationError as error:
        return _refused(str(error), request_id)
    name = field_with_lost_key(fields, msgspec.to_builtins(read, enc_hook=str))
    return read if name is None else invalid_field(name, en.NOT_ALLOWED, request_id)


def _id_of(fields: dict[str, Any]) -> tuple[bool, str | None]:
    value = fields.get("id")
    return value is not None, value if is_id(value) else None


def is_id(value: object, chars_max: int = ID_CHARS_MAX) -> TypeGuard[str]:
    """Whether a value can be the id of a command."""
    return isinstance(value, str) and 1 <= len(value) <= chars_max and is_unicode(value)


def _secret(wanted: type, value: object) -> object:
    if wanted is Secret and isinstance(value, str):
        return Secret(value)
    raise ValueError(en.TEXT_WANTED)


_MISSING = re.compile(r"Object missing required field `(\w+)`")
_KEY = " - at `key` in "
_PATH = re.compile(r" - at (?:`key` in )?`\$\.(\w+)([\w.\[\]]*)")
"""The field of the message, and the way on inside it. The library names no key of a client in it."""
_SAFE = re.compile(
    r"Expected `[^`]*`(?: of length [<>=]+ \d+| [<>=]+ -?\d+|, got `\w+`| matching regex '[^']*')?"
)
"""Error texts of the library that name only types and limits. Other texts may repeat a value."""
_FORMS = {
    "Invalid RFC3339 encoded datetime": en.DATETIME_WANTED,
    "Invalid RFC3339 encoded date": en.DATE_WANTED,
    "Invalid RFC3339 encoded time": en.TIME_WANTED,
    "Invalid ISO8601 duration": en.DURATION_WANTED,
    "Invalid UUID": en.UUID_WANTED,
    "Invalid decimal string": en.DECIMAL_WANTED,
}
"""What is wanted where the library says only that a text has another form."""


def _refused(text: str, request_id: str | None) -> Invalid:
    path = _PATH.search(text)
    missing = _MISSING.search(text)
    if missing:
        if path is None:
            return invalid_field(missing[1], en.MISSING, request_id)
        inside = f"{path[1]}{path[2]}.{missing[1]}: {en.MISSING}"
        return Invalid(ErrorCode.INVALID_FIELD, zh.INVALID_FIELD_NAMED.format(path[1]), inside, request_id)
    safe = _SAFE.match(text)
    name = path[1] if path else ""
    why = safe[0] if safe else _FORMS.get(text.partition(" - at ")[0], en.NOT_ALLOWED)
    return invalid_field(name, why, request_id)


_FIELD_NAME = re.compile(r"\w{1,64}", re.ASCII)


def invalid_field(name: str, why: str, request_id: str | None) -> Invalid:
    """The refusal of one field. The name may be the client's text: it is shown if it looks like a name."""
    if not _FIELD_NAME.fullmatch(name):
        return Invalid(ErrorCode.INVALID_FIELD, zh.INVALID_FIELD, why, request_id)
    return Invalid(ErrorCode.INVALID_FIELD, zh.INVALID_FIELD_NAMED.format(name), f"{name}: {why}", request_id)


class _PlainAck(msgspec.Struct, frozen=True):
    """An ack and nothing else."""

    action: Literal["ack"]
    cursors: dict[StreamName, Seq]


_ACK_DIGITS_MAX = len(str(BROWSER_INT_MAX)) - 1
"""A number of this many digits is never beyond `BROWSER_INT_MAX`."""
_encode = msgspec.json.Encoder().encode
_ack_decoder = msgspec.json.Decoder(_PlainAck)


def plain_ack(data: bytes) -> dict[str, int] | None:
    """The cursors if `data` is an ack in the usual form. None: it must go through `incoming.parse`.

    If encoding the decoded ack gives the same bytes, it has no repeated or unknown members.
    """
    if not data.startswith(b'{"action":"ack",'):
        return None
    try:
        ack = _ack_decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return ack.cursors if _encode(ack) == data else None


def front_of_ack(text: bytes, seq: int) -> bytes:
    """What comes before the number in `text`, a `plain_ack` of one stream up to `seq`."""
    return text[: -len(b"%d}}" % seq)]


def seq_of_ack(text: bytes, front: bytes) -> int:
    """The seq, if `text` is a `plain_ack` with this `front_of_ack`. -1: `plain_ack` must look at it.

    Most acks differ from the last one of their connection in the number only.
    """
    if not (text.startswith(front) and text.endswith(b"}}")):
        return -1
    digits = text[len(front) : -2]
    count = len(digits)
    if not digits.isdigit() or count > _ACK_DIGITS_MAX or (count > 1 and digits.startswith(b"0")):
        return -1
    return int(digits)


_encode_sorted = msgspec.json.Encoder(order="sorted").encode


def fingerprint(fields: Mapping[str, Any], key: bytes) -> bytes:
    """A keyed hash of a command's content: its fields without `id`, in a canonical form.

    Keyed, because the fields may hold a password and the hash is stored.
    """
    content = {**fields}
    content.pop("id", None)
    return fingerprint_without_id(content, keyed(key))


def fingerprint_without_id(content: Mapping[str, Any], fresh: "hashlib.blake2b") -> bytes:
    """As `fingerprint`, of fields that have no `id`; `fresh` is `keyed` and stays as it is."""
    hashed = fresh.copy()
    hashed.update(_encode_sorted(content))
    return hashed.digest()


@lru_cache(maxsize=4)
def keyed(key: bytes) -> "hashlib.blake2b":
    """To copy: making a hash from its key costs as much as hashing a short command."""
    return hashlib.blake2b(digest_size=16, key=key)
