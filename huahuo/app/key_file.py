"""The file of the master key while the service runs: written again if deleted, reported if replaced.

The service needs it only at its start, so nothing fails at once. But without it the next start is refused,
and this process may have had the last copy (ADR 26).
"""

import asyncio
import errno
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from huahuo.actors.plugins.plugin import Gauges, Host
from huahuo.app.config import Settings
from huahuo.app.keys import MASTER_FILE, write_key
from huahuo.app.stopping import Parts
from huahuo.eventstore.executor import Executor
from huahuo.eventstore.sqlite.open import SqliteLog

LOOK_S: Final = 5.0
_BYTES_MAX: Final = 4096
_NO_DESCRIPTOR: Final = (errno.EMFILE, errno.ENFILE)
_LOST: Final = (
    "This process has the key in memory only: keep it running until the former file is back."
    " Without it the log cannot be opened, and no stored password can be read"
)

_log = structlog.get_logger(__name__)


class KeyFile:
    """Looks from `start` to `stop`. A file that is gone is written again; a replaced one is only reported."""

    def __init__(self, data: Path, key: bytes, executor: Executor) -> None:
        """`executor`: a thread, because a network's file system may not answer at once."""
        self._path = data / MASTER_FILE
        self._key = key
        self._executor = executor
        self._task: asyncio.Task[None] | None = None
        self._told: str | None = None

    def show(self, metrics: Gauges) -> None:
        """Tell the metrics whether a restart would need a key that is in no file."""
        metrics.gauge(
            "master_key_lost",
            "1 while the file of the master key is gone or another one.",
            lambda: self._told is not None,
        )

    def sentence(self) -> str | None:
        """What `/readyz` adds while the file is not the key in use."""
        return self._told

    def start(self) -> None:
        """Look every five seconds."""
        self._task = asyncio.create_task(self._run(), name="master key")

    async def stop(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    async def look(self) -> None:
        """Look now."""
        told, written = await self._executor.run(self._looked)
        if written:
            _log.error("master_key_gone", file=str(self._path), done="written again, from memory")
        if told != self._told:
            if told is None:
                _log.info("master_key_is_back", file=str(self._path))
            else:
                _log.error("master_key_lost", told=told)
        self._told = told

    def _looked(self) -> tuple[str | None, bool]:
        """What is wrong now, None if nothing is, and whether the file was written again."""
        try:
            return self._compared()
        except OSError as error:
            if error.errno in _NO_DESCRIPTOR:  # that says nothing of the file
                return self._told, False
            return f"{self._path} cannot be read any more: {error.strerror}. {_LOST}", False

    def _compared(self) -> tuple[str | None, bool]:
        """As `_looked`. Raises OSError: the file cannot be read."""
        path = self._path
        try:
            with path.open("rb") as file:
                text = file.read(_BYTES_MAX)
        except FileNotFoundError:
            try:
                write_key(path, self._key.hex())
            except OSError as error:
                if error.errno in _NO_DESCRIPTOR:
                    raise
                return f"{path} is gone and cannot be written again: {error.strerror}. {_LOST}", False
            return None, True
        if _key_of(text) == self._key:
            return None, False
        return f"{path} was replaced by another key. {_LOST}", False

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            await self.look()


def keep_key(settings: Settings, key: bytes, host: Host, parts: Parts) -> Callable[[], str | None]:
    """Look after the file from now on, if the key is from a file. Returns what `/readyz` adds."""
    file = KeyFile(settings.data, key, host.executor)
    file.show(host.metrics)
    if isinstance(host.log, SqliteLog) and not settings.master_key:
        parts.add("master key", file.stop)
        file.start()
    return file.sentence


def _key_of(text: bytes) -> bytes:
    try:
        return bytes.fromhex(text.decode().strip())
    except ValueError:
        return b""
