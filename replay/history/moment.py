"""Moments and events as a user names them: `17`, `@4711`, `2026-11-24T10:31`, `-5m`. Pure.

| text | means |
|---|---|
| `17` | event 17 of the stream in question (of `log`: position 17) |
| `@4711` | position 4711 of the log |
| `2026-11-24T10:31:07Z`, `2026-11-24 10:31`, `2026-11-24` | a time, in UTC if no zone is given |
| `-5m`, `-90s`, `-2h`, `-3d` | this long before now |
| `head` | now |
"""

import re
from datetime import UTC, datetime
from typing import Final

import msgspec

_AGO: Final = re.compile(r"-(\d{1,9})(ms|s|m|h|d|w)")
_UNIT_MS: Final = {
    "ms": 1,
    "s": 1000,
    "m": 60_000,
    "h": 3_600_000,
    "d": 86_400_000,
    "w": 604_800_000,
}
_DATE: Final = re.compile(r"\d{4}-\d\d-")
_NUMBER: Final = re.compile(r"\d{1,18}")


class AtHead(msgspec.Struct, frozen=True):
    """After the newest event."""


class AtSeq(msgspec.Struct, frozen=True):
    """After event `seq` of the stream in question."""

    seq: int


class AtPosition(msgspec.Struct, frozen=True):
    """After the event at this position of the log."""

    position: int


class AtTime(msgspec.Struct, frozen=True):
    """After the last event that was written up to this time."""

    ms: int


type Moment = AtHead | AtSeq | AtPosition | AtTime


def parse_moment(text: str, now_ms: int) -> Moment:
    """The moment that `text` names, seen from `now_ms`.

    Raises:
        ValueError: `text` names no moment.
    """
    text = text.strip()
    if text in ("", "head", "now"):
        return AtHead()
    if _NUMBER.fullmatch(text):
        return AtSeq(int(text))
    if text[0] == "@" and _NUMBER.fullmatch(text[1:]):
        return AtPosition(int(text[1:]))
    ago = _AGO.fullmatch(text)
    if ago is not None:
        return AtTime(now_ms - int(ago[1]) * _UNIT_MS[ago[2]])
    try:
        if not _DATE.match(text):
            raise ValueError  # noqa: TRY301  `1111111111` is a time to Python
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"not a moment: {text!r} (a seq, @POSITION, a time as 2026-11-24T10:31:07Z, or -5m)"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return AtTime(int(moment.timestamp() * 1000))


def parse_event(text: str) -> tuple[str, int]:
    """(stream, number) of an event named as `user/42#17`, `@4711` or `4711` (positions of `log`).

    Raises:
        ValueError: `text` names no event.
    """
    stream, mark, number = text.strip().rpartition("#")
    if mark and stream and _NUMBER.fullmatch(number):
        return stream, int(number)
    number = text.strip().removeprefix("@")
    if not mark and _NUMBER.fullmatch(number):
        return "log", int(number)
    raise ValueError(f"not an event: {text!r} (STREAM#SEQ, or its position in the log)")
