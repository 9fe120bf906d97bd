"""Checks of which front ends were told that they run, so that none shows one for ever. Pure.

That front end keeps a row "being checked" until it hears 100, also over a lost connection, and asks for
nothing when it comes back. Its next connection is told how each of these checks stands.
"""

from collections import OrderedDict
from typing import Final

from huahuo.mailcheck.events import PROGRESS_MAX

USERS_MAX: Final = 1_000
MAILBOXES_MAX: Final = 1_000


class Running:
    """By user: the last progress told of each mailbox, until 100 was told. The newest are kept."""

    def __init__(self) -> None:
        self._of_user: OrderedDict[object, OrderedDict[int, int]] = OrderedDict()

    def told(self, user: object, email_id: int, progress: int) -> None:
        """A front end of the user is told this."""
        known = self._of_user.setdefault(user, OrderedDict())
        self._of_user.move_to_end(user)
        known.pop(email_id, None)
        if progress < PROGRESS_MAX:
            known[email_id] = progress
        if len(known) > MAILBOXES_MAX:
            known.popitem(last=False)
        if not known:
            del self._of_user[user]
        elif len(self._of_user) > USERS_MAX:
            self._of_user.popitem(last=False)

    def progress(self, user: object, email_id: int) -> int | None:
        """What was told last of a check that runs, None if none runs."""
        known = self._of_user.get(user)
        return None if known is None else known.get(email_id)

    def of(self, user: object) -> list[int]:
        """The mailboxes whose checks run as far as front ends know."""
        return list(self._of_user.get(user, ()))
