"""Jobs of this process, and those that earlier processes left: begun, told and ended as commands.

`JobBoard` tells each running job of its cancel. `LateEnds` keeps the ends that could not be written, as on
a full disk: each is tried again until it is. `LeftJobs` ends jobs whose process ended: at a start, and
where nodes share the log, soon after a node died.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec
import structlog

from huahuo.actors.actor.messages import AskTimeout
from huahuo.actors.domain import jobs
from huahuo.actors.domain.entity import Entity
from huahuo.actors.domain.jobs import EndJob
from huahuo.actors.domain.projection_rows import TABLE_PREFIX
from huahuo.actors.domain.storable import COUNTER
from huahuo.actors.domain.structs import Command, Refused, traits
from huahuo.actors.domain.writing import Done, Sent
from huahuo.actors.entities.decider import Answer, EntityError, Origin
from huahuo.actors.entities.rendezvous_hash import NOTHING, WHOLE, Share
from huahuo.actors.plugins.calls import SERVICE, UserId, carried
from huahuo.actors.plugins.plugin import JobOutcome
from huahuo.eventstore.deadline import cancel_all
from huahuo.eventstore.errors import Closed, EventStoreError, TooLarge
from huahuo.eventstore.model import StoredEvent
from huahuo.eventstore.port import Log
from huahuo.replay.feed import Feed

CANCEL_REQUESTED: Final = traits(jobs.JobCancelRequested).name


class JobBoard:
    """The jobs of this process: tells each of its cancel. All methods belong to the loop's thread."""

    def __init__(self, feed: Feed, jobs_of: "OwnJobs") -> None:
        self._feed = feed
        self._jobs = jobs_of
        self._watched: dict[str, Callable[[], None]] = {}
        self._untap: Callable[[], None] | None = None
        self._looks: set[asyncio.Task[None]] = set()

    def watch(self, job_id: int, cancelled: Callable[[], None]) -> Callable[[], None]:
        """Call `cancelled` once somebody cancels this job; the result ends that."""
        stream = f"{jobs.KIND}/{job_id}"
        self._watched[stream] = cancelled
        if self._untap is None:
            self._untap = self._feed.tap(self._committed)
        return lambda: self._unwatch(stream)

    def _unwatch(self, stream: str) -> None:
        self._watched.pop(stream, None)
        if not self._watched and self._untap is not None:
            self._untap()
            self._untap = None

    def _committed(self, by_stream: Mapping[str, Sequence[StoredEvent]] | None) -> None:
        if by_stream is None:  # signals were lost: only the states can tell
            for stream in self._watched:
                look = asyncio.get_running_loop().create_task(self._look(stream))
                self._looks.add(look)
                look.add_done_callback(self._looks.discard)
            return
        for stream in self._watched.keys() & by_stream.keys():
            if any(event.type == CANCEL_REQUESTED for event in by_stream[stream]):
                self._watched[stream]()

    async def _look(self, stream: str) -> None:
        state = await self._jobs.state(int(stream.partition("/")[2]))
        cancelled = self._watched.get(stream)
        if state.status == "cancelling" and cancelled is not None:
            cancelled()


AGAIN_S: Final = 5.0

_log = structlog.get_logger(__name__)


