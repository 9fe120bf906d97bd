"""From (stream, type, fields) to an event of the log: checked by `publish_rules`, then encoded. Pure.

What was allowed once is remembered, by stream and by type: a flood of events pays for its fields only.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from huahuo.actors.plugins.actions import Registry
from huahuo.actors.plugins.calls import Refusal
from huahuo.eventstore.ambient import rfc3339
from huahuo.eventstore.limits import BROWSER_INT_MAX
from huahuo.eventstore.model import NewEvent
from huahuo.transport.commands.publish_rules import (
    EVENT_BYTES_MAX,
    NOTIFICATION,
    RESERVED_FIELDS,
    refuse_event,
    wrong_number,
)
from huahuo.transport.protocol.codes import ErrorCode
from huahuo.transport.protocol.english import translated
from huahuo.transport.words import en, zh

_REMEMBERED_MAX: Final = 16_384
"""How many streams, and how many types, are remembered: some 2 MB of the longest names each."""
_TOO_LONG: Final = bytes(EVENT_BYTES_MAX + 1)
_encode: Final = msgspec.json.Encoder().encode


class PublishRefused(ValueError):  # noqa: N818  a refusal, for callers that do not speak the protocol
    """The event breaks a rule. It was not written."""

    def __init__(self, refusal: Refusal) -> None:
        said = translated(refusal.message)
        super().__init__(f"{said} ({refusal.details})" if refusal.details else said)
        self.refusal = refusal


class EventMaker:
    """Makes published events. `registry` knows the types and kinds that are reserved; it is filled before."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._streams: set[str] = set()
        self._fronts: dict[str, bytes] = {}
        """By type, the body up to its timestamp."""
        self._now_ms = -1
        self._stamp = b""
        """The timestamp and the comma behind it."""

    def make(
        self, rows: Iterable[tuple[object, object, Mapping[str, Any]]], now_ms: int
    ) -> tuple[tuple[NewEvent, ...], int]:
        """The events of (stream, type, fields), all or none, and the bytes of their bodies.

        Raises PublishRefused.
        """
        if now_ms != self._now_ms:
            self._stamp_at(now_ms)
        streams, fronts, stamp = self._streams, self._fronts, self._stamp
        is_free, encode = RESERVED_FIELDS.isdisjoint, _encode
        stamped: dict[str, bytes] = {}
        made: list[NewEvent] = []
        size = all_bytes = 0
        for row in rows:
            try:
                stream, type_, fields = row
            except (TypeError, ValueError):
                raise _no_row(len(made)) from None
            if (
                type(stream) is str
                and type(type_) is str
                and type(fields) is dict
                and fields
                and stream in streams
                and type_ in fronts
                and is_free(fields)
                and _is_plain(fields)
            ):
                front = stamped.get(type_)
                if front is None:
                    front = stamped[type_] = fronts[type_] + stamp
                try:
                    body = front + encode(fields)[1:]
                except (TypeError, ValueError):  # `_first` refuses it
                    body = _TOO_LONG
                if (size := len(body)) <= EVENT_BYTES_MAX:
                    made.append(NewEvent(stream, type_, body))
                    all_bytes += size
                    continue
            first = self._first(stream, type_, fields, now_ms)
            made.append(first)
            all_bytes += len(first.body)
        return tuple(made), all_bytes

    def unchecked(self, stream: str, type_: str, fields: Mapping[str, Any], now_ms: int) -> NewEvent:
        """The event, on any stream. Raises PublishRefused: the fields are no JSON, or too large."""
        return NewEvent(stream, type_, self._body(_front(type_), fields, now_ms))

    def _first(self, stream: object, type_: object, fields: Mapping[str, Any], now_ms: int) -> NewEvent:
        registry = self._registry
        refusal = refuse_event(stream, type_, fields, registry.event_types, registry.guarded)
        if refusal is not None:
            raise PublishRefused(refusal)
        assert isinstance(stream, str), "else it was refused"
        assert isinstance(type_, str), "else it was refused"
        if type_ != NOTIFICATION:  # whose fields have rules of their own
            _remember(self._streams, stream)
            if len(self._fronts) >= _REMEMBERED_MAX:
                self._fronts.clear()
            self._fronts[type_] = _front(type_)
        return self.unchecked(stream, type_, fields, now_ms)

    def _body(self, front: bytes, fields: Mapping[str, Any], now_ms: int) -> bytes:
        try:
            rest = _encode(fields if type(fields) is dict else {**fields})
            # The encoder writes `null` for NaN and infinities.
            wrong = None if _is_plain(fields) else wrong_number(msgspec.to_builtins(fields))
        except (TypeError, ValueError, OverflowError, RecursionError):
            raise PublishRefused(Refusal(ErrorCode.INVALID_FIELD, zh.NO_JSON_FIELD)) from None
        if wrong is not None:
            raise PublishRefused(Refusal(ErrorCode.INVALID_FIELD, zh.NO_JSON_FIELD, wrong))
        if now_ms != self._now_ms:
            self._stamp_at(now_ms)
        body = front + (self._stamp + rest[1:] if fields else self._stamp[:-1] + b"}")
        if len(body) > EVENT_BYTES_MAX:
            raise PublishRefused(
                Refusal(ErrorCode.TOO_LARGE, zh.EVENT_TOO_LARGE, en.BYTES_MOST.format(EVENT_BYTES_MAX))
            )
        return body

    def _stamp_at(self, now_ms: int) -> None:
        self._now_ms, self._stamp = now_ms, b'"' + rfc3339(now_ms).encode() + b'",'


def _no_row(number: int) -> PublishRefused:
    why = f"events[{number}]: {en.ROW_FORM.format()}"
    return PublishRefused(Refusal(ErrorCode.INVALID_FIELD, zh.INVALID_FIELD, why))


def _front(type_: str) -> bytes:
    return b'{"type":' + _encode(type_) + b',"timestamp":'


def _remember(names: set[str], name: str) -> None:
    if len(names) >= _REMEMBERED_MAX:
        names.clear()
    names.add(name)


def _is_plain(
    fields: Mapping[str, Any], int_min: int = -BROWSER_INT_MAX, int_max: int = BROWSER_INT_MAX
) -> bool:
    """Whether every value is a text, a truth, nothing, or a number that a browser reads as it is."""
    for value in fields.values():
        kind = type(value)
        if kind is str:
            continue
        if kind is int:
            if not int_min <= value <= int_max:
                return False
        elif kind is float:
            if not math.isfinite(value):
                return False
        elif kind is not bool and value is not None:
            return False
    return True
