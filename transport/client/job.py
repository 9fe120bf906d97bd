"""A job of the service as its user sees it: how far it is, how it ended, and a way to cancel it.

```python
async with client.job(7) as job:
    async for now in job:
        print(now.percent, now.message)
print(job.now.status)
```
"""

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Protocol, Self

import msgspec

from huahuo.transport.client.model import After, Event
from huahuo.transport.client.subscription import Events

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


class Asks(Protocol):
    """The part of the client that a job uses."""

    def events(self, stream: str, after: After | None = None) -> Events:
        """See `Client.events`."""
        ...

    async def request(self, action: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        """See `Client.request`."""
        ...


class WatchedJob:
    """See the module. `now` is the newest state that came."""

    def __init__(self, client: Asks, job_id: int) -> None:
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
        self.now = after(self.now, await anext(self._events))
        return self.now

    async def wait(self) -> Job:
        """Wait until the job has ended, and return its last state."""
        async for _ in self:
            pass
        return self.now

    async def cancel(self) -> None:
        """Ask it to end. Raises CommandError: `conflict` says that it has ended."""
        await self._client.request("cancel_job", {"job_id": self.id})


def after(job: Job, event: Event) -> Job:
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
