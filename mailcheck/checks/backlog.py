"""Work of mailboxes that a table lists: done in the background, a few at a time. Effects only: no event.

What reads the contents of mails that were told by their headers, and what removes the mails of deleted
mailboxes. The work takes its row away when it is done, so a restart goes on, and may be repeated.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import structlog

from huahuo.actors.actor.messages import AskTimeout
from huahuo.actors.entities.decider import EntityError
from huahuo.eventstore.errors import EventStoreError
from huahuo.mailcheck.checks.mailboxes import Mailboxes, every_row
from huahuo.mailcheck.records import number_of

STORE_FAULTS: Final = (EntityError, AskTimeout, EventStoreError)

_log = structlog.get_logger(__name__)


class Backlog:
    """The mailboxes of one table, one after the other. All methods belong to the loop's thread.

    `work`: done with a mailbox, false if it is to be tried again in about `again_s`. `sweep_s`: how often the
    table is searched for what other nodes put there; 0: never.
    """

    def __init__(
        self,
        mailboxes: Mailboxes,
        table: str,
        work: Callable[[int], Awaitable[bool]],
        *,
        at_once: int,
        again_s: float,
        sweep_s: float = 0.0,
    ) -> None:
        self._log, self._random = mailboxes.log, mailboxes.ambient.random
        self._table, self._work = table, work
        self._at_once, self._again_s, self._sweep_s = at_once, again_s, sweep_s
        self._queue: dict[int, None] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._later: dict[int, asyncio.TimerHandle] = {}
        self._sweeper: asyncio.Task[None] | None = None
        self._open = False

    async def start(self, mine: Callable[[int], bool] = lambda _email_id: True) -> None:
        """Go on with what an earlier process or another node left, if it is `mine`. Raises as `Log.rows`."""
        self._open = True
        if self._sweep_s and self._sweeper is None:
            self._sweeper = asyncio.create_task(self._sweep(), name=f"sweeper of {self._table}")
        async for key, _ in every_row(self._log, self._table):
            email_id = number_of(key)
            if mine(email_id) and email_id not in self._tasks and email_id not in self._later:
                self.add(email_id)

    def add(self, email_id: int) -> None:
        """There is work for a mailbox. It comes after those that wait already."""
        if (timer := self._later.pop(email_id, None)) is not None:
            timer.cancel()
        if self._open:
            self._queue.setdefault(email_id)
            self._pump()

    async def idle(self) -> None:
        """Return when nothing is done and nothing waits for its turn."""
        while self._tasks:
            await asyncio.wait(list(self._tasks.values()))
            await asyncio.sleep(0)

    async def close(self) -> None:
        """Stop. What is left is done after the next start. Idempotent."""
        self._open = False
        self._queue.clear()
        for timer in self._later.values():
            timer.cancel()
        self._later.clear()
        tasks = [*self._tasks.values(), *([] if self._sweeper is None else [self._sweeper])]
        self._sweeper = None
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(self._sweep_s)
            try:
                await self.start()
            except EventStoreError as error:
                _log.warning("backlog_not_read", table=self._table, error=type(error).__name__)

    def _pump(self) -> None:
        for email_id in list(self._queue):
            if len(self._tasks) >= self._at_once or not self._open:
                return
            if email_id not in self._tasks:  # else more came for it meanwhile
                del self._queue[email_id]
                task = asyncio.create_task(self._run(email_id), name=f"{self._table} of mailbox {email_id}")
                self._tasks[email_id] = task
                task.add_done_callback(partial(self._ended, email_id))

    async def _run(self, email_id: int) -> None:
        try:
            done = await self._work(email_id)
        except STORE_FAULTS as error:
            _log.warning("backlog_without_log", table=self._table, error=type(error).__name__)
            done = False
        if not done and self._open:
            wait_s = self._again_s * (0.75 + 0.5 * self._random())
            self._later[email_id] = asyncio.get_running_loop().call_later(wait_s, self.add, email_id)

    def _ended(self, email_id: int, task: asyncio.Task[None]) -> None:
        del self._tasks[email_id]
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("backlog_failed", table=self._table, email_id=email_id, error=type(error).__name__)
        self._pump()
