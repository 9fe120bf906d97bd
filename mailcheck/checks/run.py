"""The effect of a check: from what the mailbox says is to be checked to what is said of it at the end.

A run that finds its check over ends silently. A run whose append has an unknown outcome leaves the check
open, and the next one continues from the durable cursor. Anything else that is raised ends the check.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

from huahuo.actors.effects.run import EffectRun
from huahuo.mailcheck.checks.known import KnownMails
from huahuo.mailcheck.checks.ports import CheckFailed, Ok, Sink
from huahuo.mailcheck.fetched import FetchedMail, UidCursor
from huahuo.mailcheck.mailbox.commands import Finish, MailboxCommand, MailsFound, Plan, Progress, SeeUnread
from huahuo.mailcheck.tables.records import OpenCheck
from huahuo.mailcheck.words import zh


class CheckMailbox(Protocol):
    """`SigningIn.check`: one mailbox, however it signs in."""

    async def __call__(self, email_id: int, plan: Plan, sink: Sink) -> Ok:
        """See `SigningIn.check`."""
        ...


type Tell = Callable[[int, MailboxCommand], Awaitable[object]]
"""`Mailboxes.tell`."""


class Checking:
    """See the module."""

    def __init__(
        self, check_mailbox: CheckMailbox, sign_in: CheckMailbox, known: KnownMails, tell: Tell
    ) -> None:
        """`sign_in`: in place of a check that only signs in."""
        self._check_mailbox = check_mailbox
        self._sign_in = sign_in
        self._known = known
        self._tell = tell

    async def perform(self, job: OpenCheck, run: EffectRun) -> None:
        """Check one mailbox, and record how that ended."""
        await run.finish(await self._outcome(job.check_id, run, login=job.login))

    async def _outcome(self, check_id: int, run: EffectRun, *, login: bool) -> Finish:
        read = self._sign_in if login else self._check_mailbox
        try:
            done = await read(run.id, run.state, _Report(check_id, run, self._known, self._tell))
        except CheckFailed as failed:
            outcome = failed.outcome
            return Finish(
                check_id,
                outcome.status,
                outcome.said,
                error_class=outcome.error_class,
                advice=outcome.advice,
            )
        if login:
            return Finish(check_id, "ok", zh.LOGIN_WORKS)
        return Finish(check_id, "ok", cursor=done.cursor)


class _Report:
    """See `Sink`."""

    def __init__(self, check_id: int, run: EffectRun, known: KnownMails, tell: Tell) -> None:
        self._check_id = check_id
        self._run = run
        self._known = known
        self._see_unread = tell

    async def progress(self, percent: int, message: str) -> None:
        """See `Sink`. `Begin` has already recorded 0 %."""
        if percent:
            await self._run.emit(Progress(self._check_id, percent, message))

    async def mails(self, batch: list[FetchedMail], cursor: UidCursor) -> None:
        """See `Sink`."""
        email_id = self._run.id
        async with self._known.storing(email_id):
            mails = await self._known.unknown(email_id, batch)
            equals = await self._known.equal_to(email_id, self._run.state, mails)
            await self._run.emit(MailsFound(self._check_id, mails, cursor, equals))

    async def unread(self, folder: str, uidvalidity: int, uids: str) -> None:
        """See `Sink`. It is the mailbox's, and not this check's."""
        await self._see_unread(self._run.id, SeeUnread(folder, uidvalidity, uids))