class LateEnds:
    """Ends of jobs that could not be written, as on a full disk: each is tried again until it is.

    All methods belong to the loop's thread.
    """

    def __init__(self, tell: Callable[[int, EndJob, str], Awaitable[object]]) -> None:
        self._tell = tell
        self._waiting: dict[int, tuple[EndJob, str]] = {}
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    async def end(self, job_id: int, command: EndJob, trace: str = "") -> None:
        """End a job; of several ends that wait for room, the first counts. `trace`: the command's id.

        Raises:
            Refused, and as `Directory.ask`. If it may pass, the end is tried again by itself.
        """
        self._waiting.setdefault(job_id, (command, trace))
        try:
            await self._try(job_id)
        finally:  # also where the caller was cancelled in the midst
            if self._waiting and self._task is None and not self._closed:
                self._task = asyncio.create_task(self._run(), name="ends of jobs")

    async def close(self) -> None:
        """Try no more: the next start ends these jobs. Idempotent."""
        self._closed = True
        self._waiting.clear()
        task, self._task = self._task, None
        if task is not None:
            await cancel_all([task], 1.0)

    async def _try(self, job_id: int) -> None:
        try:
            await self._tell(job_id, *self._waiting[job_id])
        except Exception as error:
            if not _may_pass(error):
                self._waiting.pop(job_id, None)
            raise
        self._waiting.pop(job_id, None)

    async def _run(self) -> None:
        while self._waiting:
            await asyncio.sleep(AGAIN_S)
            failed: list[tuple[int, str]] = []
            for job_id in [*self._waiting]:
                if job_id not in self._waiting:
                    continue  # another end of it was written meanwhile
                try:
                    await self._try(job_id)
                except Exception as error:  # noqa: BLE001  the others are tried all the same
                    failed.append((job_id, type(error).__name__))
            if failed:  # one line for all: a full disk has no room for thousands
                _log.warning("job_not_ended", jobs=len(failed), job_id=failed[0][0], error=failed[0][1])
        self._task = None


def _may_pass(error: Exception) -> bool:
    passing = isinstance(error, EventStoreError | EntityError | AskTimeout)
    return passing and not isinstance(error, Closed | TooLarge)


TICK_S: Final = 0.5
"""How often it is asked who lives. The table is read only if that has changed, and at the second look:
a node that was frozen hears first that the others went on."""
SETTLE_S: Final = 3.0
"""A node whose part begins may have been cut off: for this long, silence of others says nothing."""
LEFT_AGAIN_S: Final = 5.0
_PAGE: Final = 256


