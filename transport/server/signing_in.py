"""What every way in has in common: links of the hash chain that checks are compared with, and verdicts.

Verdicts are counted and logged on every way in (`note_verdict`). The operator is told of clients that know
events which the log does not hold, and of those that were refused.
"""

from collections.abc import Awaitable, Mapping, Sequence

import structlog

from huahuo.eventstore.errors import EventStoreError
from huahuo.replay.feed import Feed
from huahuo.transport.access.door import Notices
from huahuo.transport.access.rights import NOT_NOW, AuthFailure, Verdict
from huahuo.transport.server.wires import Wires
from huahuo.transport.session.interface import Alarm

BEYOND = b""
"""Instead of the link of an event that is not in the log."""
_log = structlog.get_logger(__name__)


async def found_links(feed: Feed, places: Sequence[tuple[str, int]]) -> Mapping[tuple[str, int], bytes]:
    """The links at these (stream, seq), from the store. One that cannot be read stays unknown.

    Where other nodes write the log, a place beyond the head here is waited for. It is in the answer, with
    `BEYOND`, if it is beyond the head of the log itself.
    """
    try:
        settled = feed.catch_up is None or await feed.catch_up(places)
        found = await feed.links(places)
        if not settled or feed.catch_up is None:
            return found
        return dict.fromkeys(places, BEYOND) | found
    except EventStoreError:
        _log.warning("checks_not_compared", places=len(places))
        return {}


def tell_alarm(alarm: Alarm) -> None:
    """Log that history was lost, or that it is not what the client saw."""
    facts = {"stream": alarm.stream, "cursor": alarm.cursor, "head": alarm.head}
    if alarm.check_seq:
        _log.error("check_differs_from_log", check_seq=alarm.check_seq, **facts)
    else:
        _log.error("cursor_ahead_of_log", **facts)


def tell_refused(failure: AuthFailure, address: str, notices: Notices, now_s: float) -> None:
    """Log why a token was refused, at the rate that `notices` allows."""
    held_back = notices.due("token_refused", now_s)
    if held_back is not None:
        _log.warning(
            "token_refused",
            code=failure.code,
            reason=failure.reason,
            address=address,
            more_held_back=held_back,
        )


def note_verdict(wires: Wires, verdict: Verdict, address: str) -> float | Awaitable[float]:
    """Note it; returns the seconds for which its answer is to be held back."""
    if not isinstance(verdict, AuthFailure):
        wires.meter.authenticated("ok")
        return 0.0
    wires.meter.authenticated(verdict.code)
    now_s = wires.ambient.monotonic_s()
    tell_refused(verdict, address, wires.notices, now_s)
    return 0.0 if verdict.code == NOT_NOW else wires.door.auth_failed(address, now_s)
