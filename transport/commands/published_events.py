"""From (stream, type, fields) to an event of the log: checked by rules, then encoded. Pure.

Each rule for published events and for revocations gives a refusal or None. What was allowed once is
remembered, by stream and by type: a flood of events pays for its fields only.

The types of events that users have published are bounded, as the log keeps each in memory and on the disk
for good (`TypesOfUsers`). They are counted since the start of the service; types that stand in the log are
nobody's. Administrators, the application and its entities are not bounded.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final

import msgspec

from huahuo.actors.domain.storable import NO_TYPES, is_own_stream
from huahuo.actors.plugins.actions import Registry
from huahuo.actors.plugins.calls import USER_ID_RULE, Refusal, user_id_of
from huahuo.eventstore.ambient import rfc3339
from huahuo.eventstore.limits import BROWSER_INT_MAX
from huahuo.eventstore.model import NewEvent
from huahuo.transport.access.claims import JTI_CHARS_MAX
from huahuo.transport.protocol.codes import ErrorCode
from huahuo.transport.protocol.problem import translated
from huahuo.transport.words import en, zh

SYSTEM_STREAM = "system"
NOTIFICATION = "system_notification"
EVENT_BYTES_MAX = 256 << 10
"""50 such events fit into one snapshot of 16 MiB."""

LEVELS = ("info", "warning", "error")

RESERVED_FIELDS = frozenset({"stream", "seq", "timestamp", "in", "type"})
"""Fields that the log or the envelope sets."""

_TYPE = re.compile(r"[A-Za-z0-9_.:/-]{1,64}")


def _invalid(details: str) -> Refusal:
    return Refusal(ErrorCode.INVALID_FIELD, zh.INVALID_FIELD, details)


def refuse_event(
    stream: object,
    type_: object,
    fields: object,
    domain_types: Collection[str],
    guarded: Collection[str] = (),
) -> Refusal | None:
    """Why this event may not be published, None if it may. `guarded`: kinds that only entities write."""
    if not isinstance(stream, str) or not is_own_stream(stream, guarded):
        return _invalid(f"stream: {en.OWN_STREAM}")
    if not isinstance(type_, str) or not _TYPE.fullmatch(type_):
        return _invalid(f"type: {en.TYPE_FORM}")
    notification = type_ == NOTIFICATION
    if type_ in NO_TYPES or (type_ in domain_types and not notification):
        return _invalid(f"type: {en.TYPE_TAKEN}")
    if notification and stream != SYSTEM_STREAM:
        return _invalid(f"type: {en.TYPE_OF_SYSTEM}")
    if not isinstance(fields, Mapping):
        return _invalid(f"fields: {en.FIELDS_FORM}")
    taken = sorted(RESERVED_FIELDS.intersection(fields))
    if taken:
        return _invalid(f"{taken[0]}: {en.GIVEN_BY_LOG}")
    return _refuse_notification(fields) if notification else None


def refuse_revocation(fields: Mapping[str, Any]) -> Refusal | None:
    """Why this does not name one user or one token to revoke, None if it does."""
    if set(fields) == {"user_id"}:
        return _invalid(f"user_id: {USER_ID_RULE}") if user_id_of(fields["user_id"]) is None else None
    if set(fields) == {"jti"}:
        jti = fields["jti"]
        if isinstance(jti, str) and 0 < len(jti) <= JTI_CHARS_MAX:
            return None
        return _invalid(f"jti: {en.TEXT_HAS.format(JTI_CHARS_MAX)}")
    return _invalid(en.ONE_OF_TWO)


def wrong_number(value: object) -> str | None:
    """Why `value` may not be sent: a number that JSON cannot hold or a browser would round. None: it may.

    Raises:
        RecursionError: `value` is nested too deeply.
    """
    match value:
        case float() if not math.isfinite(value):
            return en.NOT_FINITE_HERE
        case int() if abs(value) > BROWSER_INT_MAX:
            return en.INTEGER_BEYOND.format(BROWSER_INT_MAX)
        case dict():
            found = map(wrong_number, value.values())
        case list() | tuple():
            found = map(wrong_number, value)
        case _:
            return None
    return next((what for what in found if what is not None), None)


def _refuse_notification(fields: Mapping[str, Any]) -> Refusal | None:
    if not isinstance(fields.get("message"), str):
        return _invalid(f"message: {en.TEXT_MUST}")
    if fields.get("level") not in LEVELS:
        return _invalid(f"level: {en.LEVEL_MUST}")
    return None


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


TYPES_PER_USER: Final = 1_000
TYPES_MAX: Final = 10_000


class TypesOfUsers:
    """The types of events that users have published: the log keeps each in memory and on the disk for good.

    `types_per_user`: how many a user may be the first to publish.

    `types_max`: of all users together. Beyond it, each user still has an even share of it. `is_known`:
    whether a type stands in the log.
    """

    def __init__(
        self,
        is_known: Callable[[str], bool] = lambda _type: False,
        types_per_user: int = TYPES_PER_USER,
        types_max: int = TYPES_MAX,
    ) -> None:
        self._is_known = is_known
        self._types_per_user = types_per_user
        self._types_max = types_max
        self._types: set[str] = set()
        self._by_user: Counter[str] = Counter()

    def admit(self, principal: str, types: Iterable[str]) -> bool:
        """Whether a user may publish events of these types. New ones count as its own from now on."""
        new = self.new_of(types)
        if not new:
            return True
        mine = self._by_user[principal] + len(new)
        share = self._types_max // (len(self._by_user) + (principal not in self._by_user))
        if mine > self._types_per_user or (len(self._types | new) > self._types_max and mine > share):
            return False
        self._types |= new
        self._by_user[principal] = mine
        return True

    def new_of(self, types: Iterable[str]) -> frozenset[str]:
        """Those of `types` that would count as new."""
        return frozenset(one for one in types if one not in self._types and not self._is_known(one))

    def give_back(self, principal: str, types: Iterable[str]) -> None:
        """The publication that brought `types` did not succeed."""
        back = self._types.intersection(types)
        self._types -= back
        self._by_user[principal] -= len(back)
        if self._by_user[principal] <= 0:
            del self._by_user[principal]
