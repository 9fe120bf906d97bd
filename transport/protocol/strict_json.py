"""JSON of strangers, read strictly: no key twice, no NaN, no lone surrogate, no huge number, no depth. Pure.

`compact_object` reads in a fifth of the time what encoders of JSON write. `decode_closely` reads the
rest, and names what is wrong with it.
"""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from huahuo.eventstore.limits import BROWSER_INT_MAX
from huahuo.transport.words import en

VALUES_MAX = 100_000
"""Values of one message: each costs up to 70 bytes of memory and half a microsecond of the loop, and may be
three bytes long."""

_INT_DIGITS_MAX = len(str(BROWSER_INT_MAX)) + 1  # with a sign
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_LONG_NUMBER = b"0" * 16
"""Fewer digits are always within `BROWSER_INT_MAX`."""
_DIGITS_AS_ZEROS = bytes(ord("0") if code in b"0123456789" else ord(" ") for code in range(256))
_POWER = b"0e000"
_AS_POWERS = bytes(ord("e") if code in b"eE" else zero for code, zero in enumerate(_DIGITS_AS_ZEROS))
_POWERS_MAX = 64
_POWERS_BYTES_MIN = 512
"""A shorter message has few such numbers, whatever it says."""
_NUMBER = re.compile(rb"[0-9][0-9.eE+-]*")
_NO_BRACKET = bytes(set(range(256)) - set(b"[]{}"))
_HUGE = object()

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_format = msgspec.json.format


def compact_object(data: str | bytes, depth_max: int) -> dict[str, Any] | None:
    """The object, if it is written as encoders of JSON write it, with spaces or without. None: look closely.

    What gives the same bytes again when it is encoded has no key twice, no number out of range, no NaN and no
    lone surrogate. This takes a fifth of the time of `parse_closely`.
    """
    try:
        raw = data.encode() if isinstance(data, str) else data
        is_flat = raw.find(b"{", 1) < 0 and b"[" not in raw
        if not is_flat and _has_long_number(raw):
            return None
        value = _decode(raw)
        if value.__class__ is not dict:
            return None
        if is_flat:
            # Most commands have texts only, and so no number to look for.
            if not _all_texts(value) and _has_long_number(raw):
                return None
        # A message of few brackets cannot be too deep.
        elif raw.count(b"{") + raw.count(b"[") > depth_max and _is_deeper(value, depth_max):
            return None
        encoded = _encode(value)
        # Without the spaces between its parts, which `json.dumps` writes, the rest is as it came.
        return value if encoded == raw or encoded == _format(raw, indent=-1) else None
    except (ValueError, RecursionError):
        return None


def _all_texts(fields: Mapping[str, Any]) -> bool:
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


def decode_closely(text: str) -> tuple[object, str, bool]:
    """The value, what makes it no strict JSON ("" if nothing), and whether a number in it is huge.

    Raises:
        ValueError: it is no JSON.
        RecursionError: it is too deep.
    """
    faults = _Faults(looks_at_numbers=_has_long_number(text.encode("utf-8", "surrogatepass")))
    value = faults.decoder.decode(text)
    if not faults.seen and _SURROGATE.search(text) and _has_lone_surrogate(value):
        faults.seen = en.LONE_SURROGATE
    return value, faults.seen, faults.huge


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
            self.seen = en.KEY_TWICE
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
            self.seen = en.OUT_OF_RANGE
        return value

    def _constant(self, _name: str) -> None:
        self.seen = en.NOT_FINITE


def text_of(data: str | bytes) -> str | None:
    """The data as text. None: it is not UTF-8, or has a lone surrogate."""
    if isinstance(data, str):
        return data if is_unicode(data) else None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def depth_exceeds(text: str, depth_max: int) -> bool:
    """Whether brackets nest too deeply. Most messages have too few brackets for that.

    Removes the innermost pairs, one layer a pass, without recursion and without a loop over characters.
    """
    if text.count("[") + text.count("{") <= depth_max:
        return False
    brackets = _outside_strings(text.encode(errors="replace")).translate(None, _NO_BRACKET)
    for _ in range(depth_max):
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
    return len(brackets) > 0


def values_exceed(data: str | bytes) -> bool:
    """Whether JSON has more than `VALUES_MAX` values. An empty object or list counts twice."""
    if len(data) <= VALUES_MAX:
        return False
    raw = data.encode(errors="replace") if isinstance(data, str) else data
    return _values(raw) > VALUES_MAX and _values(_outside_strings(raw)) > VALUES_MAX


def has_many_powers(data: str | bytes) -> bool:
    """Whether many numbers have an exponent of three digits, as `1e308`.

    `compact_object` and `listed` need up to 15 microseconds for each, and `decode_closely` a quarter of one.
    """
    if len(data) <= _POWERS_BYTES_MIN:
        return False
    raw = data.encode(errors="replace") if isinstance(data, str) else data
    return _powers(raw) > _POWERS_MAX and _powers(_outside_strings(raw)) > _POWERS_MAX


def has_number_out_of_range(data: bytes) -> bool:
    """Whether valid JSON has a number that is infinite as a double, as `1e999` and 5,000 digits are."""
    if not (_has_long_number(data) or _powers(data)):
        return False
    return any(math.isinf(float(number)) for number in _NUMBER.findall(_outside_strings(data)))


def _powers(raw: bytes) -> int:
    return raw.translate(_AS_POWERS, b"+-").count(_POWER)


def _values(raw: bytes) -> int:
    """A value stands behind each comma and each opening bracket, but for empty brackets."""
    return raw.count(b",") + raw.count(b"[") + raw.count(b"{")


def _outside_strings(raw: bytes) -> bytes:
    """Only these two escapes matter. A pattern for all of them would take thirty times as long."""
    return b"".join(raw.replace(rb"\\", b"").replace(rb"\"", b"").split(b'"')[::2])


def is_unicode(text: str) -> bool:
    """Whether it has no lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _has_lone_surrogate(value: object) -> bool:
    match value:
        case str():
            return not is_unicode(value)
        case dict():
            return any(not is_unicode(k) or _has_lone_surrogate(v) for k, v in value.items())
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


def field_with_huge(fields: dict[str, Any]) -> str:
    """The name of the first field that holds a number beyond `BROWSER_INT_MAX`."""
    return next(name for name, value in fields.items() if _holds_huge(value))


def field_with_lost_key(fields: dict[str, Any], read: dict[str, Any]) -> str | None:
    """The name of the first field with a dict whose keys were read as numbers, one of them not faithfully.

    Two texts are one number, or it is beyond `BROWSER_INT_MAX`, infinite or none.
    """
    return next((name for name in fields if name in read and _lost_key(fields[name], read[name])), None)


def _lost_key(given: object, read: object) -> bool:
    if isinstance(given, list) and isinstance(read, list | tuple):
        return any(map(_lost_key, given, read))
    if not (isinstance(given, dict) and isinstance(read, dict)):
        return False
    numbers = [key for key in read if isinstance(key, int | float)]
    if not numbers:
        return any(_lost_key(given[key], read[key]) for key in given.keys() & read.keys())
    if len(given) != len(read) or not all(-BROWSER_INT_MAX <= key <= BROWSER_INT_MAX for key in numbers):
        return True
    return any(map(_lost_key, given.values(), read.values()))
