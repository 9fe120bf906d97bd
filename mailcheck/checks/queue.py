"""Which checks run and which wait: bounded in all, for each user and for each mail server, and fair to both.

This module does not know what a check does. A check that finds the queue full is not lost: it is in the
log's table of open checks, and the next sweep of that table offers it again.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable, Coroutine
from functools import partial

import msgspec
import structlog

from huahuo.actors.plugins.principal import UserId
from huahuo.eventstore.cancelling import cancel_all

_log = structlog.get_logger(__name__)


_IDLE_LOOK_S = 0.05


class Job(msgspec.Struct, frozen=True, gc=False):
    """One check to run."""

    email_id: int
    check_id: int
    host: str
    user_id: UserId = 0


type _Hosts = OrderedDict[str, OrderedDict[int, Job]]
"""The jobs of one user by host and check id. The first host has the next turn."""

type Perform = Callable[[Job], Coroutine[None, None, None]]
"""Runs one check to its end. If it is cancelled, it must report nothing more."""


class CheckRunner:
    """Runs jobs as tasks. All methods belong to the loop's thread."""

    def __init__(
        self,
        perform: Perform,
        *,
        checks_max: int,
        per_host_max: int,
        waiting_max: int,
        waiting_per_user_max: int,
        wait_s: Callable[[UserId], float] = lambda _user_id: 0.0,
    ) -> None:
        """`wait_s`: seconds that the next check of a user must wait in favour of other users."""
        self._perform = perform
        self._wait_s = wait_s
        self._timer: asyncio.TimerHandle | None = None
        self.by_user: Counter[UserId] = Counter()
        """Running checks by user; users without one are left out."""
        self._checks_max = checks_max
        self._per_host_max = per_host_max
        self._waiting_max = waiting_max
        self._waiting_per_user_max = waiting_per_user_max
        self._waiting: OrderedDict[UserId, _Hosts] = OrderedDict()  # by user; the first has the next turn
        self._of_user: Counter[UserId] = Counter()
        self._jobs: dict[int, Job] = {}  # waiting jobs by check id
        self._running: dict[int, asyncio.Task[None]] = {}
        self._by_host: Counter[str] = Counter()
        self._closed = False

    @property
    def running(self) -> int:
        """How many checks run."""
        return len(self._running)

    @property
    def running_ids(self) -> tuple[int, ...]:
        """The checks that run, from the oldest on."""
        return tuple(self._running)

    @property
    def users_waiting(self) -> int:
        """How many users have a check that waits."""
        return len(self._waiting)

    @property
    def waiting(self) -> int:
        """How many checks wait."""
        return len(self._jobs)

    def offer(self, job: Job) -> bool:
        """Run the job when it is its turn. A job that is already known is not added again.

        Returns:
            False if the queue of this user or the whole queue is full, or if the runner is closed.
        """
        known = job.check_id in self._running or job.check_id in self._jobs
        if not known and not self._closed:
            full = len(self._jobs) >= self._waiting_max
            if full or self._of_user.get(job.user_id, 0) >= self._waiting_per_user_max:
                return False
            self._jobs[job.check_id] = job
            self._of_user[job.user_id] += 1
            hosts = self._waiting.setdefault(job.user_id, OrderedDict())
            hosts.setdefault(job.host.lower(), OrderedDict())[job.check_id] = job
            self._fill()
        return not self._closed

    def stop(self, check_id: int) -> None:
        """Remove this check from the queue, or cancel it if it runs."""
        job = self._jobs.get(check_id)
        if job is not None:
            self._take(job)
        elif (task := self._running.get(check_id)) is not None:
            task.cancel()

    async def idle(self) -> None:
        """Return when nothing runs and nothing waits."""
        while self._running or self._timer is not None:
            if self._running:
                await asyncio.wait(tuple(self._running.values()))
            else:
                await asyncio.sleep(_IDLE_LOOK_S)

    async def close(self, timeout_s: float) -> None:
        """Cancel all checks. Those that do not stop in time are left behind with a warning. Idempotent."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._waiting.clear()
        self._of_user.clear()
        self._jobs.clear()
        if late := await cancel_all(self._running.values(), timeout_s):
            _log.warning("checks_not_stopped_in_time", checks=late)

    def _fill(self) -> None:
        while len(self._running) < self._checks_max and (job := self._next()) is not None:
            host = job.host.lower()
            self._by_host[host] += 1
            self.by_user[job.user_id] += 1
            task = asyncio.get_running_loop().create_task(self._perform(job), name=f"check {job.check_id}")
            self._running[job.check_id] = task
            task.add_done_callback(partial(self._done, job))

    def _next(self) -> Job | None:
        """Remove and return the oldest job of the next user and host in turn that may run; None if none may.

        At most `checks_max` / `per_host_max` hosts are full at a time, so the search is short.
        """
        for user_id, hosts in self._waiting.items():
            if (wait_s := self._wait_s(user_id)) > 0:
                self._fill_later(wait_s)
                continue
            for host, line in hosts.items():
                if self._by_host[host] < self._per_host_max:
                    job = next(iter(line.values()))
                    self._take(job)
                    if host in hosts:
                        hosts.move_to_end(host)
                    if user_id in self._waiting:
                        self._waiting.move_to_end(user_id)
                    return job
        return None

    def _fill_later(self, wait_s: float) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._fill_again)

    def _fill_again(self) -> None:
        self._timer = None
        if not self._closed:
            self._fill()

    def _take(self, job: Job) -> None:
        """Remove a waiting job, and its user and host when they have no other."""
        del self._jobs[job.check_id]
        hosts, host = self._waiting[job.user_id], job.host.lower()
        del hosts[host][job.check_id]
        if not hosts[host]:
            del hosts[host]
        if not hosts:
            del self._waiting[job.user_id]
        self._of_user[job.user_id] -= 1
        if not self._of_user[job.user_id]:
            del self._of_user[job.user_id]

    def _done(self, job: Job, task: asyncio.Task[None]) -> None:
        host = job.host.lower()
        del self._running[job.check_id]
        self.by_user[job.user_id] -= 1
        if not self.by_user[job.user_id]:
            del self.by_user[job.user_id]
        self._by_host[host] -= 1
        if not self._by_host[host]:
            del self._by_host[host]
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("check_crashed", check_id=job.check_id, error=type(error).__name__)
        if not self._closed:
            self._fill()
