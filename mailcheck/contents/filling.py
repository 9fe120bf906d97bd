"""What reads the rest of mails that were told by their headers, mailbox by mailbox, newest first.

Which mailboxes have such mails is in a table, so a restart goes on. A mailbox whose server fails is tried
again later; one that must sign in is left until something new comes in it, or the next start.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

import msgspec
import structlog

from huahuo.actors.actor.errors import AskTimeout
from huahuo.actors.entities.errors import EntityError
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.model import Append, RowDrop
from huahuo.eventstore.port import Log
from huahuo.mailcheck.attachments.own_mails import on_server
from huahuo.mailcheck.attachments.reading import ReadMail
from huahuo.mailcheck.checks.known import KnownMails
from huahuo.mailcheck.checks.ports import CheckFailed
from huahuo.mailcheck.contents.fetching import Contents, Filler, Missing
from huahuo.mailcheck.contents.keeping import Keeping
from huahuo.mailcheck.mailbox.commands import Plan
from huahuo.mailcheck.tables.records import (
    MAILS,
    MISSING,
    UNREAD_BODIES,
    MailRecord,
    email_key,
    number_of,
)

AT_ONCE: Final = 4
"""Mailboxes that are read at once, so that checks have most of the network and of the log."""
_PAGE_MAILS: Final = 50
_PAGE_ROWS: Final = 500
_AGAIN_S: Final = 600.0
_STORE_FAULTS: Final = (EntityError, AskTimeout, EventStoreError)

_log = structlog.get_logger(__name__)


class Filling:
    """See the module. All methods belong to the loop's thread."""

    def __init__(
        self,
        *,
        log: Log,
        read: ReadMail,
        plan_of: Callable[[int], Awaitable[Plan | None]],
        keeping: Keeping,
        known: KnownMails,
        ambient: Ambient,
    ) -> None:
        self._log = log
        self._read = read
        self._plan_of = plan_of
        self._keeping = keeping
        self._known = known
        self._ambient = ambient
        self._queue: deque[int] = deque()
        self._queued: set[int] = set()
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._later: dict[int, asyncio.TimerHandle] = {}
        self._open = False

    @property
    def waiting(self) -> int:
        """Mailboxes with mails whose text is still to be read, as far as this process knows."""
        return len(self._queued) + len(self._tasks) + len(self._later)

    async def start(self, mine: Callable[[int], bool] = lambda _email_id: True) -> None:
        """Go on with what an earlier process or another node left, if it is `mine`.

        Raises as `Log.rows`.
        """
        self._open = True
        before: bytes | None = None
        while rows := await self._log.rows(UNREAD_BODIES, "", before=before, limit=_PAGE_ROWS):
            for email_id in (number_of(key) for key, _ in rows):
                if mine(email_id) and email_id not in self._tasks and email_id not in self._later:
                    self.read(email_id)
            before = rows[-1][0]

    def read(self, email_id: int) -> None:
        """Read what is missing of a mailbox, after those that wait already."""
        if (timer := self._later.pop(email_id, None)) is not None:
            timer.cancel()
        if self._open and email_id not in self._queued:
            self._queued.add(email_id)
            self._queue.append(email_id)
            self._pump()

    async def idle(self) -> None:
        """Return when nothing is read and nothing waits for its turn."""
        while self._tasks:
            await asyncio.wait(list(self._tasks.values()))
            await asyncio.sleep(0)

    async def close(self) -> None:
        """Stop. What is left is read after the next start. Idempotent."""
        self._open = False
        self._queue.clear()
        self._queued.clear()
        for timer in self._later.values():
            timer.cancel()
        self._later.clear()
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _pump(self) -> None:
        for _ in range(len(self._queue)):
            if len(self._tasks) >= AT_ONCE or not self._open:
                return
            email_id = self._queue.popleft()
            if email_id in self._tasks:
                self._queue.append(email_id)  # more came in it meanwhile
                continue
            self._queued.discard(email_id)
            task = asyncio.create_task(self._fill(email_id), name=f"contents of mailbox {email_id}")
            self._tasks[email_id] = task
            task.add_done_callback(partial(self._ended, email_id))

    def _ended(self, email_id: int, task: asyncio.Task[None]) -> None:
        del self._tasks[email_id]
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("contents_not_read", email_id=email_id, error=type(error).__name__)
        self._pump()

    async def _fill(self, email_id: int) -> None:
        try:
            plan = await self._plan_of(email_id)
            if plan is None:
                return

            asked: list[Missing] = []

            async def page() -> Sequence[Missing]:
                nonlocal asked
                found = await self._missing(email_id)
                # What stays missing although it was kept would be read for ever.
                found, asked = ([] if found == asked else found), found
                return found

            async def keep(contents: Contents) -> bool:
                return not contents or await self._keeping.keep(email_id, contents)

            if await self._missing(email_id):
                await self._read(email_id, plan, Filler(page, keep))
            await self._done(email_id)
        except CheckFailed as failed:
            if failed.outcome.retry:
                self._try_later(email_id)
        except _STORE_FAULTS as error:
            _log.warning("contents_without_log", email_id=email_id, error=type(error).__name__)
            self._try_later(email_id)

    def _try_later(self, email_id: int) -> None:
        if self._open:
            wait_s = _AGAIN_S * (0.75 + 0.5 * self._ambient.random())
            self._later[email_id] = asyncio.get_running_loop().call_later(wait_s, self.read, email_id)

    async def _missing(self, email_id: int) -> list[Missing]:
        part = str(email_id)
        found: list[Missing] = []
        for key, _ in await self._log.rows(MISSING, part, limit=_PAGE_MAILS):
            row = await self._log.row(MAILS, part, key)
            if row is not None:
                record = msgspec.json.decode(row, type=MailRecord)
                found.append(Missing(record.mail_id, on_server(record)))
        return found

    async def _done(self, email_id: int) -> None:
        """Nothing is missing of this mailbox any more, unless a check has just stored more."""
        key = email_key(email_id)
        async with self._known.storing(email_id):
            if not await self._log.rows(MISSING, str(email_id), limit=1):
                row = RowDrop(UNREAD_BODIES, "", key)
                await self._log.append(Append(ts_ms=self._ambient.now_ms(), rows=(row,), principal="service"))
