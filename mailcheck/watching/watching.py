"""Which mailboxes this node watches. Effects only; what is watched is in the table `watched`.

Whose turn it is, `turns` knows; what is done in a turn, `looks`. A mailbox whose sign-in was refused has no
turn until something about its sign-in changes.
"""

from collections.abc import AsyncIterator, Callable
from typing import Final

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.port import Log
from huahuo.mailcheck.tables.records import WATCHED, number_of
from huahuo.mailcheck.watching import pace
from huahuo.mailcheck.watching.looks import Looks
from huahuo.mailcheck.watching.watched import NEVER_S

_PAGE_ROWS: Final = 1_000

type Mine = Callable[[int, str], bool]
"""Whether this node watches the mailbox of this id, at this host."""


class Watching:
    """See the module. All methods belong to the loop's thread."""

    def __init__(self, log: Log, ambient: Ambient, looks: Looks) -> None:
        self._log = log
        self._ambient = ambient
        self._looks = looks
        self._turns = looks.turns

    @property
    def looks(self) -> int:
        """Looks at mailboxes since the start."""
        return self._looks.count

    @property
    def count(self) -> int:
        """How many mailboxes are watched."""
        return len(self._turns.watched)

    @property
    def idle(self) -> int:
        """How many connections wait in IDLE."""
        return sum(w.client is not None for w in self._turns.watched.values())

    @property
    def hosts_left_alone(self) -> int:
        """How many servers are left alone now, because they failed or limit us."""
        return sum(host.failures > 0 for host in self._turns.hosts.values())

    @property
    def backoffs(self) -> int:
        """How often a server was left alone since the start."""
        return sum(host.backoffs for host in self._turns.hosts.values())

    async def start(self, mine: Mine = lambda _email_id, _host: True) -> None:
        """Watch what is to be watched, as far as it is `mine`, and nothing else.

        Raises:
            Unavailable, Closed: the log could not be read.
        """
        before = set(self._turns.watched)
        found = {email_id: host async for email_id, host in self._rows() if mine(email_id, host)}
        self._turns.open = True
        for gone in before - found.keys():
            self.unwatch(gone)
        for email_id, host in found.items():
            watched = self._turns.watched.get(email_id)
            if watched is not None and watched.host != host.lower():
                self.watch(email_id, host)
            elif watched is None:
                self._turns.later(
                    self._turns.add(email_id, host), pace.spread_s(len(found), self._ambient.random())
                )

    def watch(self, email_id: int, host: str) -> None:
        """Watch a mailbox, or look at it anew because its settings changed."""
        watched = self._turns.watched.get(email_id)
        if watched is None:
            watched = self._turns.add(email_id, host)
        self._turns.move(watched, host)
        watched.cut()
        watched.failures, watched.anew = 0, watched.running
        if not watched.running:
            self._turns.later(watched, 0.0)

    def unwatch(self, email_id: int) -> None:
        """Do not watch it any more. A look under way ends."""
        watched = self._turns.watched.pop(email_id, None)
        if watched is not None:
            watched.cut()
            self._turns.leave_host(watched)
            watched.due_s = NEVER_S

    def look_again(self, email_id: int) -> None:
        """A check of the mailbox succeeded after a failure."""
        watched = self._turns.watched.get(email_id)
        if watched is not None and watched.client is None and not watched.running:
            watched.told, watched.failures = False, 0
            self._turns.later(watched, 0.0)

    def waits_for_sign_in(self, email_id: int) -> bool:
        """Whether the mailbox has no turn until something about its sign-in changes."""
        watched = self._turns.watched.get(email_id)
        return watched is not None and watched.due_s == NEVER_S and not watched.running

    def has_failed(self, email_id: int) -> bool:
        """Whether the last look at the mailbox has failed."""
        watched = self._turns.watched.get(email_id)
        return watched is not None and (watched.failures > 0 or self.waits_for_sign_in(email_id))

    def look_at_waiting(self) -> None:
        """What changed was not heard: look at each mailbox that waits for its sign-in."""
        waiting = [number for number in self._turns.watched if self.waits_for_sign_in(number)]
        for number in waiting:
            wait_s = pace.spread_s(len(waiting), self._ambient.random())
            self._turns.later(self._turns.watched[number], wait_s)

    async def rest(self) -> None:
        """Watch nothing, until `start`."""
        await self.close()
        for email_id in list(self._turns.watched):
            self.unwatch(email_id)

    async def close(self) -> None:
        """Stop all looks and cut all connections. Idempotent."""
        await self._turns.close()
        for watched in self._turns.watched.values():
            watched.cut()

    async def _rows(self) -> AsyncIterator[tuple[int, str]]:
        before: bytes | None = None
        while rows := await self._log.rows(WATCHED, "", before=before, limit=_PAGE_ROWS):
            for key, host in rows:
                yield number_of(key), host.decode()
            before = rows[-1][0]
