"""A long import from a Python program: split into commands that a service takes, and shown as one job.

```python
async with Client(url, token=token) as client:
    outcome = await import_emails(client.send, Path("accounts.txt").read_text(), mail_type="outlook")
```
"""

import re
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final, Protocol

import msgspec

LINES_MAX: Final = 20_000
"""Of one command; a service refuses more."""
BYTES_MAX: Final = 512 << 10
"""Of the text of one command, as JSON. A service takes messages of 1 MiB."""
_TOO_LONG: Final = "the line is too long"
_SEPARATOR: Final = "[,;\\t|，；｜]|----|—{2,}"
_COLUMNS: Final = re.compile(rf"(?:^|{_SEPARATOR})\s*\"?\s*email\s*\"?\s*(?:$|{_SEPARATOR})", re.IGNORECASE)
"""A first line that `parse` takes for names of columns. The scripts of pages have the same."""
_LINE: Final = re.compile(r"\S[^\r\n]*")
"""One that is not blank, without blanks at its beginning. Of blank lines there may be millions."""
_BLANK_BYTES: Final = 4


class Send(Protocol):
    """`Client.send`."""

    def __call__(self, action: str, /, **fields: Any) -> Awaitable[dict[str, Any]]:
        """Send a command and wait for its answer. Raises whatever refuses it."""
        ...


class Piece(msgspec.Struct, frozen=True):
    """A part of the text. `line`: the number of its first line in the whole, from 1."""

    data: str
    line: int
    lines: int
    """Those that are not blank."""

    def __repr__(self) -> str:
        return f"Piece('[sealed]', line={self.line}, lines={self.lines})"


class Outcome(msgspec.Struct):
    """What became of all lines. `failures`: (line, reason), numbered as in the whole text."""

    job_id: int | None = None
    total: int = 0
    success: int = 0
    failures: list[tuple[int, str]] = []


def pieces(text: str, *, lines_max: int = LINES_MAX, bytes_max: int = BYTES_MAX) -> Iterator[Piece | int]:
    """The text cut at line ends, in order. A number is that of a line too long for any command.

    A first line that names columns begins each piece.
    """
    text = text.removeprefix("\ufeff")
    lines: list[str] = []
    size, start, number, end = 0, 1, 1, 0
    columns: str | None = None
    for found in _LINE.finditer(text):
        number += _breaks(text[end : found.start()])
        end, line = found.end(), found[0]
        weight = len(msgspec.json.encode(line)) + 2
        if weight > bytes_max:
            yield number
            continue
        if columns is None and not line.lstrip().startswith("#"):
            columns = line if _COLUMNS.search(line) and "@" not in line else ""
        blank = number - start - len(lines)
        if lines and (number - start >= lines_max or size + blank * _BLANK_BYTES + weight > bytes_max):
            yield from _closed(lines, start, columns or "")
            lines = [columns] if columns else []
            size, start = len(columns or ""), number - len(lines)
        if not lines:
            start = number
        blank = number - start - len(lines)
        lines += [*[""] * blank, line]
        size += blank * _BLANK_BYTES + weight
    yield from _closed(lines, start, columns or "")


def _breaks(text: str) -> int:
    """How many lines end in it."""
    return text.count("\n") + text.count("\r") - text.count("\r\n")


def _closed(lines: list[str], start: int, columns: str) -> Iterator[Piece]:
    count = sum(bool(line.strip()) for line in lines) - bool(columns)
    if count > 0:
        yield Piece("\n".join(lines), start, count)


async def import_emails(
    send: Send,
    text: str,
    *,
    mail_type: str = "outlook",
    validate: bool | str = False,
    told: Callable[[Outcome, int], None] = lambda _outcome, _lines: None,
) -> Outcome:
    """Import a text of any length. `told` hears of each answer, with the number of lines in all.

    `validate`: each new mailbox is signed in to at once (`"check"`: checked), so its status says whether the
    login works.
    Raises whatever `send` raises; what was imported before stays, and the job ends as `interrupted`.
    """
    found = list(pieces(text))
    outcome = Outcome()
    parts = [piece for piece in found if isinstance(piece, Piece)]
    outcome.failures = [(one, _TOO_LONG) for one in found if isinstance(one, int)]
    outcome.total = len(outcome.failures)
    if not parts:
        return outcome
    whole = outcome.total + sum(piece.lines for piece in parts)
    begun = await send("begin_import", lines=whole)
    outcome.job_id = begun["job_id"]
    done = False
    try:
        for piece in parts:
            answer = await send(
                "import_emails",
                data=piece.data,
                mail_type=mail_type,
                validate=validate,
                job_id=outcome.job_id,
            )
            outcome.total += answer["total"]
            outcome.success += answer["success"]
            outcome.failures += [
                (piece.line + one["line"] - 1, one["reason"]) for one in answer["failed_details"]
            ]
            told(outcome, whole)
        done = True
    finally:
        await send("end_import", job_id=outcome.job_id, stopped=not done)
    outcome.failures.sort()
    return outcome
