"""Jobs for plug-ins: work that a user watches as `job/<id>` and may cancel. The entities provide them."""

from collections.abc import Callable
from typing import Literal, Protocol

from huahuo.actors.plugins.principal import UserId

type JobOutcome = Literal["done", "failed", "cancelled", "interrupted"]


class Jobs(Protocol):
    """What a plug-in may do with jobs."""

    async def begin(self, name: str, user: UserId | None) -> int:
        """Begin a job that this user may read and cancel, and return its id."""
        ...

    async def progress(self, job_id: int, percent: float, message: str) -> bool:
        """Say how far it is, 0 to 100. False: it has ended."""
        ...

    async def end(self, job_id: int, outcome: JobOutcome, message: str = "") -> None:
        """End it; a second end changes nothing. An end that cannot be written raises, and is tried again."""
        ...

    def watch(self, job_id: int, cancelled: Callable[[], None]) -> Callable[[], None]:
        """Call `cancelled` once somebody cancels this job; the result ends that."""
        ...


class JobDoor:
    """The jobs of a service, for plug-ins that are brought before the one that provides them."""

    def __init__(self) -> None:
        self._jobs: Jobs | None = None

    def open(self, jobs: Jobs) -> None:
        """From now on they can be had."""
        self._jobs = jobs

    @property
    def jobs(self) -> Jobs | None:
        """The jobs, None if no plug-in provides them."""
        return self._jobs
