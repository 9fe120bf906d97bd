"""The parser of client messages: bytes in, typed values or a typed refusal out (PROTOCOL 3, 6). Pure.

It has two steps, because before authentication only a message's action is read: `parse` makes a strict JSON
object, `convert` makes the typed value. A refusal names the field and never repeats its value: a client may
put a password into the wrong field.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any, Literal, cast

import msgspec

from huahuo.actors.plugins.words import Language
from huahuo.eventstore.limits import BROWSER_INT_MAX
from huahuo.eventstore.model import Secret
from huahuo.transport.protocol import listed
from huahuo.transport.protocol.codes import ErrorCode
from huahuo.transport.words import zh

ID_CHARS_MAX = 64
STREAM_CHARS_MAX = 128

_INT_DIGITS_MAX = len(str(BROWSER_INT_MAX)) + 1  # with a sign

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


class _PlainAck(msgspec.Struct, frozen=True):
    """An ack and nothing else."""

    action: Literal["ack"]
    cursors: dict[StreamName, Seq]


_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_encode_sorted = msgspec.json.Encoder(order="sorted").encode
_ack_decoder = msgspec.json.Decoder(_PlainAck)


def plain_ack(data: bytes) -> dict[str, int] | None:
    """The cursors if `data` is an ack in the usual form. None: it must go through `parse`.

    If encoding the decoded ack gives the same bytes, it has no repeated or unknown members.
    """
    if not data.startswith(b'{"action":"ack",'):
        return None
    try:
        ack = _ack_decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return ack.cursors if _encode(ack) == data else None


def parse(data: str | bytes, *, bytes_max: int, depth_max: int) -> Parsed | Invalid:
    """The message as a JSON object of bounded depth, without NaN, infinities, duplicate keys,
    lone surrogates or integers that a browser cannot hold.

    The events of a `publish` in the usual form are `ListedEvent`s in place of objects.
    """  # noqa: D205  one sentence
    value: dict[str, Any] | None = None
    if len(data) <= bytes_max:
        if depth_max >= listed.DEPTH and data.__class__ is bytes and data.find(*listed.LIST) > 0:
            found = listed.listed(data)
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


def compact_object(data: str | bytes, depth_max: int) -> dict[str, Any] | None:
    """The object, if it is written as encoders of compact JSON write it. None: look at it closely.

    What gives the same bytes again when it is encoded has no key twice, no number out of range, no NaN and no
    lone surrogate. This takes a fifth of the time of `parse_closely`.
    """
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    is_flat = raw.find(b"{", 1) < 0 and b"[" not in raw
    if not is_flat and _has_long_number(raw):
        return None
    try:
        value = _decode(raw)
        if value.__class__ is not dict:
            return None
        if is_flat:
            # Most commands have texts only, and so no number to look for.
            if not all_texts(value) and _has_long_number(raw):
                return None
        # A message of few brackets cannot be too deep.
        elif raw.count(b"{") + raw.count(b"[") > depth_max and _is_deeper(value, depth_max):
            return None
        return value if _encode(value) == raw else None
    except (ValueError, RecursionError):
        return None


def all_texts(fields: Mapping[str, Any]) -> bool:
    """Whether every value is a text."""
    for value in fields.values():  # noqa: SIM110  a generator takes three times as long
        if value.__class__ is not str:
            return False
    return True


def _is_deeper(value: dict[str, Any], depth_max: int) -> bool:
    """Whether objects and lists nest more than `depth_max` deep. Layer by layer, without recursion."""
    layer: list[Any] = [value]
    for _ in range(depth_max):
        inner: list[Any] = []
        for one in layer:
            found = one.values() if one.__class__ is dict else one
            inner += [each for each in found if each.__class__ is dict or each.__class__ is list]
        if not inner:
            return False
        layer = inner
    return True


def parse_closely(data: str | bytes, *, bytes_max: int, depth_max: int) -> Parsed | Invalid:
    """As `parse`, for messages of any form."""
    text = _text(data, bytes_max)
    if text is None:
        return Invalid(ErrorCode.BAD_MESSAGE, zh.NO_TEXT)
    if _depth_exceeds(text, depth_max):
        return Invalid(ErrorCode.BAD_MESSAGE, zh.TOO_DEEP.format(depth_max))
    faults = _Faults(looks_at_numbers=_has_long_number(text.encode("utf-8", "surrogatepass")))
    try:
        value = faults.decoder.decode(text)
    except (ValueError, RecursionError):
        return Invalid(ErrorCode.BAD_MESSAGE, zh.NO_JSON)
    if not isinstance(value, dict):
        return Invalid(ErrorCode.BAD_MESSAGE, zh.NO_OBJECT)
    _, request_id = _id_of(value)
    if faults.seen or (_SURROGATE.search(text) and _has_lone_surrogate(value)):
        what = faults.seen or "a lone surrogate"
        return Invalid(ErrorCode.BAD_MESSAGE, zh.NO_STRICT_JSON, what, request_id)
    if faults.huge:
        return invalid_field(_field_with_huge(value), f"beyond {BROWSER_INT_MAX}", request_id)
    return _named(value)


def _named(value: dict[str, Any]) -> Parsed | Invalid:
    """The message with its id and action."""
    has_id, request_id = _id_of(value)
    if has_id and request_id is None:
        return invalid_field("id", f"a text of 1 to {ID_CHARS_MAX} characters is needed", None)
    action = value.get("action", "")
    if not isinstance(action, str):
        return invalid_field("action", "a text is needed", request_id)
    return Parsed(action, request_id, value)


def convert[T](parsed: Parsed, wanted: type[T]) -> T | Invalid:
    """The message's fields (without `action` and `id`) as `wanted`."""
    fields = {**parsed.fields}
    fields.pop("action", None)
    fields.pop("id", None)
    return converted(fields, parsed.id, wanted)


