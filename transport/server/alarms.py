"""What the operator is told when a client knows events that the log does not hold."""

import structlog

from huahuo.transport.session.outputs import Alarm

_log = structlog.get_logger(__name__)


def tell_alarm(alarm: Alarm) -> None:
    """Log that history was lost, or that it is not what the client saw."""
    facts = {"stream": alarm.stream, "cursor": alarm.cursor, "head": alarm.head}
    if alarm.check_seq:
        _log.error("check_differs_from_log", check_seq=alarm.check_seq, **facts)
    else:
        _log.error("cursor_ahead_of_log", **facts)
