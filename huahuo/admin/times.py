"""Moments as people and programs write them, for audit questions. Pure."""

import re
from datetime import UTC, datetime, timedelta

from huahuo.eventstore.ambient import rfc3339

_AGO = re.compile(r"-(\d{1,9})([smhdw])")
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def moment(text: str) -> str:
    """An RFC 3339 time (with its zone) in the form of the log. An empty text stays empty.

    Raises:
        ValueError: `text` is not such a time.
    """
    if not text:
        return ""
    try:
        given = datetime.fromisoformat(text)
        if given.tzinfo is None:
            given = given.replace(tzinfo=UTC)
        return rfc3339(round((given - datetime.fromtimestamp(0, UTC)) / timedelta(milliseconds=1)))
    except (ValueError, OverflowError):
        raise ValueError(f"not an RFC 3339 time: {text[:40]!r}") from None


def moment_or_ago(text: str, now_ms: int) -> str:
    """As `moment`, and also `-5m`, `-2h`, `-7d` before now.

    Raises:
        ValueError: `text` is neither.
    """
    ago = _AGO.fullmatch(text)
    if ago is None:
        return moment(text)
    return rfc3339(max(0, now_ms - int(ago[1]) * _UNITS_S[ago[2]] * 1000))


def seconds(text: str) -> float:
    """The seconds of a span such as `30d`, `12h` or `90s`.

    Raises:
        ValueError: `text` is not such a span.
    """
    span = _AGO.fullmatch(f"-{text}")
    if span is None:
        raise ValueError(f"not a span such as 30d, 12h or 90s: {text[:40]!r}")
    return int(span[1]) * _UNITS_S[span[2]]
