"""A job of the application while it runs: `async with app.job("import", user=42) as job`.

The block's end is the job's end: `done`, `failed` after an exception (which goes on), `cancelled` after
`cancel_job`, `interrupted` where the program itself stopped the block. A job without an end, after a crash,
is ended by the next start.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from huahuo.actors.domain import jobs
from huahuo.actors.domain.jobs import JobOutcome
from huahuo.actors.domain.plugin import EntityApi
from huahuo.actors.domain.structs import Command
from huahuo.actors.plugins.calls import UserId
from huahuo.app.wiring import App
from huahuo.errors import HuahuoError, JobCancelled

if TYPE_CHECKING:
    from huahuo.tracing.spans import JobSpan


class Cancelled:
    """Whether the job was cancelled: `if job.cancelled`, or `await job.cancelled` until it is."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def __bool__(self) -> bool:
        return self._event.is_set()

    def __await__(self) -> Generator[Any, None, None]:
        yield from self._event.wait().__await__()

    def set(self) -> None:
        """It was."""
        self._event.set()


class Job:
    """See the module. Made by `Huahuo.job`."""

    def __init__(self, app: App, name: str, user: UserId | None) -> None:
        entities: EntityApi = app.api("entities")
        self._jobs = entities.jobs
        self._name = name
        self._user = user
        self._id = 0
        self._cancelled = Cancelled()
        self._asked = False
        self._body: asyncio.Task[Any] | None = None
        self._stopped_body = False
        self._unwatch: Callable[[], None] = _nothing
        self._traces = app.traces
        self._span: JobSpan | None = None
        self.outcome: JobOutcome | None = None
        """How it ended, None while it runs."""

    @property
    def id(self) -> int:
        """Its number; 0 before it began."""
        return self._id

    @property
    def stream(self) -> str:
        """Where it can be followed: `job/7`."""
        return f"{jobs.KIND}/{self._id}"

    @property
    def cancelled(self) -> Cancelled:
        """Whether it was cancelled. A block that asks ends by itself; any other is cancelled."""
        self._asked = True
        return self._cancelled

    async def progress(self, percent: float, message: str = "") -> None:
        """Say how far it is, 0 to 100. Raises Refused: it is no percentage, or the job has ended."""
        await self._tell(jobs.report_of(percent, message))

    async def message(self, text: str) -> None:
        """Say something to those who watch. Raises Refused: the job has ended."""
        await self._tell(jobs.say_of(text))

    async def fail(self, message: str) -> None:
        """End it as failed, with a text for those who watch. Nothing is raised."""
        await self._end("failed", message=message)

    @property
    def must_stop(self) -> bool:
        """Whether it was cancelled and its block does not ask by itself."""
        return bool(self._cancelled) and not self._asked

    async def begin(self, body: asyncio.Task[Any] | None = None) -> Self:
        """Start it. `body` is the task that a cancel stops, None for a thread."""
        if self._traces is not None:
            self._span = self._traces.job(self._name)
        self._id = await self._jobs.begin(self._name, self._user, trace=self._place)
        self._body = body
        self._unwatch = self._jobs.watch(self._id, self._on_cancel)
        return self

    async def finish(self, error: BaseException | None) -> None:
        """End it after its block. `error`: what the block raised; for None this raises as `progress`.

        An end that cannot be written, as on a full disk, is written as soon as it can be.
        """
        self._unwatch()
        stopped = isinstance(error, asyncio.CancelledError | JobCancelled) and bool(self._cancelled)
        if error is None or stopped:
            await self._end("cancelled" if self._cancelled else "done")
            return
        with contextlib.suppress(Exception):  # the block's own exception goes on; the end is tried again
            if isinstance(error, Exception):
                await self._end("failed", error=type(error).__name__)
            else:
                await self._end("interrupted")

    async def __aenter__(self) -> Self:
        return await self.begin(asyncio.current_task())

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        body, self._body = self._body, None
        ours = False
        if self._stopped_body and body is not None and body.uncancel() == 0:
            # As asyncio.timeout: the cancel is ours unless somebody else cancelled the task too.
            ours = kind is asyncio.CancelledError
            if not ours:
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(0)  # the block ended before the cancel reached it
        await self.finish(error)
        return ours

    async def _end(self, outcome: JobOutcome, *, error: str = "", message: str = "") -> None:
        if self.outcome is None:
            await self._jobs.end(self._id, outcome, message, error=error, trace=self._place)
            self.outcome = (await self._jobs.state(self._id)).outcome
            if self._span is not None:
                self._span.end(outcome)

    async def _tell(self, command: Command) -> None:
        if not self._id:
            raise HuahuoError("the job has not begun: write async with app.job(…) as job")
        await self._jobs.tell(self._id, command, trace=self._place)

    @property
    def _place(self) -> str:
        return "" if self._span is None else self._span.place

    def _on_cancel(self) -> None:
        self._cancelled.set()
        if self._body is not None and not self._asked and not self._stopped_body:
            self._stopped_body = True
            self._body.cancel()


class _Call(Protocol):
    """Runs a coroutine on the service's loop and blocks until it is done."""

    def __call__[T](self, work: Callable[[App], Coroutine[Any, Any, T]], /) -> T: ...


class BlockingJob:
    """A job of a thread: `with service.job("import", user=42) as job`. Made by `Service.job`.

    After a cancel, the next `progress` or `message` raises JobCancelled, which ends the block silently. A
    block that looks at `cancelled` ends by itself.
    """

    def __init__(self, call: _Call, name: str, user: UserId | None) -> None:
        self._call = call
        self._name = name
        self._user = user
        self._begun: Job | None = None

    @property
    def id(self) -> int:
        """Its number; 0 before it began."""
        return 0 if self._begun is None else self._begun.id

    @property
    def stream(self) -> str:
        """Where it can be followed: `job/7`."""
        return self._job.stream

    @property
    def outcome(self) -> JobOutcome | None:
        """How it ended, None while it runs."""
        return self._job.outcome

    @property
    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return bool(self._job.cancelled)

    def progress(self, percent: float, message: str = "") -> None:
        """See `Job.progress`. Raises JobCancelled: it was cancelled."""
        job = self._running()
        self._call(lambda _app: job.progress(percent, message))

    def message(self, text: str) -> None:
        """See `Job.message`. Raises JobCancelled: it was cancelled."""
        job = self._running()
        self._call(lambda _app: job.message(text))

    def fail(self, message: str) -> None:
        """See `Job.fail`."""
        job = self._job
        self._call(lambda _app: job.fail(message))

    def __enter__(self) -> Self:
        async def begin(app: App) -> Job:
            return await Job(app, self._name, self._user).begin()

        self._begun = self._call(begin)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        job = self._job
        try:
            self._call(lambda _app: job.finish(error))
        except Exception:
            if error is None:
                raise
        return isinstance(error, JobCancelled) and bool(job.cancelled)

    @property
    def _job(self) -> Job:
        if self._begun is None:
            raise HuahuoError("the job has not begun: write `with service.job(…) as job`")
        return self._begun

    def _running(self) -> Job:
        job = self._job
        if job.must_stop:
            raise JobCancelled(job.stream)
        return job


def _nothing() -> None:
    pass
