"""A long import as one job: sent in several commands, and every page of the user sees how far it is.

`begin_import` begins the job, each `import_emails` with its `job_id` moves it, `end_import` ends it. What is
counted is in memory: after a restart the service ends the job as `interrupted`, and the commands that the
client still sends are done without it. A client that falls silent has its job ended in the same way.
"""

import asyncio
import contextlib
from collections import Counter
from typing import Final

import msgspec
import structlog

from huahuo.actors.actor.errors import AskTimeout
from huahuo.actors.entities.errors import EntityError
from huahuo.actors.plugins.actions import Action
from huahuo.actors.plugins.calls import Call, Refusal, Reply, error_reply, json_reply
from huahuo.actors.plugins.jobs import JobDoor, JobOutcome, Jobs
from huahuo.actors.plugins.principal import UserId
from huahuo.eventstore.errors import EventStoreError
from huahuo.mailcheck.api.params import BeginImportParams, EndImportParams
from huahuo.mailcheck.replies import ImportResult
from huahuo.mailcheck.words import en, zh

JOB_NAME: Final = "import_emails"
PER_USER_MAX: Final = 4
"""Imports of one user at a time."""
SILENT_S: Final = 600.0
"""After as long without a command, the client is gone."""
_WHOLE: Final = 100

_log = structlog.get_logger(__name__)
_result: Final = msgspec.json.Decoder(ImportResult).decode


class Importing:
    """One import. `success` and `failed` count lines."""

    def __init__(self, job_id: int, user_id: UserId, lines: int) -> None:
        self.job_id = job_id
        self.user_id = user_id
        self.lines = lines
        self.success = 0
        self.failed = 0
        self.cancelled = False
        self.silent: asyncio.TimerHandle | None = None
        self.unwatch = _nothing

    @property
    def said(self) -> str:
        """How far it is, for people."""
        return zh.IMPORT_PROGRESS.format(self.success, self.failed, self.lines)

    @property
    def percent(self) -> float:
        """Below 100 until it has ended."""
        return min(_WHOLE - 1, (self.success + self.failed) * _WHOLE // self.lines)


class ImportJobs:
    """See the module. All methods belong to the loop's thread."""

    def __init__(self, door: JobDoor) -> None:
        self._door = door
        self._open: dict[int, Importing] = {}
        self._beginning: Counter[UserId] = Counter()
        self._ends: set[asyncio.Task[None]] = set()

    def actions(self) -> list[Action]:
        """See the module."""
        return [
            Action("begin_import", BeginImportParams, self._begin),
            Action("end_import", EndImportParams, self._end, frees=True),
        ]

    def of(self, user_id: UserId, job_id: int | None) -> Importing | None:
        """The open import with this job, None if the user has none."""
        found = None if job_id is None else self._open.get(job_id)
        return found if found is not None and found.user_id == user_id else None

    async def did(self, job: Importing, body: bytes) -> None:
        """A command of this import was answered."""
        self._listen(job)
        try:
            result = _result(body)
        except msgspec.ValidationError:
            return  # it was refused, and the client knows
        job.success += result.success
        job.failed += result.failed
        if self._door.jobs is not None and job.job_id in self._open:
            with contextlib.suppress(EventStoreError, EntityError, AskTimeout):  # the lines are in
                await self._door.jobs.progress(job.job_id, job.percent, job.said)

    async def close(self) -> None:
        """Forget the imports. The next start ends their jobs."""
        for job in list(self._open.values()):
            self._forget(job)
        for task in list(self._ends):
            task.cancel()
        await asyncio.gather(*self._ends, return_exceptions=True)

    async def _begin(self, call: Call[BeginImportParams]) -> Reply:
        jobs, user_id = self._door.jobs, call.principal.user_id
        if jobs is None:
            return error_reply(Refusal("not_found", zh.NO_JOBS, en.NO_JOBS_HERE))
        count = sum(one.user_id == user_id for one in self._open.values()) + self._beginning[user_id]
        if count >= PER_USER_MAX:
            return error_reply(Refusal("busy", zh.IMPORTS_MAX.format(PER_USER_MAX), retry_s=10.0))
        self._beginning[user_id] += 1  # several may come while the first is written
        try:
            job = Importing(await jobs.begin(JOB_NAME, user_id), user_id, call.params.lines)
        finally:
            self._beginning[user_id] -= 1
            if not self._beginning[user_id]:
                del self._beginning[user_id]
        self._open[job.job_id] = job
        job.unwatch = jobs.watch(job.job_id, lambda: setattr(job, "cancelled", True))
        self._listen(job)
        return json_reply({"type": "success", "message": zh.IMPORT_BEGUN, "job_id": job.job_id})

    async def _end(self, call: Call[EndImportParams]) -> Reply:
        job = self.of(call.principal.user_id, call.params.job_id)
        if job is None or self._door.jobs is None:
            return error_reply(Refusal("not_found", zh.NO_IMPORT.format(call.params.job_id)))
        self._forget(job)
        outcome: JobOutcome = "interrupted" if call.params.stopped else "done"
        await self._door.jobs.end(job.job_id, "cancelled" if job.cancelled else outcome, job.said)
        return json_reply(
            {
                "type": "success",
                "message": job.said,
                "job_id": job.job_id,
                "success": job.success,
                "failed": job.failed,
            }
        )

    def _listen(self, job: Importing) -> None:
        """Wait for the client's next command."""
        if job.silent is not None:
            job.silent.cancel()
        if job.job_id in self._open:
            job.silent = asyncio.get_running_loop().call_later(SILENT_S, self._left, job)

    def _left(self, job: Importing) -> None:
        jobs = self._door.jobs
        self._forget(job)
        if jobs is not None:
            task = asyncio.get_running_loop().create_task(_interrupted(jobs, job))
            self._ends.add(task)
            task.add_done_callback(self._ends.discard)

    def _forget(self, job: Importing) -> None:
        self._open.pop(job.job_id, None)
        job.unwatch()
        if job.silent is not None:
            job.silent.cancel()


async def _interrupted(jobs: Jobs, job: Importing) -> None:
    try:
        await jobs.end(job.job_id, "interrupted", job.said)
    except (EventStoreError, EntityError, AskTimeout) as error:  # it is tried again
        _log.warning("import_not_ended", job_id=job.job_id, error=type(error).__name__)


def _nothing() -> None:
    pass