class LeftJobs:
    """Ends jobs whose process ended: at a start, and where nodes share the log, soon after a node died.

    All methods belong to the loop's thread.
    """

    def __init__(self, log: Log, end: Callable[[int], Awaitable[None]]) -> None:
        self._events = log
        self._end = end
        self._share: Share = NOTHING
        self._task: asyncio.Task[None] | None = None

    async def divide(self, share: Share) -> None:
        """From now on, end those of this part, as soon as the process of each has ended."""
        self._share = share
        if share.is_nothing:
            await self.close()
        elif self._task is None:
            self._task = asyncio.create_task(self._run(), name="jobs left open")

    async def close(self) -> None:
        """Look no more. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            await cancel_all([task], 1.0)

    async def look(self, share: Share, *, settled: bool = True) -> bool:
        """End those of this part as `interrupted`. False: one could not be ended, which is logged.

        Raises:
            Unavailable, Closed: the log could not be read.
        """
        living, all_ended, before = self._events.living(), True, None
        while True:
            page = await self._events.rows(TABLE_PREFIX + jobs.TABLE, jobs.OPEN, before=before, limit=_PAGE)
            left = [
                int(key)
                for key, value in page
                if share.has(f"{jobs.KIND}/{int(key)}")
                and is_left(jobs.begun_by(value), living, share.nodes, settled=settled)
            ]
            done = await asyncio.gather(*(self._end(job) for job in left), return_exceptions=True)
            for job, result in zip(left, done, strict=True):
                if isinstance(result, Exception):
                    all_ended = False
                    _log.error("job_left_open", job_id=job, error=type(result).__name__)
            if len(page) < _PAGE:
                return all_ended
            before = page[-1][0]

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        settled_s = loop.time() + SETTLE_S
        seen = looked = None
        while True:
            share, settled = self._share, loop.time() >= settled_s
            now = self._events.living(), share, settled
            if now == seen and now != looked:
                try:
                    all_ended = await self.look(share, settled=settled)
                except EventStoreError as error:
                    all_ended = False
                    _log.warning("jobs_not_read", error=type(error).__name__)
                if all_ended:
                    looked = now
                else:
                    await asyncio.sleep(LEFT_AGAIN_S)
            seen = now
            await asyncio.sleep(TICK_S)


def is_left(by: str, living: Collection[str], sharing: Collection[str], *, settled: bool) -> bool:
    """Whether the incarnation `by`, which began a job, has ended.

    `sharing`: the nodes that do a part of the work; a silent one of them may still be there. `settled`:
    whether silence says anything. A row without a name is of a service that was alone, or of an older
    version: nobody works on it if nobody else lives.
    """
    if not by:
        return settled and len(living) <= 1 and len(sharing) <= 1
    if by in living:
        return False
    node = _node(by)
    return any(_node(one) == node for one in living) or (settled and node not in sharing)


def _node(incarnation: str) -> str:
    return incarnation.rpartition(".")[0]


class Entities(Protocol):
    """What the jobs need of the entities."""

    async def state(self, kind: str, key: int | str) -> tuple[Any, int]:
        """The state of an entity, and the seq of the last event in it."""
        ...

    async def execute(
        self, entity: Entity[Any], key: int | str | None, sent: Sent, origin: Origin
    ) -> Answer[Done]:
        """Send a command. Without a key, the log gives the entity one."""
        ...


class OwnJobs:
    """See the module, and `Jobs` of plug-ins. All methods belong to the loop's thread."""

    def __init__(self, entities: Entities, entity: Entity[Any], log: Log, feed: Feed) -> None:
        """`entity`: the kind `job`."""
        self._entities = entities
        self._entity = entity
        self._log = log
        self._board = JobBoard(feed, self)
        self._late = LateEnds(self._send)
        self._left = LeftJobs(log, self._end_left)

    async def end_left(self) -> None:
        """End the jobs of earlier processes. The service is alone."""
        await self._left.look(WHOLE)

    async def divide(self, share: Share) -> None:
        """From now on, end those of this part, as soon as the process of each has ended."""
        await self._left.divide(share)

    async def close(self) -> None:
        """End no more; the next start goes on with them. Idempotent."""
        await self._left.close()
        await self._late.close()

    def watch(self, job_id: int, cancelled: Callable[[], None]) -> Callable[[], None]:
        """Call `cancelled` once somebody cancels this job; the result ends that."""
        return self._board.watch(job_id, cancelled)

    async def state(self, job_id: int) -> jobs.Job:
        """The state of a job."""
        state, _seq = await self._entities.state(jobs.KIND, job_id)
        found: jobs.Job = state
        return found

    async def tell(self, job_id: int, command: Command, *, trace: str = "") -> None:
        """Send a command to a job, as the service. Raises Refused: it was refused.

        `trace`: the place of the job's span, which is then the id of the command.
        """
        await self._send(job_id, command, trace)

    async def progress(self, job_id: int, percent: float, message: str) -> bool:
        """Say how far it is, 0 to 100. False: it has ended."""
        try:
            await self.tell(job_id, jobs.report_of(percent, message))
        except Refused:
            return False
        return True

    async def end(
        self, job_id: int, outcome: JobOutcome, message: str = "", *, error: str = "", trace: str = ""
    ) -> None:
        """End a job. If the end cannot be written, this raises, and the end is tried again until it is."""
        await self._late.end(job_id, EndJob(outcome, error, message), trace)

    async def begin(self, name: str, user: UserId | None, *, trace: str = "") -> int:
        """Begin a job and return its id. Raises Refused: it has no name. `trace`: as for `tell`."""
        await self._log.reserve(COUNTER + jobs.KIND)  # behind it this process has its incarnation
        return await self._send(None, jobs.starting(name, user, self._log.incarnation), trace)

    async def _end_left(self, job_id: int) -> None:
        """End a job of an earlier process, in the trace in which it began."""
        begun = await self._log.read(f"{jobs.KIND}/{job_id}", 0, events_max=1)
        await self.end(job_id, "interrupted", trace=carried(begun[0].command_id) if begun else "")

    async def _send(self, job_id: int | None, command: Command, trace: str) -> int:
        answer = await self._entities.execute(self._entity, job_id, Sent(command), Origin(SERVICE, trace))
        assert answer.reply is not None, "without a command id there is no duplicate"
        said = msgspec.json.decode(answer.reply.body)
        if answer.reply.refused:
            raise Refused(said["code"], said["message"], said.get("details", ""))
        number: int = said["job_id"]
        return number
