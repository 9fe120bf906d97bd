"""What an import did and left out, as lines. No secret and no text of a mail is in it. Pure."""

from collections import Counter
from collections.abc import Iterator
from typing import Final

ALWAYS: Final = (
    "access tokens: the next check makes new ones",
    "passwords of users in clear: only their hashes were brought, and the first sign-in replaces them",
    "times of the last checks, and the switch of real-time checks",
)
"""What is left out of every database."""


class Report:
    """Counts by kind: `users`, `mailboxes`, `mails`."""

    def __init__(self) -> None:
        self.added: Counter[str] = Counter()
        self.known: Counter[str] = Counter()
        self.left_out: dict[str, Counter[str]] = {}
        self.attachments = 0

    def leave_out(self, kind: str, why: str, count: int = 1) -> None:
        """One of a kind was not brought."""
        self.left_out.setdefault(kind, Counter())[why] += count

    def lines(self) -> Iterator[str]:
        """The report."""
        for kind in ("users", "mailboxes", "mails"):
            missing = sum(self.left_out.get(kind, Counter()).values())
            counts = f"{self.added[kind]} added, {self.known[kind]} there already, {missing} left out"
            yield f"{kind}: {counts}"
        for kind, reasons in self.left_out.items():
            for why, count in reasons.most_common():
                yield f"left out: {count} of the {kind}: {why}"
        if self.attachments:
            yield f"left out: the content of {self.attachments} attachments; their names and sizes are listed"
        for one in ALWAYS:
            yield f"left out: {one}"
