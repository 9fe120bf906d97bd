"""A restore that is killed: a log is there under its new id, or it is not there."""

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.care.backup import back_up
from huahuo.eventstore.model import Append, NewEvent
from huahuo.eventstore.sqlite.connections import connect_reader
from huahuo.eventstore.sqlite.log import SqliteLog
from huahuo.eventstore.sqlite.schema import DATABASE, get_meta
from tests.support.drivers.command_line import KEYS
from tests.support.patience import WITHIN_S
from tests.support.servers.serving import MASTER_KEY

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

_DYING = """
import os, signal, sys
from huahuo.cli.entry import main
left, rename = int(sys.argv.pop(1)), os.rename

def dying(*given, **named):
    global left
    rename(*given, **named)
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)

os.rename = dying
main()
"""
"""`huahuo`, killed behind as many renames as the first argument says."""


async def backed_up(folder: Path) -> str:
    """A backup in `folder`, of a log that went on after it. The log's id."""
    log = await SqliteLog.open(
        folder / "data", ambient=FakeAmbient(1), master_key=bytes.fromhex(MASTER_KEY), build="test"
    )
    await log.append(Append(ts_ms=0, events=(NewEvent("group/a", "said", b'{"n":1}'),)))
    await back_up(folder / "data" / DATABASE, folder / "backup", FakeAmbient(1))
    await log.close()
    return log.log_id


def id_in(directory: Path) -> str:
    """The id of the log in a directory, "" if there is none."""
    if not (directory / DATABASE).exists():
        return ""
    with closing(connect_reader(directory / DATABASE)) as connection:
        return (get_meta(connection, "log") or b"").decode()


def test_a_restore_that_is_killed_leaves_no_log_under_its_former_id(tmp_path: Path) -> None:
    former, restored = asyncio.run(backed_up(tmp_path)), tmp_path / "restored"
    words = ["restore", str(tmp_path / "backup"), "--data", str(restored)]
    found = ""
    for renames in range(1, 9):  # each attempt begins where the one before was killed
        done = subprocess.run(
            [sys.executable, "-c", _DYING, str(renames), *words], env={**os.environ, **KEYS},
            capture_output=True, text=True, timeout=WITHIN_S, check=False,
        )  # fmt: skip
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        if found := id_in(restored):
            break
    assert found
    assert found != former
