"""The conformance suite of Durable Streams and its official client, on a real service (`make check-all`)."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.drivers.http import client
from tests.support.patience import WITHIN_S
from tests.support.proofs import whole_only
from tests.support.servers.inside import UVICORN, inside
from tests.support.servers.serving import serving

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


HERE = Path(__file__).parent / "durable_streams"


COUNT = 300


ORIGINS = "https://example.com"


MOUNTED = """
from fastapi import FastAPI
from huahuo import Huahuo

app = Huahuo(data="data")
api = FastAPI(lifespan=app.lifespan)
api.mount("/live", app.asgi)
"""


KEEPS_ALIVE = (*UVICORN, "--timeout-keep-alive", "600")
"""Node's client keeps an unused connection about as long as uvicorn's five seconds: a request that is sent as
the server closes fails, and the client may not send it again."""


OUTSIDE = "^(?!.*Fork)"
"""What docs/durable-streams.md says is not served. The suite leaves subscriptions out by itself."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    assert shutil.which("npm"), "the suite of Durable Streams needs Node with npm on the PATH"
    made = tmp_path_factory.mktemp("durable-streams") / "suite"
    shutil.copytree(HERE, made, ignore=shutil.ignore_patterns("node_modules"))
    install = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--silent"]
    subprocess.run(install, cwd=made, check=True, timeout=10 * WITHIN_S)
    return made


def environ(url: str, **more: str) -> dict[str, str]:
    return os.environ | {"DS_URL": f"{url}/ds"} | more


def passed_all(folder: Path, report: Path, url: str) -> None:
    """Run the suite against the service at `url`: what is served passes."""
    run = ["npx", "vitest", "run", "-t", OUTSIDE, "--reporter=json", f"--outputFile={report}"]
    subprocess.run(run, cwd=folder, env=environ(url), check=False, timeout=600)
    said: dict[str, Any] = json.loads(report.read_text())
    tests = [test for file in said["testResults"] for test in file["assertionResults"]]
    failed = {test["fullName"]: test["failureMessages"] for test in tests if test["status"] == "failed"}
    assert failed == {}
    assert sum(test["status"] == "passed" for test in tests) >= 250


@whole_only
def test_the_conformance_suite_passes_but_for_forks_and_subscriptions(folder: Path, tmp_path: Path) -> None:
    with serving(tmp_path / "data", HUAHUO_DURABLE_STREAMS="open", HUAHUO_ORIGINS=ORIGINS) as server:
        passed_all(folder, tmp_path / "report.json", server.url)


@whole_only
def test_it_passes_inside_uvicorn_too(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUAHUO_DURABLE_STREAMS", "open")
    monkeypatch.setenv("HUAHUO_ORIGINS", ORIGINS)
    (tmp_path / "streams_of_tests.py").write_text(MOUNTED)
    with inside("streams_of_tests:api", tmp_path, KEEPS_ALIVE) as server:
        passed_all(folder, tmp_path / "report.json", f"{server.url}/live")


@whole_only
def test_the_official_client_writes_and_reads_while_the_service_is_killed(
    folder: Path, tmp_path: Path
) -> None:
    with serving(tmp_path / "data", HUAHUO_DURABLE_STREAMS="open") as server:
        child = subprocess.Popen(
            ["node", "client.js"], cwd=folder, env=environ(server.url, DS_COUNT=str(COUNT)),
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert child.stdout is not None
        assert child.stdout.readline() == "halfway\n"
        server.kill()
        server.start()
        said, _ = child.communicate(timeout=3 * WITHIN_S)
    assert json.loads(said) == {"read": list(range(COUNT)), "failed": None}


TEXT = {"Content-Type": "text/plain"}


JSON = {"Content-Type": "application/json"}


def producer(seq: int) -> dict[str, str]:
    return {"Producer-Id": "p", "Producer-Epoch": "0", "Producer-Seq": str(seq)}


async def test_a_producer_that_repeats_after_a_restart_is_known(tmp_path: Path) -> None:
    with serving(tmp_path / "data", HUAHUO_DURABLE_STREAMS="open") as server:
        async with client(server.url) as c:
            await c.put("/ds/a", headers=JSON)
            for number in range(20):
                await c.post("/ds/a", headers=JSON | producer(number), content=str(number))
                if number % 5 == 0:
                    server.kill()
                    server.start()
                again = await c.post("/ds/a", headers=JSON | producer(number), content=str(number))
                assert again.status_code == 204
            assert (await c.get("/ds/a")).json() == list(range(20))
            foreign = {"Host": "somewhere.example"}
            assert (await c.get("/ds/a", headers=foreign)).status_code == 401


async def test_switched_off_there_are_none(tmp_path: Path) -> None:
    with serving(tmp_path / "data", HUAHUO_DURABLE_STREAMS="off") as server:
        async with client(server.url, server.token(1, "root", admin=True)) as c:
            assert (await c.put("/ds/a", headers=TEXT)).status_code in (404, 405)
