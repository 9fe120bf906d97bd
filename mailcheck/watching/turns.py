"""Whose turn it is among all watched mailboxes.

A mailbox that waits has an entry in one heap, under one timer. When it is due it stands in the queue of its
host, those with news before all others; hosts take turns, and few looks run at a time. What a look does,
`Work` says.
"""

import asyncio
import heapq
from collections.abc import Coroutine
from typing import Any, Final, Protocol

from huahuo.mailcheck.watching.hosts import Host
from huahuo.mailcheck.watching.watched import NEVER_S, Watched

_SPARE: Final = 1_000
"""Entries of the heap that are out of date, besides three for each mailbox, before it is made anew."""


def now_s() -> float:
    """The time of the loop."""
    return asyncio.get_running_loop().time()


class Work(Protocol):
    """What is done in a turn."""

    def begin(self, watched: Watched, host: Host) -> Coroutine[Any, Any, None] | None:
        """What to do now that it is the mailbox's turn, None for nothing."""
        ...

    def ended(self, watched: Watched, host: Host, error: BaseException | None) -> None:
        """It is done."""
        ...


class Turns:
    """See the module. All methods belong to the loop's thread."""

    def __init__(self, work: Work, *, at_once: int, per_host: int) -> None:
        self._work = work
        self._at_once = at_once
        self._per_host = per_host
        self.watched: dict[int, Watched] = {}
        self.hosts: dict[str, Host] = {}
        self._due: list[tuple[float, int]] = []
        self._ready: dict[str, Host] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self.open = False

    def add(self, email_id: int, host: str) -> Watched:
        """A mailbox is watched from now on. Its turn is still to be set."""
        watched = self.watched[email_id] = Watched(email_id, host.lower())
        self.host_of(watched).watched += 1
        return watched

    def move(self, watched: Watched, host: str) -> None:
        """The mailbox is at this host now."""
        if watched.host != host.lower():
            self.leave_host(watched)
            watched.host = host.lower()
            self.host_of(watched).watched += 1

    def host_of(self, watched: Watched) -> Host:
        """The host of a mailbox."""
        return self.hosts.setdefault(watched.host, Host())

    def leave_host(self, watched: Watched) -> None:
        """The mailbox is not at its host any more."""
        host = self.host_of(watched)
        host.watched -= 1
        if not host.watched and not host.running and not host.waits:
            del self.hosts[watched.host]

    def later(self, watched: Watched, wait_s: float) -> None:
        """The mailbox's turn comes in `wait_s`, and no other one before."""
        watched.due_s = now_s() + wait_s
        heapq.heappush(self._due, (watched.due_s, watched.email_id))
        if len(self._due) > 4 * len(self.watched) + _SPARE:
            self._due = [(one.due_s, one.email_id) for one in self.watched.values() if one.due_s < NEVER_S]
            heapq.heapify(self._due)
        if self._due[0][1] == watched.email_id:
            self._arm()

    async def close(self) -> None:
        """End all looks, and begin none. Idempotent."""
        self.open = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._due and self.open:
            wait_s = max(0.0, self._due[0][0] - now_s())
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = now_s()
        while self._due and self._due[0][0] <= now:
            due_s, email_id = heapq.heappop(self._due)
            watched = self.watched.get(email_id)
            if watched is not None and watched.due_s == due_s:
                watched.due_s = NEVER_S
                host = self.host_of(watched)
                host.append(email_id, news=watched.news)
                self._ready[watched.host] = host
        self._arm()
        self._pump()

    def _pump(self) -> None:
        """Begin looks, in turns for the hosts."""
        for name in list(self._ready):
            host = self._ready[name]
            while host.waits and host.running < self._per_host and len(self._tasks) < self._at_once:
                self._begin(self.watched.get(host.popleft()), name, host)
            if not host.waits:
                del self._ready[name]
            elif host.running < self._per_host:
                self._ready[name] = self._ready.pop(name)  # its turn comes first when a place is free
                return

    def _begin(self, watched: Watched | None, name: str, host: Host) -> None:
        if watched is None or watched.running or watched.host != name or not self.open:
            return
        if watched.due_s != NEVER_S:
            return  # it has got another turn since
        work = self._work.begin(watched, host)
        if work is None:
            return
        host.running += 1
        watched.running = True
        task = asyncio.create_task(work, name=f"watcher of mailbox {watched.email_id}")
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._ended(done, watched, host))

    def _ended(self, task: asyncio.Task[None], watched: Watched, host: Host) -> None:
        self._tasks.discard(task)
        host.running -= 1
        watched.running = False
        self._work.ended(watched, host, None if task.cancelled() else task.exception())
        if self.open:
            self._pump()
