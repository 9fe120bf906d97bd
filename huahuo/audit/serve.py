"""`huahuo audit serve`: the audit index in Datasette, with canned questions and facets.

Datasette runs as a process of its own on DIR/audit.db, which holds no secret. Without the sign-in link a
visitor sees no data. Every request for data is recorded in the log before it is answered
(`datasette_plugins/record_questions.py`). Meanwhile this process keeps the index up to date.
"""

import asyncio
import contextlib
import importlib.util
import os
import signal
import sys
import tempfile
from pathlib import Path

import msgspec
import structlog

from huahuo.app.config import Settings
from huahuo.audit.place import looking
from huahuo.errors import ConfigError
from huahuo.eventstore.audit.datasette import METADATA
from huahuo.eventstore.audit.questions import Audit
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.sqlite.directory_lock import is_original
from huahuo.eventstore.sqlite.schema import DATABASE
from huahuo.eventstore.sqlite.view import SqliteView

REFRESH_S = 2.0
PLUGINS = Path(__file__).parent / "datasette_plugins"
DATA_VARIABLE = "HUAHUO_AUDIT_DATA"

_log = structlog.get_logger(__name__)


async def serve(settings: Settings, *, host: str, port: int) -> None:
    """Serve until it is stopped.

    Raises:
        ConfigError: Datasette is not installed, or there is no log.
    """
    if importlib.util.find_spec("datasette") is None:
        raise ConfigError("Datasette is not installed: pip install 'huahuo[audit]'")
    async with looking(settings, "audit serve", {"host": host, "port": port}) as place:
        audit = await Audit.open(place.log, place.index, copied=place.is_copy)
        try:
            await audit.catch_up()
        finally:
            await audit.close()
        if not is_original(settings.data):  # the private copy lives until we stop
            await _run(place.index, host, port, data=None)
            return
    await _run(place.index, host, port, data=settings.data)


async def _run(index: Path, host: str, port: int, *, data: Path | None) -> None:
    with tempfile.TemporaryDirectory(prefix="huahuo-audit-") as folder:
        metadata = Path(folder) / "metadata.json"
        metadata.write_bytes(msgspec.json.encode(METADATA))
        environ = {**os.environ, DATA_VARIABLE: "" if data is None else os.fspath(data)}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "datasette", "serve", str(index), "--metadata", str(metadata),
            "--plugins-dir", str(PLUGINS), "--host", host, "--port", str(port), "--root",
            "--setting", "sql_time_limit_ms", "5000", "--setting", "allow_download", "off",
            env=environ,
        )  # fmt: skip
        following = asyncio.create_task(_follow(index, data)) if data is not None else None
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, process.terminate)
        try:
            await process.wait()
        finally:
            loop.remove_signal_handler(signal.SIGTERM)
            if following is not None:
                following.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await following
            if process.returncode is None:
                process.terminate()
                await process.wait()


async def _follow(index: Path, data: Path) -> None:
    """Update the index whenever the log's files have changed."""
    seen: list[tuple[int, int]] = []
    while True:
        now = _stamps(data)
        if now != seen:
            try:
                await _bring_forward(index, data)
                seen = now
            except EventStoreError as error:
                _log.warning("audit_index_not_at_the_head", reason=str(error))
        await asyncio.sleep(REFRESH_S)


async def _bring_forward(index: Path, data: Path) -> None:
    view = await SqliteView.open(data)
    try:
        audit = await Audit.open(view, index)
        try:
            await audit.catch_up()
        finally:
            await audit.close()
    finally:
        await view.close()


def _stamps(data: Path) -> list[tuple[int, int]]:
    """Size and time of the log's files, from `stat`: the files are not opened."""
    stamps: list[tuple[int, int]] = []
    for suffix in ("", "-wal"):
        with contextlib.suppress(OSError):
            stat = (data / (DATABASE + suffix)).stat()
            stamps.append((stat.st_size, stat.st_mtime_ns))
    return stamps
