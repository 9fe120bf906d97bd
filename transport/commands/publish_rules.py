"""The rules for published events and for revocations. Pure: each gives a refusal or None."""

import math
import re
from collections.abc import Collection, Mapping
from typing import Any

from huahuo.actors.domain.names import NO_TYPES, is_own_stream
from huahuo.actors.plugins.calls import Refusal
from huahuo.actors.plugins.principal import USER_ID_RULE, user_id_of
from huahuo.eventstore.limits import BROWSER_INT_MAX
from huahuo.transport.access.claims import JTI_CHARS_MAX
from huahuo.transport.protocol.codes import ErrorCode
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
