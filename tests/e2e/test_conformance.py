"""The check for authors of clients: the sketch of the document passes, a client that loses does not."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.absent import absent
from tests.support.drivers.browser import ROOT
from tests.support.patience import ALL_WITHIN_S
from tests.support.servers.serving import Serving, serving

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SKETCH = ROOT / "examples" / "rust" / "sketch.rs"
CARELESS = """
import os, urllib.request
url, token, stream = (os.environ[f"HUAHUO_{name}"] for name in ("URL", "TOKEN", "STREAM"))
while True:
    try:
        headers = {"Authorization": f"Bearer {token}", "Accept": "text/event-stream"}
        asked = urllib.request.Request(f"{url}/streams/{stream}?after=head", headers=headers)
        for line in urllib.request.urlopen(asked):
            if line.startswith(b"id: "):
                print(int(line.rpartition(b":")[2]), flush=True)
    except OSError:
        continue
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("conformance")
    with serving(folder / "data", HUAHUO_MESSAGES_PER_S="0") as made:
        yield made


def check(server: Serving, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.conformance", server.url, "--", *command],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"HUAHUO_TOKEN": server.token(1, "root", admin=True)},
        timeout=ALL_WITHIN_S,
        check=False,
    )


def has_rust() -> bool:
    """Whether a compiler of Rust works here. A machine without one is no reason to install one."""
    if shutil.which("rustc") is None:
        return False
    return subprocess.run(["rustc", "--version"], capture_output=True, check=False).returncode == 0


def test_the_sketch_in_rust_is_short_and_passes(
    server: Serving, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    assert len(SKETCH.read_text(encoding="utf-8").splitlines()) <= 150
    if not has_rust():
        absent(request, "rustc: the sketch of a client in Rust was not built and not run")
        return
    program = tmp_path / "sketch"
    built = subprocess.run(
        ["rustc", "-O", "--edition", "2021", "-D", "warnings", "-o", str(program), str(SKETCH)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    done = check(server, str(program))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("pass") == 4


def test_a_client_that_begins_at_the_head_again_does_not_pass(server: Serving, tmp_path: Path) -> None:
    script = tmp_path / "careless.py"
    script.write_text(CARELESS, encoding="utf-8")
    done = check(server, sys.executable, str(script))
    assert done.returncode == 1
    assert "FAIL" in done.stdout
