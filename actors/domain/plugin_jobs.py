"""The built-in kind `job`, as plug-ins use it."""

from collections.abc import Callable

from huahuo.actors.domain import jobs
from huahuo.actors.domain.decision import Refused
from huahuo.actors.domain.own_jobs import OwnJobs
from huahuo.actors.plugins.jobs import JobOutcome
from huahuo.actors.plugins.principal import UserId


class PluginJobs:
    """See `Jobs`."""

    def __init__(self, own: OwnJobs) -> None:
        self._jobs = own

    async def begin(self, name: str, user: UserId | None) -> int:
        """See `Jobs`."""
        return await self._jobs.start(name, user)

    async def progress(self, job_id: int, percent: float, message: str) -> bool:
        """See `Jobs`."""
        try:
            await self._jobs.tell(job_id, jobs.report_of(percent, message))
        except Refused:
            return False
        return True

    async def end(self, job_id: int, outcome: JobOutcome, message: str = "") -> None:
        """See `Jobs`."""
        await self._jobs.end(job_id, jobs.EndJob(outcome, message=message))

    def watch(self, job_id: int, cancelled: Callable[[], None]) -> Callable[[], None]:
        """See `Jobs`."""
        return self._jobs.watch(job_id, cancelled)
