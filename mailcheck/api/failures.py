"""Which mailboxes failed, and why: those whose last check ended as `error` or `need_reauth`, by reason. Pure.

The server's own words differ from mailbox to mailbox, so they do not make another reason.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from huahuo.mailcheck.row import Row
from huahuo.mailcheck.servers.kinds import KINDS

FAILED: Final = frozenset({"error", "need_reauth"})
_MESSAGES: Final = tuple((kind.message, kind.advice) for kind in KINDS.values())


class Reason(msgspec.Struct):
    """One reason: how many mailboxes have it, and the first of them."""

    status: str
    error_class: str
    message: str
    advice: str
    count: int
    email_ids: list[int]


class Failures(msgspec.Struct, tag="failures", tag_field="type"):
    """All reasons, the most frequent first. `total` counts the mailboxes that failed."""

    data: list[Reason]
    total: int


def failures_of(rows: Iterable[Row], *, mailboxes_max: int) -> Failures:
    """The failures among these rows, with at most `mailboxes_max` mailboxes of each reason."""
    found: dict[tuple[str, str], Reason] = {}
    total = 0
    for row in rows:
        if row.status not in FAILED:
            continue
        total += 1
        message, advice = _worded(row.message)
        reason = found.get((row.status, message))
        if reason is None:
            reason = Reason(row.status, row.error_class or "", message, advice, 0, [])
            found[row.status, message] = reason
        reason.count += 1
        if len(reason.email_ids) < mailboxes_max:
            reason.email_ids.append(row.id)
    return Failures(sorted(found.values(), key=lambda one: (-one.count, one.message)), total)


def _worded(message: str) -> tuple[str, str]:
    """Our own words of a failure, without the server's, and what to do next."""
    for ours, advice in _MESSAGES:
        if message.startswith(ours):
            return ours, advice
    return message, ""
