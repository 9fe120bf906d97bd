"""The one port through which work leaves the event loop's thread, and fair turns at it.

A job is one call that ends by itself (one group commit, one page read, one mail parsed), never a loop that
waits on a queue. So a simulated world can run every job inline and stay deterministic.

`FairExecutor` gives users turns: a thousand reads of one user delay another user's read by only one turn.
Jobs of a user that wait leave together, as many as a turn has: to change threads and to wake the loop for
each costs more than a short job. A turn begins no further job after `TURN_S`; the rest waits for the next.

The handler of a request names its user (`acting_for`) in the task that then submits jobs. Jobs of all other
tasks belong to the service. They count as one more user without a bound here: their callers bound them.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Any, Final, Protocol

from huahuo.eventstore.errors import QueueFull
from huahuo.eventstore.fair_queue import FairQueue, has_share

_GIVE_WAY_S = 50e-6

_place = threading.local()
_never = threading.Event()


def give_way() -> None:
    """Let other threads have the interpreter. A long job of pure Python calls this about every 0.2 ms.

    A thread that wants the interpreter waits 5 ms for one that keeps it, and a commit needs it back after
    each of its statements: while two threads parsed, a commit was seven to fifteen times slower. On the
    loop's thread this does nothing.
    """
    if getattr(_place, "is_worker", False):
        _never.wait(_GIVE_WAY_S)


class Executor(Protocol):
    """Runs jobs somewhere else and lets the caller await the result."""

    async def run[T](self, job: Callable[[], T]) -> T:
        """Run `job` and return what it returns, or raise what it raises."""
        ...

    def close(self, *, wait: bool = True) -> None:
        """Free the threads, after running jobs if `wait`. Further `run` calls are an error."""
        ...


class ThreadExecutor:
    """Jobs on a fixed number of threads, in order of arrival.

    Lighter than a pool of `concurrent.futures`: its own future, with a lock and a condition, would come
    between the thread and the loop's future, and every commit would pay for it.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._closed = False
        # Daemons, so that a program can end without closing its log, as if killed.
        self._threads = [
            Thread(target=_work, args=(self._jobs,), name=f"{name}-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    async def run[T](self, job: Callable[[], T]) -> T:
        """See `Executor`. If the caller is cancelled before its job began, the job does not run."""
        if self._closed:
            raise RuntimeError("the executor is closed")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        self._jobs.put((job, done, loop))
        try:
            return await done
        finally:
            del done, job  # an exception holds this frame, and the future its exception

    def close(self, *, wait: bool = True) -> None:
        """See `Executor`."""
        if not self._closed:
            self._closed = True
            for _ in self._threads:
                self._jobs.put(None)
        if wait:
            for thread in self._threads:
                thread.join()


type _Job = tuple[Callable[[], Any], asyncio.Future[Any], asyncio.AbstractEventLoop]


def _work(jobs: "SimpleQueue[_Job | None]") -> None:
    _place.is_worker = True
    while (taken := jobs.get()) is not None:
        job, done, loop = taken
        if not done.cancelled():
            result, error = None, None
            try:
                result = job()
            except BaseException as raised:  # noqa: BLE001  whatever it is, it is the caller's
                error = raised
            try:  # noqa: SIM105  `suppress` takes three calls, after each commit
                loop.call_soon_threadsafe(_finish, done, result, error)
            except RuntimeError:  # the loop is closed: no caller waits any more
                pass
            del result, error
        # So that an idle thread does not keep the last job and its result alive.
        del taken, job, done, loop


def _finish(done: asyncio.Future[Any], result: object, error: BaseException | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(result)
    else:
        done.set_exception(error)


class InlineExecutor:
    """Runs each job on the caller's thread, for unit tests and simulated worlds."""

    async def run[T](self, job: Callable[[], T]) -> T:
        """See `Executor`."""
        return job()

    def close(self, *, wait: bool = True) -> None:
        """See `Executor`."""


WAITING_PER_USER_MAX = 1024
WAITING_MAX = 8192
TURN_S: Final = 0.002

type Charge = Callable[[str, float], None]
"""Called with a user and the seconds that work for this user took. It must not raise."""
type _WaitingJob = tuple[Callable[[], Any], asyncio.Future[Any]]
"""A job that waits, and its outcome."""
type _Outcome = tuple[Any, BaseException | None]

_acting: ContextVar[tuple[asyncio.Task[Any] | None, str]] = ContextVar("acting", default=(None, ""))


@contextmanager
def acting_for(user: str) -> Iterator[None]:
    """Jobs that this task submits inside the block belong to `user`. Jobs of tasks created in it do not."""
    token = _acting.set((asyncio.current_task(), user))
    try:
        yield
    finally:
        # If the garbage collector closes a stuck coroutine, this runs in another context, without a token.
        with contextlib.suppress(ValueError):
            _acting.reset(token)


def acting_user() -> str:
    """The user that the current task acts for; "" for the service itself."""
    task, user = _acting.get()
    return user if task is asyncio.current_task() else ""


class FairExecutor:
    """Implements `Executor`: gives at most `at_once` turns at the inner executor, to the users in order.

    All methods belong to the loop's thread. Invariants: a job waits only while `at_once` turns run inside;
    jobs of one user leave in the order in which they were submitted. One that its turn puts back may begin
    after later jobs, which turns beside it took.
    """

    def __init__(
        self,
        inner: Executor,
        *,
        at_once: int,
        jobs_a_turn: int = 1,
        now_s: Callable[[], float] = float,
        waiting_per_user_max: int = WAITING_PER_USER_MAX,
        waiting_max: int = WAITING_MAX,
    ) -> None:
        """`jobs_a_turn`: of those that wait. `now_s` is a clock for `TURN_S`, called on any thread."""
        self.refused = 0
        """Jobs that were refused because too many waited."""
        self.waiting_per_user_max = waiting_per_user_max
        self.waiting_max = waiting_max
        self._inner = inner
        self.free = at_once
        """How many jobs may start at once."""
        self._jobs_a_turn = jobs_a_turn
        self._now_s = now_s
        self._charge: Charge | None = None
        self._thread_s: Callable[[], float] = float
        self.waiting = 0
        """How many jobs wait for their turn."""
        self._queue: FairQueue[_WaitingJob] = FairQueue()
        self._turns: set[asyncio.Task[None]] = set()

    def bill(self, charge: Charge, thread_s: Callable[[], float]) -> None:
        """From now on, report the processor time of each job to `charge`, measured by `thread_s`."""
        self._charge, self._thread_s = charge, thread_s

    async def run[T](self, job: Callable[[], T]) -> T:
        """See `Executor`.

        Raises:
            QueueFull: too many jobs of this user, or of all users together, wait already.
        """
        if not self.free:
            return await self._in_line(job)
        self.free -= 1
        try:
            if self._charge is None:
                return await self._inner.run(job)
            return await self._charged(job, self._charge)
        finally:
            self.free += 1
            self._call()

    async def _charged[T](self, job: Callable[[], T], charge: Charge) -> T:
        user, thread_s = acting_user(), self._thread_s
        spent_s = 0.0

        def timed() -> T:
            nonlocal spent_s
            began_s = thread_s()
            try:
                return job()
            finally:
                spent_s = thread_s() - began_s

        try:
            return await self._inner.run(timed)
        finally:
            if user:
                charge(user, spent_s)

    def close(self, *, wait: bool = True) -> None:
        """See `Executor`."""
        self._inner.close(wait=wait)

    async def _in_line[T](self, job: Callable[[], T]) -> T:
        user, queue = acting_user(), self._queue
        if user and not has_share(
            len(queue.lines.get(user, ())), 1, self.waiting, len(queue.lines),
            per_owner=self.waiting_per_user_max, most=self.waiting_max,
        ):  # fmt: skip
            self.refused += 1
            raise QueueFull(f"too many requests of {user} wait to be read: try again later")
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        queue.put(user, (job, done))
        self.waiting += 1
        try:
            return await done
        except asyncio.CancelledError:
            self.waiting -= queue.remove(user, (job, done))
            raise
        finally:
            del done, job  # an exception holds this frame, and the future its exception

    def _call(self) -> None:
        while self.free > 0 and (turn := self._queue.next()) is not None:
            user = turn[2]
            line, jobs = self._queue.lines[user], list[_WaitingJob]()
            while line and len(jobs) < self._jobs_a_turn:
                one = line.popleft()
                self.waiting -= 1
                if not one[1].done():
                    jobs.append(one)
            self._queue.charge(user, TURN_S)
            self._queue.back(turn)
            if jobs:
                self.free -= 1
                task = asyncio.get_running_loop().create_task(
                    self._turn(user, jobs), name="turn at an executor"
                )
                self._turns.add(task)
                task.add_done_callback(self._turns.discard)

    async def _turn(self, user: str, jobs: list[_WaitingJob]) -> None:
        """Run jobs of a user, the first at least, and tell their callers."""
        outcomes: list[_Outcome] = []
        try:
            outcomes, spent_s = await self._inner.run(partial(_together, jobs, self._now_s, self._thread_s))
            _tell(jobs, outcomes)
            self._queue.charge(user, max(0.0, spent_s - TURN_S))
            if user and self._charge is not None:
                self._charge(user, spent_s)
            self._put_back(user, jobs[len(outcomes) :])
        except asyncio.CancelledError:
            for _, done in jobs:
                done.cancel()
            raise
        except Exception as error:  # noqa: BLE001  it is the callers'
            for _, done in jobs:
                if not done.done():  # one each: a shared exception would collect tracebacks
                    done.set_exception(RuntimeError(str(error)))
        finally:
            # An exception holds the frames that its job ran in, and one of those holds `jobs`.
            jobs.clear()
            outcomes.clear()
            self.free += 1
            self._call()

    def _put_back(self, user: str, jobs: Sequence[_WaitingJob]) -> None:
        """Jobs that have not begun are the first of the user's line again."""
        left = [one for one in jobs if not one[1].done()]
        if left:
            line = self._queue.lines.get(user)
            (self._queue.begin(user, 0.0) if line is None else line).extendleft(reversed(left))
            self.waiting += len(left)


def _tell(jobs: Sequence[_WaitingJob], outcomes: Sequence[_Outcome]) -> None:
    """Tell the callers of the first `jobs`."""
    for (_, done), (result, error) in zip(jobs, outcomes, strict=False):
        if done.done():
            continue
        if error is None:
            done.set_result(result)
        else:
            done.set_exception(error)


def _together(
    jobs: Sequence[_WaitingJob], now_s: Callable[[], float], thread_s: Callable[[], float]
) -> tuple[list[_Outcome], float]:
    """What became of the first `jobs`, until `TURN_S` have passed, and their processor time in seconds."""
    until_s, began_s = now_s() + TURN_S, thread_s()
    outcomes: list[_Outcome] = []
    try:
        for job, done in jobs:
            outcomes.append((None, None) if done.cancelled() else _outcome(job))
            if now_s() >= until_s:
                break
        return outcomes, thread_s() - began_s
    finally:
        del outcomes, jobs, job, done  # an exception among them holds this frame


def _outcome(job: Callable[[], Any]) -> _Outcome:
    try:
        return job(), None
    except BaseException as error:  # noqa: BLE001  whatever it is, it is the caller's
        return None, error
