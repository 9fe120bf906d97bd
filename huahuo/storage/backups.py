"""Backups on a schedule: when one is due, who makes it, and what is said if it fails."""

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import msgspec
import structlog

from huahuo.eventstore.ambient import Ambient, json_bytes, rfc3339
from huahuo.eventstore.core.receipts import AUDIT_STREAM
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.model import Append, NewEvent
from huahuo.eventstore.port import Log
from huahuo.storage.copying import Outcome, made_ms

BACKED_UP: Final = "backed_up"
BACKUP_FAILED: Final = "backup_failed"
RETRY_S: Final = 300.0
"""After a failure, or the whole interval if that is shorter."""
_FIRST_S: Final = 1.0
_REASON_CHARS: Final = 500

_log = structlog.get_logger(__name__)

type MakeBackup = Callable[[], Awaitable[Outcome]]


def in_process(data: Path, target: str, keep: int, every_s: float) -> MakeBackup:
    """Makes a backup in a process of its own (`huahuo.storage.copying`)."""

    async def make() -> Outcome:
        asked = (sys.executable, "-m", "huahuo.storage.copying", str(data), target, str(keep), str(every_s))
        process = await asyncio.create_subprocess_exec(
            *asked, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        try:
            told, failed = await process.communicate()
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise
        try:
            return msgspec.json.decode(told, type=Outcome)
        except msgspec.MsgspecError:
            lines = failed.decode(errors="replace").strip().splitlines()
            return Outcome(error=lines[-1] if lines else f"it ended with {process.returncode}")

    return make


class Backups:
    """Makes backups from `start` to `stop`. `failure`: why the last one failed, None if it did not."""

    def __init__(self, log: Log, ambient: Ambient, make: MakeBackup, every_s: float) -> None:
        self.failure: str | None = None
        self.failures = 0
        self.made = 0
        self.newest_ms: int | None = None
        """When the newest backup was made, as far as this process knows."""
        self._log = log
        self._ambient = ambient
        self._make = make
        self._every_s = every_s
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run(), name="backups")

    async def stop(self) -> None:
        """End. A backup that is being made is given up."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    @property
    def age_s(self) -> float:
        """Seconds since the newest backup; 0 if there is none that this process knows of."""
        return 0.0 if self.newest_ms is None else max(0.0, (self._ambient.now_ms() - self.newest_ms) / 1000)

    def sentence(self) -> str | None:
        """What `/readyz` adds after a failure."""
        return None if self.failure is None else f"the last backup failed: {self.failure}"

    async def once(self) -> float:
        """Make a backup if one is due. Returns the seconds until the next one is."""
        outcome = await self._make()
        if outcome.due_in_s:
            self.newest_ms = self._ambient.now_ms() - round((self._every_s - outcome.due_in_s) * 1000)
            return outcome.due_in_s
        if outcome.error:
            self.failures += 1
            self.failure = outcome.error[:_REASON_CHARS]
            _log.error("backup_failed", reason=self.failure)
            await self._record(BACKUP_FAILED, {"reason": self.failure})
            return min(RETRY_S, self._every_s)
        self.failure = None
        self.made += 1
        self.newest_ms = made_ms(outcome.made)
        _log.info("backed_up", backup=outcome.made, position=outcome.position, deleted=len(outcome.deleted))
        await self._record(BACKED_UP, {"backup": outcome.made, "position": outcome.position})
        return self._every_s

    async def _record(self, type_: str, said: dict[str, object]) -> None:
        now_ms = self._ambient.now_ms()
        body = json_bytes({"type": type_, "timestamp": rfc3339(now_ms), **said})
        event = NewEvent(AUDIT_STREAM, type_, body)
        try:
            await self._log.append(Append(ts_ms=now_ms, events=(event,), principal="service"))
        except EventStoreError as error:
            _log.warning("backup_not_recorded", reason=str(error))

    async def _run(self) -> None:
        wait_s = _FIRST_S
        while True:
            await asyncio.sleep(wait_s)
            wait_s = await self.once()
