"""A log that misbehaves on demand, and short ways to write events."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.errors import Unavailable
from huahuo.eventstore.memory import MemoryLog, ModelDisk
from huahuo.eventstore.model import (
    LOG_STREAM,
    Append,
    Appended,
    Duplicate,
    Joined,
    Keyframe,
    NewEvent,
    Page,
    StoredEvent,
    joined_of,
)
from huahuo.eventstore.port import Hearer, Listener, Log

READ_ALL = {"events_max": 1000, "bytes_max": 1 << 20}


class FaultyLog(MemoryLog):
    """The memory engine, except for the faults that a test switches on.

    `deaf`: signals of new events are lost. `compacted`: positions that reads no longer give.
    `read_gate`: reads wait until it is set. `read_fault`, `keyframe_fault`: what reads and
    the storing of keyframes raise. `before_append`: runs before an append reaches the engine. `lose`:
    the next appends raise Unavailable, "before" or "after" they were written.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.deaf = False
        self.compacted: set[int] = set()
        self.read_gate: asyncio.Event | None = None
        self.read_fault: Exception | None = None
        self.keyframe_fault: Exception | None = None
        self.reads: list[tuple[str, int]] = []
        self.reading = 0
        self.reading_peak = 0
        self.appends: list[Append] = []
        self.before_append: Callable[[Append], object] | None = None
        self.lose: list[str] = []

    def submit(
        self, append: Append, *, events_bytes: int | None = None
    ) -> asyncio.Future[Appended | Duplicate]:
        """See `Log`; with the faults of `append`."""
        return asyncio.get_running_loop().create_task(self.append(append))

    def submit_for(
        self, hearer: Hearer, about: Any, append: Append, *, events_bytes: int | None = None
    ) -> None:
        """See `Log`; with the faults of `append`, if there are any."""
        if self.before_append is None and not self.lose:
            self.appends.append(append)
            super().submit_for(hearer, about, append, events_bytes=events_bytes)
            return

        def told(written: asyncio.Future[Appended | Duplicate]) -> None:
            if not written.cancelled():
                error = written.exception()
                assert error is None or isinstance(error, Exception)
                hearer.heard([(about, error or written.result())])

        self.submit(append).add_done_callback(told)

    async def append(self, append: Append) -> Appended | Duplicate:
        """See `Log`; with the faults of this class, and kept in `appends`."""
        self.appends.append(append)
        if self.before_append is not None:
            waited = self.before_append(append)
            if asyncio.iscoroutine(waited):
                await waited
        lost = self.lose.pop(0) if self.lose else ""
        if lost == "before":
            raise Unavailable("lost before it was written")
        outcome = await super().append(append)
        if lost == "after":
            raise Unavailable("lost after it was written")
        return outcome

    async def append_soundly(self, append: Append) -> Appended:
        """As another writer would: no fault of this class, nothing noted."""
        outcome = await super().append(append)
        assert isinstance(outcome, Appended)
        return outcome

    async def read(
        self, stream: str, after: int, *, events_max: int, bytes_max: int = 1 << 20
    ) -> list[StoredEvent]:
        async with self._faults(stream, after):
            found: list[StoredEvent] = []
            while not found:
                page = await super().read(stream, after, events_max=events_max, bytes_max=bytes_max)
                if not page:
                    break
                after = page[-1].position if stream == LOG_STREAM else page[-1].seq
                found = [e for e in page if e.position not in self.compacted]
            return found

    async def read_pages(self, pages: Sequence[Page]) -> list[list[StoredEvent]]:
        return [await self._page_of(page) for page in pages]

    async def _page_of(self, page: Page) -> list[StoredEvent]:
        return await self.read(page.stream, page.after, events_max=page.events_max, bytes_max=page.bytes_max)

    async def read_joined_pages(self, pages: Sequence[Page]) -> list[Joined | None]:
        return [await self._joined(page) for page in pages]

    async def _joined(self, page: Page) -> Joined | None:
        found = await self.read(page.stream, page.after, events_max=page.events_max, bytes_max=page.bytes_max)
        return joined_of(((event.seq, event.body) for event in found), page.bytes_max)

    @asynccontextmanager
    async def _faults(self, stream: str, after: int) -> AsyncIterator[None]:
        self.reads.append((stream, after))
        self.reading += 1
        self.reading_peak = max(self.reading_peak, self.reading)
        try:
            if self.read_gate is not None:
                await self.read_gate.wait()
            if self.read_fault is not None:
                raise self.read_fault
            yield
        finally:
            self.reading -= 1

    async def put_keyframe(self, frame: Keyframe) -> None:
        if self.keyframe_fault is not None:
            raise self.keyframe_fault
        await super().put_keyframe(frame)

    def listen(self, listener: Listener) -> Callable[[], None]:
        def unless_deaf(events: Sequence[StoredEvent]) -> None:
            if not self.deaf:
                listener(events)

        return super().listen(unless_deaf)


class StepExecutor:
    """Runs jobs on the loop, each one step later, so that a caller that awaits one is really suspended."""

    async def run[T](self, job: Callable[[], T]) -> T:
        """See `Executor`."""
        await asyncio.sleep(0)
        return job()

    def close(self, *, wait: bool = True) -> None:
        """See `Executor`."""


async def faulty_log(disk: ModelDisk | None = None) -> FaultyLog:
    """That of a disk, or an empty one."""
    return await FaultyLog.open(
        disk or ModelDisk(),
        ambient=FakeAmbient(),
        master_key=bytes(32),
        build="test",
        executor=StepExecutor(),
    )


async def write(log: Log, *streams: str, body: bytes = b'{"n":1}') -> Appended:
    """One append with an event for each of these names."""
    events = tuple(NewEvent(stream=s, type="t", body=body) for s in streams)
    outcome = await log.append(Append(ts_ms=1_790_000_000_000, events=events))
    assert isinstance(outcome, Appended)
    return outcome


def numbers(events: Sequence[StoredEvent]) -> list[int]:
    """Their seqs."""
    return [e.seq for e in events]
