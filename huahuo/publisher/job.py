"""A job of this process, told to the service: `with publisher.job("import", user=42) as job`.

The block's end is the job's end: `done`, `failed` after an exception (which goes on), `cancelled` after
`cancel_job`. While the block runs, a thread tells the service that this process is there.
"""

import threading
from types import TracebackType
from typing import Any, Final, Protocol, Self

from huahuo.actors.domain.decision import Refused
from huahuo.errors import HuahuoError, JobCancelled, Unknown

LEASE_S: Final = 60.0
_KEPT_EVERY: Final = 4
"""Times in each lease that the service is told that this process is there."""

type UserId = int | str


class _Sends(Protocol):
    def send(self, action: str, /, *, command_id: str | None = None, **fields: Any) -> dict[str, Any]:
        """See `Publisher.send`."""
        ...


class RemoteJob:
    """See the module. Made by `Publisher.job`.

    After a cancel, the next `progress` or `message` raises JobCancelled, which ends the block silently. A
    block that looks at `cancelled` ends by itself.
    """

    def __init__(self, publisher: _Sends, name: str, user: UserId | None, lease_s: float) -> None:
        self._publisher = publisher
        self._begin: dict[str, Any] = {"name": name, "user": user, "lease_s": lease_s}
        self._lease_s = lease_s
        self._id = 0
        self._cancelled = False
        self._asked = False
        self._over = threading.Event()
        self.outcome: str | None = None
        """How it ended, None while it runs."""

    @property
    def id(self) -> int:
        """Its number; 0 before it began."""
        return self._id

    @property
    def stream(self) -> str:
        """Where it can be followed: `job/7`."""
        return f"job/{self._id}"

    @property
    def cancelled(self) -> bool:
        """Whether it was cancelled. It is heard with each report, and a few times in each lease."""
        self._asked = True
        return self._cancelled

    def progress(self, percent: float, message: str = "") -> None:
        """Say how far it is, 0 to 100. Raises JobCancelled, and as `Publisher.send`."""
        self._tell(percent=percent, message=message)

    def message(self, text: str) -> None:
        """Say something to those who watch. Raises JobCancelled, and as `Publisher.send`."""
        self._tell(message=text)

    def fail(self, message: str) -> None:
        """End it as failed, with a text for those who watch. Nothing is raised in the block."""
        self._end("failed", message=message)

    def __enter__(self) -> Self:
        if self._id:
            raise HuahuoError("a job begins once: ask the publisher for another one")
        self._id = self._publisher.send("begin_remote_job", **self._begin)["job_id"]
        threading.Thread(target=self._keep, name=f"huahuo {self.stream}", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._over.set()
        ours = isinstance(error, JobCancelled) and self._cancelled
        try:
            if error is None or ours:
                self._end("cancelled" if self._cancelled else "done")
            elif isinstance(error, Exception):
                self._end("failed", error=type(error).__name__)
            else:
                self._end("interrupted")
        except (Refused, Unknown):
            if error is None:
                raise
        return ours

    def _tell(self, **said: Any) -> None:
        if not self._id:
            raise HuahuoError("the job has not begun: write `with publisher.job(…) as job`")
        if self._cancelled and not self._asked:
            raise JobCancelled(self.stream)
        self._heard(self._sent(**said))
        if self._cancelled and not self._asked:
            raise JobCancelled(self.stream)

    def _sent(self, **said: Any) -> dict[str, Any]:
        return self._publisher.send("tell_remote_job", job_id=self._id, lease_s=self._lease_s, **said)

    def _heard(self, reply: dict[str, Any]) -> None:
        if reply.get("status") == "cancelling":
            self._cancelled = True

    def _end(self, outcome: str, **more: str) -> None:
        self._over.set()
        if self.outcome is None:
            said = self._publisher.send("end_remote_job", job_id=self._id, outcome=outcome, **more)
            self.outcome = str(said["status"])

    def _keep(self) -> None:
        """Tell the service that this process is there, until the block ends."""
        while not self._over.wait(self._lease_s / _KEPT_EVERY):
            try:
                self._heard(self._sent())
            except Unknown:
                continue  # the service is away; a lease that runs out meanwhile is renewed at its start
            except Refused:
                return  # it has ended: the block hears so when it says something
