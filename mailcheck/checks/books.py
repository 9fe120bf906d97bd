"""The books of checks are the mailboxes' own streams: nothing about a check is recorded twice.

| of an effect | of a check | in whose commit |
|---|---|---|
| request | `check_requested` on the mailbox's stream, a row of `checks` | the roster's decision |
| claim | `check_started`; a run after a restart finds it there and writes nothing | `Begin` |
| what it says | `check_progress`, `mail_received`, `cursor_moved` | `Progress`, `MailsFound` |
| end | `check_ended`, the row gone | `Finish`, or the roster's cancel or deletion |

The mailbox answers `CheckOver` to a run whose check is not open any more. The runner of a process has one run
of a check at a time, so a claim needs no number; where several nodes share the log, it names the incarnation.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from huahuo.actors.effects.book import HELD
from huahuo.actors.effects.books import Hold, RunOver
from huahuo.actors.effects.facts import CANCELLED, DONE, FAILED, OpenEffect, Start
from huahuo.actors.effects.line import Entry
from huahuo.actors.effects.spec import Failure
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.port import Log
from huahuo.mailcheck.checks.mailboxes import MAILBOX, Mailboxes
from huahuo.mailcheck.effects import StartCheck
from huahuo.mailcheck.mailbox.commands import (
    Begin,
    CheckHeld,
    CheckOver,
    Finish,
    MailboxCommand,
    MailboxReply,
    NoMailbox,
    Plan,
)
from huahuo.mailcheck.tables.records import CHECKS, OpenCheck, email_key, number_of
from huahuo.mailcheck.words import zh

CHECK: Final = "check"
_FAULT: Final = zh.CHECK_FAULT


def effect_of(email_id: int, row: bytes, check: OpenCheck, now_ms: int) -> OpenEffect:
    """An open check as the runner knows it. It counts as open since this process learns of it."""
    job = msgspec.Raw(row)
    return OpenEffect(MAILBOX, str(email_id), CHECK, job, now_ms, check.user_id, trace=check.trace)


def start_of(effect: StartCheck, now_ms: int) -> Start:
    """What the runner is told after the commit of this effect."""
    check = OpenCheck(effect.user_id, effect.check_id, effect.host, login=effect.login, trace=effect.trace)
    return Start(effect.check_id, effect_of(effect.email_id, msgspec.json.encode(check), check, now_ms))


class CheckBooks:
    """See the module, and `Books`."""

    table: Final = CHECKS

    def __init__(self, log: Log, mailboxes: Mailboxes, ambient: Ambient) -> None:
        self.running: Callable[[frozenset[str]], frozenset[str]] = frozenset
        """Those of the living incarnations that keep the checks they run."""
        self._log = log
        self._mailboxes = mailboxes
        self._ambient = ambient

    def read(self, key: bytes, value: bytes) -> tuple[int, OpenEffect] | None:
        """See `Books`. Implicit checks are run by an embedding application."""
        check = msgspec.json.decode(value, type=OpenCheck)
        if check.implicit:
            return None
        return check.check_id, effect_of(number_of(key), value, check, self._ambient.now_ms())

    def row_key(self, entry: Entry) -> bytes:
        """See `Books`."""
        return email_key(int(entry.key))

    @asynccontextmanager
    async def hold(self, entry: Entry) -> AsyncIterator[Hold]:
        """See `Books`."""
        cause = await self._mailboxes.cause_of(int(entry.key), entry.id)
        hold = CheckHold(self._mailboxes, entry, cause)
        await hold.begin(self._log, self.running(self._log.living()))
        yield hold

    async def cancelled(self, entry: Entry) -> str | None:
        """See `Books`. The commit that cancelled the check has its end."""
        del entry
        return CANCELLED


class CheckHold:
    """See `Hold`. What it says names the event that asked for the check as its cause."""

    attempt: Final = 1

    def __init__(self, mailboxes: Mailboxes, entry: Entry, cause: int) -> None:
        self.over = ""
        self.position = cause
        self._mailboxes = mailboxes
        self._email_id = int(entry.key)
        self._check_id = entry.id
        self._entry = entry
        self._plan: Plan | None = None

    async def begin(self, log: Log, living: frozenset[str]) -> None:
        """Claim the check. Raises RunOver: it is not open, or another node runs it."""
        plan = await self._tell(Begin(self._check_id, log.incarnation, living))
        assert isinstance(plan, Plan), "the mailbox answers Begin with a plan"
        self._plan = plan

    async def state(self) -> Plan | None:
        """See `Hold`: what to check, and from which cursors."""
        return self._plan

    async def say(self, events: Sequence[MailboxCommand], *, ends: bool) -> Plan | None:
        """See `Hold`. One command, from which the mailbox makes its events; the last one is a `Finish`."""
        [command] = events
        if ends != isinstance(command, Finish):
            raise TypeError("a check ends by Finish, and says Finish when it ends")
        await self._tell(command)
        return self._plan

    async def again(self, error_type: str, due_ms: int, row: OpenEffect) -> None:
        """See `Hold`. A check has no second attempt, so a next run would find that it has ended."""
        del error_type, due_ms, row
        await self._fault()

    async def give_up(self, failure: Failure) -> str:
        """See `Hold`."""
        del failure
        await self._fault()
        return FAILED

    async def end(self) -> str:
        """See `Hold`. Only a run that is over returns without an end, and then the mailbox refuses this."""
        await self._fault()
        return DONE

    async def _fault(self) -> None:
        await self._tell(Finish(self._check_id, "error", _FAULT))

    async def _tell(self, command: MailboxCommand) -> MailboxReply:
        answer = await self._mailboxes.tell(
            self._email_id, command, cause=self.position, command_id=self._entry.run
        )
        match answer.reply:
            case None | CheckOver() | NoMailbox():
                self.over = self.over or "ended"
                raise RunOver(self.over)
            case CheckHeld(by):
                raise RunOver(HELD, by)
            case reply:
                return reply
