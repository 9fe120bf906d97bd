"""What people read and write: text for a terminal, and moments as they are written in questions.

Text is in its reader's language, and made safe where it is from strangers.
"""

import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import msgspec

from huahuo.actors.plugins.words import Language, language_of
from huahuo.eventstore.ambient import rfc3339


def language_in(environ: Mapping[str, str]) -> Language:
    """The language of the terminal's user, by its locale; English where that is another or none."""
    locale = next((environ[name] for name in ("LC_ALL", "LC_MESSAGES", "LANG") if environ.get(name)), "")
    return language_of([locale.partition(".")[0].partition("@")[0].replace("_", "-")], "en")


def printable(text: str) -> str:
    """`text` with characters that could move the cursor, colour or reorder written as JSON escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")  # names of files may have halves of characters
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))


def show_json(value: object) -> None:
    """Print one JSON object."""
    sys.stdout.write(printable(msgspec.json.encode(value).decode()) + "\n")


def counted(count: int, noun: str) -> str:
    """`1 event`, `2 events`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


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
