"""Refusals as decisions, and the codes that an application may not use for its own. Pure."""

from operator import itemgetter
from typing import Any, Final

import msgspec

from huahuo.actors.domain import en
from huahuo.actors.domain.decision import Decision, Refused
from huahuo.actors.domain.entity import Entity
from huahuo.actors.domain.errors import Fault
from huahuo.actors.domain.sent import Done
from huahuo.actors.entities import decider as engine
from huahuo.actors.plugins.calls import TEXT_CHARS_MAX, Refusal, error_body

NOT_FINAL: Final = frozenset(
    {
        "unavailable",
        "busy",
        "rate_limited",
        "internal",
        "unauthenticated",
        "corrupt",
        "storage_full",
        "quota_exceeded",
    }
)
"""Codes after which a client repeats the command: an application's own refusal may have none of them."""


def not_found(entity: Entity[Any]) -> Refused:
    """The entity has no event, or the user may not read it."""
    return Refused("not_found", en.NO_SUCH.format(entity.kind))


def refusal(refused: Refused) -> engine.Decision[Done, Any]:
    """A decision that records the refusal and appends no event. Raises Fault: its details are too large."""
    size = 0 if isinstance(refused.details, str) else len(msgspec.json.encode(refused.details))
    if size > TEXT_CHARS_MAX:
        raise Fault(f"Refused({refused.code!r}): details of {size} bytes, at most {TEXT_CHARS_MAX}: say less")
    body = error_body(Refusal(refused.code, refused.message, refused.details))
    return engine.Decision(reply=Done(body, refused=True), record=body)


def too_many(decision: Decision, most: int) -> engine.Decision[Done, Any]:
    """The refusal of a decision with more than `most` events, effects or rows."""
    counts = {
        "events": len(decision.events),
        "effects": len(decision.effects),
        "rows": len(decision.rows),
    }
    what, count = max(counts.items(), key=itemgetter(1))
    return too_large(en.TOO_MANY.format(count, what, most))


def too_large(why: str) -> engine.Decision[Done, Any]:
    """The refusal of a decision that exceeds a bound in bytes or rows."""
    return refusal(Refused("too_large", why))
