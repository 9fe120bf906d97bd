"""Alarms about clients for the operator: a client knows events that the log does not hold, or was refused."""

import structlog

from huahuo.transport.access.verified import AuthFailure
from huahuo.transport.server.notices import Notices
from huahuo.transport.session.outputs import Alarm

_log = structlog.get_logger(__name__)


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
