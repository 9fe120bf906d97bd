"""Mailboxes that other clients of the user add and delete, as FireMail's front end is told of them. Pure.

That front end answers each `email_added` by a toast of five seconds and a request for the whole list. So a
few are told at once, each after the page has asked for its list again, and those of a flood together: one
message every two seconds, and what is left with the answer of its next heartbeat. A list that it asks for has
them all.
"""

from typing import Any, Final

from huahuo.mailcheck.classic import classic_zh

AT_ONCE_MAX: Final = 8
EVERY_S: Final = 2.0
DELETED_MAX: Final = 10_000
"""Ids that wait. At this number they are told."""

type Message = dict[str, Any]


class Elsewhere:
    """What one connection was told, and what it will be told together."""

    def __init__(self) -> None:
        self._left = float(AT_ONCE_MAX)
        self._seen_s = 0.0
        self._told_s = 0.0
        self._is_listed = True
        """The page has asked for its list since it was last told that mailboxes were added."""
        self._added = 0
        self._last: tuple[int, str] = (0, "")
        self._deleted: list[int] = []

    def added(self, email_id: int, email: str, count: int = 1) -> None:
        """Another client added a mailbox, the last of `count`."""
        self._added += count
        self._last = (email_id, email)

    def deleted(self, email_id: int) -> None:
        """Another client deleted a mailbox."""
        self._deleted.append(email_id)

    def listed(self) -> None:
        """The page asks for the whole list, which has all that was told here."""
        self._is_listed = True
        self._added = 0
        self._deleted.clear()

    def due(self, now_s: float) -> list[Message]:
        """What the page is to be told now."""
        if not self._added and not self._deleted:
            return []
        self._left = min(AT_ONCE_MAX, self._left + (now_s - self._seen_s) / EVERY_S)
        self._seen_s = now_s
        said = []
        if self._deleted and (self._left >= 1 or len(self._deleted) >= DELETED_MAX):
            said.append(_deleted(self._deleted))
            self._deleted = []
            self._left -= 1
        if self._added and self._left >= 1 and (self._is_listed or now_s - self._told_s >= EVERY_S):
            said.append(_added(self._added, *self._last))
            self._added = 0
            self._left -= 1
            self._told_s = now_s
            self._is_listed = False
        return said


def _added(count: int, email_id: int, email: str) -> Message:
    message = classic_zh.ADDED.format(email) if count == 1 else classic_zh.SOME_ADDED.format(count)
    return {"type": "email_added", "message": message, "email_id": email_id}


def _deleted(ids: list[int]) -> Message:
    return {"type": "emails_deleted", "email_ids": ids, "message": classic_zh.SOME_DELETED.format(len(ids))}