def converted[T](fields: dict[str, Any], request_id: str | None, wanted: type[T]) -> T | Invalid:
    """As `convert`, of fields without `action` and `id`; they may become the value itself."""
    if wanted is dict:
        return cast("T", fields)
    try:
        return msgspec.convert(fields, wanted, strict=True, dec_hook=_secret)
    except msgspec.ValidationError as error:
        return _refused(str(error), request_id)


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


_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_LONG_NUMBER = b"0" * 16
"""Fewer digits are always within `BROWSER_INT_MAX`."""
_DIGITS_AS_ZEROS = bytes(ord("0") if code in b"0123456789" else ord(" ") for code in range(256))
_ESCAPE = re.compile(r"\\.", re.DOTALL)
_NO_BRACKET = bytes(set(range(256)) - set(b"[]{}"))
_HUGE = object()


def _has_long_number(text: bytes) -> bool:
    """Whether there may be a number beyond `BROWSER_INT_MAX`. A pattern would take forty times as long."""
    return _LONG_NUMBER in text.translate(_DIGITS_AS_ZEROS)


class _Faults:
    """A JSON decoder that notes faults and goes on, so that the message's `id` is still found."""

    def __init__(self, *, looks_at_numbers: bool) -> None:
        self.seen = ""
        self.huge = False
        self.decoder = json.JSONDecoder(
            object_pairs_hook=self._object,
            parse_int=self._int if looks_at_numbers else None,  # a thousand ids would be a thousand calls
            parse_float=self._float,
            parse_constant=self._constant,
        )

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) != len(pairs):
            self.seen = "a key twice"
        return value

    def _int(self, digits: str) -> object:
        # Checked before int(), which takes quadratic time: a number may have a million digits.
        if len(digits) <= _INT_DIGITS_MAX:
            value = int(digits)
            if -BROWSER_INT_MAX <= value <= BROWSER_INT_MAX:
                return value
        self.huge = True
        return _HUGE

    def _float(self, digits: str) -> float:
        value = float(digits)
        if not math.isfinite(value):
            self.seen = "a number out of range"
        return value

    def _constant(self, _name: str) -> None:
        self.seen = "NaN or Infinity"


def _text(data: str | bytes, bytes_max: int) -> str | None:
    if len(data) > bytes_max:
        return None
    if isinstance(data, str):
        return data
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _depth_exceeds(text: str, depth_max: int) -> bool:
    """Whether brackets nest too deeply. Most messages have too few brackets for that.

    Removes the innermost pairs, one layer a pass, without recursion and without a loop over characters.
    """
    if text.count("[") + text.count("{") <= depth_max:
        return False
    outside_strings = "".join(_ESCAPE.sub("", text).split('"')[::2])
    brackets = outside_strings.encode(errors="replace").translate(None, _NO_BRACKET)
    for _ in range(depth_max):
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
    return len(brackets) > 0


def _id_of(fields: dict[str, Any]) -> tuple[bool, str | None]:
    value = fields.get("id")
    valid = isinstance(value, str) and 1 <= len(value) <= ID_CHARS_MAX and _is_unicode(value)
    return value is not None, value if valid else None


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _has_lone_surrogate(value: object) -> bool:
    match value:
        case str():
            return not _is_unicode(value)
        case dict():
            return any(not _is_unicode(k) or _has_lone_surrogate(v) for k, v in value.items())
        case list():
            return any(_has_lone_surrogate(item) for item in value)
        case _:
            return False


def _holds_huge(value: object) -> bool:
    match value:
        case dict():
            return any(_holds_huge(item) for item in value.values())
        case list():
            return any(_holds_huge(item) for item in value)
        case _:
            return value is _HUGE


def _field_with_huge(fields: dict[str, Any]) -> str:
    return next(name for name, value in fields.items() if _holds_huge(value))


def _secret(wanted: type, value: object) -> object:
    if wanted is Secret and isinstance(value, str):
        return Secret(value)
    raise ValueError("a text is needed")


_MISSING = re.compile(r"Object missing required field `(\w+)`")
_PATH = re.compile(r" - at `\$\.(\w+)")
_SAFE = re.compile(
    r"Expected `[^`]*`(?: of length [<>=]+ \d+| [<>=]+ -?\d+|, got `\w+`| matching regex '[^']*')?"
)
"""Error texts of the library that name only types and limits. Other texts may repeat a value."""


def _refused(text: str, request_id: str | None) -> Invalid:
    missing = _MISSING.search(text)
    if missing:
        return invalid_field(missing[1], "it is missing", request_id)
    path = _PATH.search(text)
    safe = _SAFE.match(text)
    name = path[1] if path else ""
    return invalid_field(name, safe[0] if safe else "this value is not allowed", request_id)


_FIELD_NAME = re.compile(r"\w{1,64}", re.ASCII)


def invalid_field(name: str, why: str, request_id: str | None) -> Invalid:
    """The refusal of one field. The name may be the client's text: it is shown if it looks like a name."""
    if not _FIELD_NAME.fullmatch(name):
        return Invalid(ErrorCode.INVALID_FIELD, zh.INVALID_FIELD, why, request_id)
    return Invalid(ErrorCode.INVALID_FIELD, zh.INVALID_FIELD_NAMED.format(name), f"{name}: {why}", request_id)
