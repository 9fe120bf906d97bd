"""The application of docs/ai.md with the Vercel AI SDK itself (`make check-all`)."""

import asyncio
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.drivers.snippets import run, snippet
from tests.support.patience import WITHIN_S
from tests.support.proofs import whole_only
from tests.support.worlds.everywhere import running

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

HERE = Path(__file__).parent / "ai_sdk"
WHOLE = "You asked: why. I do not know. "


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    assert shutil.which("npm"), "the Vercel AI SDK needs Node with npm on the PATH"
    made = tmp_path_factory.mktemp("ai-sdk") / "page"
    shutil.copytree(HERE, made, ignore=shutil.ignore_patterns("node_modules"))
    install = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--silent"]
    subprocess.run(install, cwd=made, check=True, timeout=10 * WITHIN_S)
    return made


@whole_only
async def test_a_page_of_the_sdk_that_comes_back_shows_the_whole_answer_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "page"}
    for block in ("server", "sdk"):
        await run(snippet("docs/ai.md", block), names)
    async with running(names["app"], "asgi", names["api"]) as url:
        page = await asyncio.create_subprocess_exec(
            "node", "chat.js", url, cwd=folder, stdout=subprocess.PIPE
        )
        said, _ = await asyncio.wait_for(page.communicate(), WITHIN_S)
    assert json.loads(said) == {
        "empty": ["ready", []],
        "asking": ["ready", ["why", WHOLE]],
        "reloaded": ["ready", ["why", WHOLE]],
        "late": ["ready", ["why", WHOLE]],
        "regenerated": True,
    }
