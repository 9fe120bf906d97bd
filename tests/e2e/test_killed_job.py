"""A job of an application whose process is killed."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.drivers.rawclient import raw
from tests.support.patience import WITHIN_S
from tests.support.servers.serving import serving

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

APP = """
import asyncio
from huahuo import Huahuo

async def main():
    app = Huahuo(data="job-data", port=0)
    async with app, app.job("import", user=42) as job:
        await job.progress(40)
        print(job.id, flush=True)
        await asyncio.sleep(3600)

asyncio.run(main())
"""


async def test_a_job_of_a_killed_process_is_interrupted_by_the_next_start(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    with serving(tmp_path / "job-data") as server:
        server.stop()
        child = subprocess.Popen(
            [sys.executable, "app.py"], cwd=tmp_path, env=server.environ, stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        assert child.stdout.readline() == "1\n"
        child.kill()
        child.wait(WITHIN_S)
        child.stdout.close()
        server.start()
        async with raw(server.url.replace("http", "ws", 1), "huahuo.v1") as alice:
            await alice.authenticate(server.token(42, "alice"))
            await alice.say(action="subscribe", id="s", stream="job/1", after="snapshot")
            snapshot: dict[str, Any] = await alice.until("snapshot", stream="job/1")
            assert snapshot["state"]["status"] == "interrupted"
            assert snapshot["state"]["percent"] == 40
