"""Checks that an embedding application makes itself and reports; and what becomes of them after a restart."""

import asyncio
from itertools import batched
from typing import Final

import structlog

from huahuo.actors.actor.errors import AskTimeout
from huahuo.actors.entities.errors import EntityError
from huahuo.actors.plugins.plugin import ApiRefused
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.port import Log
from huahuo.mailcheck.checks.mailboxes import Mailboxes
from huahuo.mailcheck.events import STATUSES_BUSY, STATUSES_TERMINAL
from huahuo.mailcheck.mailbox.commands import (
    Finish,
    MailboxCommand,
    NoMailbox,
    ReportedStatus,
    ReportProgress,
    ReportStatus,
)
from huahuo.mailcheck.tables.reported_checks import reported_checks
from huahuo.mailcheck.words import zh

_INTERRUPTED: Final = zh.INTERRUPTED
_AT_ONCE: Final = 256
"""Interrupted checks that are ended together, so that they share commits."""
_REPORTABLE: Final = STATUSES_BUSY | STATUSES_TERMINAL

_log = structlog.get_logger(__name__)


class UnknownMailbox(ApiRefused, LookupError):  # noqa: N818  a fact about the report
    """A report names a mailbox that does not exist or was deleted."""


class Reports:
    """See the module."""

    def __init__(self, log: Log, mailboxes: Mailboxes) -> None:
        self._log = log
        self._mailboxes = mailboxes

    async def status(self, email_id: int, status: ReportedStatus, message: str) -> int:
        """See `MailDomain.report_status`."""
        if status not in _REPORTABLE:
            raise ValueError(f"not a status to report: {status!r}")
        return await self._report(email_id, ReportStatus(status, message))

    async def progress(self, email_id: int, percent: int, message: str) -> int:
        """See `MailDomain.report_progress`."""
        if not 0 <= percent <= 100:  # noqa: PLR2004  per cent
            raise ValueError("percent is 0 to 100")
        return await self._report(email_id, ReportProgress(percent, message))

    async def interrupt(self) -> None:
        """End those that an earlier process left: their program is gone, so they cannot go on.

        While another node lives, a program may report them there: they are left open.

        Raises:
            Unavailable, Closed: the log could not be read.
        """
        if self._log.living() - {self._log.incarnation}:
            return
        left = [found async for found in reported_checks(self._log)]
        for some in batched(left, _AT_ONCE):
            await asyncio.gather(*(self._interrupt(email_id, check_id) for email_id, check_id in some))

    async def _report(self, email_id: int, command: MailboxCommand) -> int:
        answer = await self._mailboxes.tell(email_id, command)
        if isinstance(answer.reply, NoMailbox):
            raise UnknownMailbox(f"no mailbox {email_id}")
        return answer.position

    async def _interrupt(self, email_id: int, check_id: int) -> None:
        try:
            cause = await self._mailboxes.cause_of(email_id, check_id)
            await self._mailboxes.tell(email_id, Finish(check_id, "error", _INTERRUPTED), cause=cause)
        except (EntityError, AskTimeout, EventStoreError) as error:
            _log.warning("check_not_interrupted", check_id=check_id, error=type(error).__name__)
