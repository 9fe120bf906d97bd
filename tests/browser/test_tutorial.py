"""docs/tutorial.md from its first file to its last command, as it stands there: service, page, `kill -9`."""

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.drivers.browser import Chromium, Tab, pages, profile
from tests.support.drivers.snippets import ROOT, block
from tests.support.patience import ALL_WITHIN_S, WITHIN_S
from tests.support.servers.serving import Serving, serving

TUTORIAL = "docs/tutorial.md"
LINES = "[...document.querySelectorAll('#list li')].map((line) => line.textContent).join('|')"
ONLINE = "document.querySelector('#state').value === 'online'"

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


async def shows(tab: Tab, text: str) -> None:
    await tab.until(f"{LINES} === '{text}'")


async def pack(server: Serving, percent: int) -> None:
    """The warehouse's program, as its line in the page runs it."""
    program = server.data.parent / "pack.py"
    program.write_text(block(TUTORIAL, "pack", url=server.url), encoding="utf-8")
    running = await asyncio.create_subprocess_exec(
        sys.executable, str(program), token(server, "admin"), str(percent), env=server.environ
    )
    assert await running.wait() == 0


def token(server: Serving, word: str) -> str:
    """What the page's `huahuo token …` with this word prints."""
    [command] = [line for line in commands("token") if word in line]
    return huahuo(server, command).strip()


def commands(name: str) -> list[str]:
    """The page's commands `huahuo NAME …`, without `huahuo` and without comments."""
    page = (ROOT / TUTORIAL).read_text(encoding="utf-8")
    return re.findall(rf"^huahuo ({name} [^#\n]+)", page, re.MULTILINE)


def huahuo(server: Serving, words: str) -> str:
    """Run a command of the page in the shop's folder; what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "huahuo", *words.split()],
        cwd=server.data.parent, env=server.environ, capture_output=True, text=True,
        timeout=WITHIN_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (words, done.stderr)
    return done.stdout


async def test_the_page_survives_a_reload_and_the_orders_a_kill(chromium: Chromium, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(block(TUTORIAL, "shop"), encoding="utf-8")
    folder = tmp_path / "pages"
    folder.mkdir()
    async with profile(chromium) as browser, asyncio.timeout(ALL_WITHIN_S):
        with serving(tmp_path / "shop-data", app="shop:app", folder=tmp_path) as server:
            page = block(TUTORIAL, "page", url=server.url)
            (folder / "page.html").write_text(page, encoding="utf-8")
            async with pages(folder) as site:
                tab = await browser.open(f"{site}/page.html#{token(server, 'alice')}")
                await tab.until(ONLINE)
                await tab.fill("#item", "tea")
                await tab.press("Enter")
                await shows(tab, "1 tea: placed, 0 %")
                await pack(server, 40)
                await shows(tab, "1 tea: placed, 40 %")
                await tab.reload()
                await shows(tab, "1 tea: placed, 40 %")
                server.kill()
                server.start()
                await pack(server, 100)
                await shows(tab, "1 tea: packed, 100 %")
                assert not [line for line in tab.said if line.startswith("thrown")]
            for words in commands("replay"):
                assert "order_progress" in huahuo(server, words)


def test_the_tests_of_the_page_pass_with_pytest(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(block(TUTORIAL, "shop"), encoding="utf-8")
    page = (ROOT / TUTORIAL).read_text(encoding="utf-8")
    [line] = re.findall(r"`(from shop import [^`]+)`", page)
    (tmp_path / "test_shop.py").write_text(f"{line}\n{block(TUTORIAL, 'tests')}", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path, capture_output=True, text=True, timeout=WITHIN_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
