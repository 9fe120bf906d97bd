"""The iterators over one stream, and a job of the service as its user sees it.

An event is acknowledged when the application asks for the next one. A job tells how far it is, how it
ended, and can be cancelled:

```python
async with client.job(7) as job:
    async for now in job:
        print(now.percent, now.message)
print(job.now.status)
```
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Final, Protocol, Self

import msgspec

from huahuo.transport.client.model import After, Event, Item, Outcome


class Source(Protocol):
    """The part of the client that a subscription and a job use; see `Client`."""

    def take(self, stream: str) -> Item | None: ...  # noqa: D102

    def processed(self, stream: str, era: int, seq: int) -> None: ...  # noqa: D102

    def release(self, subscription: "Subscription") -> None: ...  # noqa: D102

    def events(self, stream: str, after: After | None = None) -> "Events": ...  # noqa: D102

    async def request(self, action: str, fields: Mapping[str, Any]) -> dict[str, Any]: ...  # noqa: D102


class Subscription:
    """One consumer of one stream. Close it (`async with`, or `close()`) when you stop reading.

    An item counts as processed, and is acknowledged, when the consumer asks for the next one or leaves
    without an exception. If processing raised, the item is sent again to the next subscription.
    """

    def __init__(self, stream: str, source: Source) -> None:
        self.stream = stream
        self._source = source
        self._readable = asyncio.Event()
        self._placed: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._error: Exception | None = None
        self._closed = False
        self._unfinished: tuple[int, int] | None = None  # era and seq of the item that the consumer works on

    async def ready(self) -> Outcome:
        """Wait until the server has placed this subscription; returns the outcome.

        Raises:
            ClientError: it never will; the error is the reason.
        """
        return await asyncio.shield(self._placed)

    def close(self) -> None:
        """Stop reading. The item that the consumer works on stays unprocessed."""
        if not self._closed:
            self._closed = True
            self._placed.cancel()
            self._readable.set()
            self._source.release(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._finish()
        self.close()

    def __del__(self) -> None:
        # A `break` out of `async for` without `close` must not use up the window of other streams.
        self.close()

    async def _next_item(self) -> Item:
        while True:
            if self._closed:
                raise StopAsyncIteration
            item = self._source.take(self.stream)
            if item is not None:
                return item
            if self._error is not None:
                raise self._error
            self._readable.clear()
            await self._readable.wait()

    def _finish(self) -> None:
        if self._unfinished is not None and not self._closed:
            self._source.processed(self.stream, *self._unfinished)
            self._unfinished = None

    # -- called by the client -------------------------------------------------------------------

    def wake(self) -> None:
        """There is an item to take."""
        self._readable.set()

    def placed(self, outcome: Outcome) -> None:
        """The server has placed this subscription."""
        if not self._placed.done():
            self._placed.set_result(outcome)

    def failed(self, error: Exception) -> None:
        """No more items will come. Items in the buffer may still be read."""
        self._error = error
        if not self._placed.done():
            self._placed.set_exception(error)
            self._placed.exception()  # marks it as retrieved; `ready` still raises it
        self._readable.set()


class Batches(Subscription):
    """Whole runs as they arrived: `Batch`, `Snapshot` and `Skipped` items."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Item:
        self._finish()
        item = await self._next_item()
        self._unfinished = (item.era, item.last)
        return item


class Events(Subscription):
    """Single events, including `snapshot` and `skipped` (see `Event`)."""

    _item: Iterator[Event] = iter(())
    _era = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        self._finish()
        while True:
            event = next(self._item, None)
            if event is not None and not self._closed:
                self._unfinished = (self._era, event.seq)
                return event
            item = await self._next_item()
            self._item, self._era = iter(item), item.era


async def pages(
    request: Callable[[str, Mapping[str, Any]], Awaitable[dict[str, Any]]],
    action: str,
    fields: Mapping[str, Any],
) -> AsyncIterator[dict[str, Any]]:
    """Ask for the next page with `before` until the reply's `next` is null.

    ```python
    async for page in client.pages("get_all_emails", limit=1000, sort="-last_check_time"):
        show(page["data"])
    ```

    Raises:
        CommandError, QueueFull, ClientStopped: as `send`. Pages handed over before stay valid.
    """
    page = await request(action, fields)
    yield page
    while (following := page.get("next")) is not None:
        page = await request(action, {**fields, "before": following})
        yield page


_RUNNING: Final = frozenset({"new", "running", "cancelling"})


class Job(msgspec.Struct, frozen=True):
    """The state of a job. `status`: `new`, `running`, `cancelling`, or how it ended.

    The outcomes are `done`, `failed` (`error` is the type of the exception), `cancelled` and `interrupted`.
    """

    name: str = ""
    percent: float = 0
    message: str = ""
    status: str = "new"
    error: str = ""

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        return self.status not in _RUNNING


class WatchedJob:
    """A job of the service as its user sees it: how far it is, how it ended, and a way to cancel it.

    `now` is the newest state that came.
    """

    def __init__(self, client: Source, job_id: int) -> None:
        self.id = job_id
        self.now = Job()
        self._client = client
        self._events: Events | None = None

    async def __aenter__(self) -> Self:
        """Begin to watch. Raises ClientError: there is no such job, or the user may not read it."""
        self._events = events = self._client.events(f"job/{self.id}", "snapshot")
        try:
            await events.ready()
        except BaseException:
            events.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._events is not None:
            await self._events.__aexit__(kind, error, trace)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Job:
        """The next state. The iteration ends after the state in which the job has ended."""
        if self._events is None:
            raise RuntimeError("use `async with client.job(…) as job`")
        if self.now.ended:
            raise StopAsyncIteration
        self.now = job_after(self.now, await anext(self._events))
        return self.now

    async def wait(self) -> Job:
        """Wait until the job has ended, and return its last state."""
        async for _ in self:
            pass
        return self.now

    async def cancel(self) -> None:
        """Ask it to end. Raises CommandError: `conflict` says that it has ended."""
        await self._client.request("cancel_job", {"job_id": self.id})


def job_after(job: Job, event: Event) -> Job:
    """The state after an event. Events of other types change nothing."""
    data = event.data
    match event.type:
        case "snapshot":
            return msgspec.convert(data["state"], Job)
        case "job_started":
            changes = {"name": data["name"], "status": "running"}
        case "job_progress":
            changes = {"percent": data["percent"], "message": data.get("message") or job.message}
        case "job_message":
            changes = {"message": data["message"]}
        case "job_cancel_requested":
            changes = {"status": "cancelling"}
        case "job_ended":
            message = data.get("message") or job.message
            changes = {"status": data["outcome"], "error": data.get("error", ""), "message": message}
        case _:
            return job
    return msgspec.structs.replace(job, **changes)
