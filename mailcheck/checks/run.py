"""One check from `Begin` to `Finish`: between the mailbox entity, which decides, and the mail server.

Every step is a command to the mailbox. If it answers that the check is over, the run ends silently. If the
outcome of an append is unknown, the run ends too: the check stays open and continues later from the durable
cursor.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import structlog

from huahuo.actors.actor.errors import AskTimeout
from huahuo.actors.entities.decider import Answer, Origin
from huahuo.actors.entities.directory import Directory
from huahuo.actors.entities.entity import Execute, Query
from huahuo.actors.entities.errors import EntityError
from huahuo.eventstore.errors import Closed, Unavailable
from huahuo.mailcheck.checks.ports import CheckFailed, Ok, Sink
from huahuo.mailcheck.checks.queue import Job
from huahuo.mailcheck.fetched import FetchedMail, UidCursor
from huahuo.mailcheck.mailbox.commands import (
    Begin,
    CheckOver,
    Finish,
    MailboxCommand,
    MailboxReply,
    MailsFound,
    NoMailbox,
    Plan,
    Progress,
)
from huahuo.mailcheck.mailbox.state import Mailbox

MAILBOX = "mailbox"
SERVICE = "service"
_FAULT = "检查时发生内部错误 (internal error)"

_log = structlog.get_logger(__name__)


class CheckMailbox(Protocol):
    """`SigningIn.check`: one mailbox, however it signs in."""

    async def __call__(self, email_id: int, plan: Plan, sink: Sink) -> Ok:
        """See `SigningIn.check`."""
        ...


class Pauses:
    """Holds running checks back for a moment.

    A roster's append over many mailboxes expects the head of each. While it is being written, checks of these
    mailboxes must not append to them.
    """

    def __init__(self) -> None:
        self._held: dict[object, frozenset[int]] = {}
        self._released = asyncio.Event()

    @contextmanager
    def hold(self, email_ids: Sequence[int]) -> Iterator[None]:
        """Hold these mailboxes back while the block runs."""
        held = object()
        self._held[held] = frozenset(email_ids)  # once, not for each id: many commands may wait
        try:
            yield
        finally:
            del self._held[held]
            self._released.set()
            self._released = asyncio.Event()

    async def passed(self, email_id: int) -> None:
        """Return when this mailbox is not held back."""
        while any(email_id in ids for ids in self._held.values()):
            await self._released.wait()


class Mailboxes:
    """The mailbox entities, for code that reports on checks."""

    def __init__(self, directory: Directory, pauses: Pauses) -> None:
        self._directory = directory
        self._pauses = pauses

    async def tell(
        self, email_id: int, command: MailboxCommand, *, principal: str = SERVICE, cause: int = 0
    ) -> Answer[MailboxReply]:
        """Let a mailbox decide, and return when its decision is durable.

        Raises:
            EntityError: nothing was done. AskTimeout, Unavailable: the outcome is unknown.
        """
        await self._pauses.passed(email_id)
        origin = Origin(principal=principal, cause=cause)
        answer: Answer[MailboxReply] = await self._directory.ask(MAILBOX, email_id, Execute(command, origin))
        return answer

    async def cause_of(self, email_id: int, check_id: int) -> int:
        """The position of the event that asked for this check, 0 if it is not the open one.

        It comes from the log, not from the caller that started the check, so it is known after a restart.

        Raises:
            EntityError, AskTimeout, Unavailable: the mailbox could not be asked.
        """

        def look(_seq: int, state: Mailbox) -> int:
            check = state.check
            return check.cause if check is not None and check.check_id == check_id else 0

        cause: int = await self._directory.ask(MAILBOX, email_id, Query(look))
        return cause


class _Over(Exception):  # noqa: N818  the check has ended in the log
    """Nothing more may be said about this check."""


class Checking:
    """Performs jobs of the runner."""

    def __init__(self, mailboxes: Mailboxes, check_mailbox: CheckMailbox) -> None:
        self._mailboxes = mailboxes
        self._check_mailbox = check_mailbox

    async def perform(self, job: Job) -> None:
        """Run one check to its end. The module docstring says when a run ends early."""
        try:
            cause = await self._mailboxes.cause_of(job.email_id, job.check_id)
            run = _Run(self._mailboxes, job, cause)
            plan = await run.tell(Begin(job.check_id))
            assert isinstance(plan, Plan), "the mailbox answers Begin with a plan"
            await run.tell(await self._outcome(run, plan))
        except _Over:
            _log.debug("check_over", check_id=job.check_id)
        except (EntityError, AskTimeout, Unavailable, Closed) as error:
            _log.warning("check_left_open", check_id=job.check_id, error=type(error).__name__)

    async def _outcome(self, run: "_Run", plan: Plan) -> Finish:
        job = run.job
        try:
            done = await self._check_mailbox(job.email_id, plan, run)
        except CheckFailed as failed:
            outcome = failed.outcome
            return Finish(
                job.check_id,
                outcome.status,
                outcome.said,
                error_class=outcome.error_class,
                advice=outcome.advice,
            )
        except (_Over, EntityError, AskTimeout, Unavailable, Closed):
            raise
        except Exception as error:  # noqa: BLE001  the check must end, whatever was raised
            # Its text and frames may hold data that the server sent, so only its type is logged.
            _log.error("check_raised", check_id=job.check_id, error=type(error).__name__)
            return Finish(job.check_id, "error", _FAULT)
        return Finish(job.check_id, "ok", cursor=done.cursor)


class _Run:
    """A running check, and its sink. Its commands name the event that asked for the check as their cause."""

    def __init__(self, mailboxes: Mailboxes, job: Job, cause: int) -> None:
        self._mailboxes = mailboxes
        self._cause = cause
        self.job = job

    async def tell(self, command: MailboxCommand) -> MailboxReply:
        """Let the mailbox decide. Raises _Over, and as `Mailboxes.tell`."""
        answer = await self._mailboxes.tell(self.job.email_id, command, cause=self._cause)
        if answer.reply is None or isinstance(answer.reply, CheckOver | NoMailbox):
            raise _Over
        return answer.reply

    async def progress(self, percent: int, message: str) -> None:
        """See `Sink`. `Begin` has already recorded 0 %."""
        if percent:
            await self.tell(Progress(self.job.check_id, percent, message))

    async def mails(self, batch: list[FetchedMail], cursor: UidCursor) -> None:
        """See `Sink`."""
        await self.tell(MailsFound(self.job.check_id, tuple(batch), cursor))
