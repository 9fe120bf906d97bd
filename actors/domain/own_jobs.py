"""Jobs of this process, and those that earlier processes left: begun, told and ended as commands."""

from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from huahuo.actors.domain import jobs
from huahuo.actors.domain.decision import Refused
from huahuo.actors.domain.entity import Entity
from huahuo.actors.domain.firing import SERVICE
from huahuo.actors.domain.job_board import JobBoard
from huahuo.actors.domain.late_ends import LateEnds
from huahuo.actors.domain.left_jobs import LeftJobs
from huahuo.actors.domain.names import COUNTER
from huahuo.actors.domain.sent import Done, Sent
from huahuo.actors.domain.structs import Command
from huahuo.actors.entities.decider import Answer, Origin
from huahuo.actors.entities.sharing import WHOLE, Share
from huahuo.actors.plugins.principal import UserId
from huahuo.actors.plugins.traceparent import carried
from huahuo.eventstore.port import Log
from huahuo.replay.live.feed import Feed


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
    """See the module. All methods belong to the loop's thread."""

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

    async def end(self, job_id: int, command: jobs.EndJob, *, trace: str = "") -> None:
        """End a job. If the end cannot be written, this raises, and the end is tried again until it is."""
        await self._late.end(job_id, command, trace)

    async def start(self, name: str, user: UserId | None, *, trace: str = "") -> int:
        """Begin a job and return its id. Raises Refused: it has no name. `trace`: as for `tell`."""
        await self._log.reserve(COUNTER + jobs.KIND)  # behind it this process has its incarnation
        return await self._send(None, jobs.starting(name, user, self._log.incarnation), trace)

    async def _end_left(self, job_id: int, command: jobs.EndJob) -> None:
        """End a job of an earlier process, in the trace in which it began."""
        begun = await self._log.read(f"{jobs.KIND}/{job_id}", 0, events_max=1)
        await self.end(job_id, command, trace=carried(begun[0].command_id) if begun else "")

    async def _send(self, job_id: int | None, command: Command, trace: str) -> int:
        answer = await self._entities.execute(self._entity, job_id, Sent(command), Origin(SERVICE, trace))
        assert answer.reply is not None, "without a command id there is no duplicate"
        said = msgspec.json.decode(answer.reply.body)
        if answer.reply.refused:
            raise Refused(said["code"], said["message"], said.get("details", ""))
        number: int = said["job_id"]
        return number
