"""The demo of a cluster in a browser: the page of nodes, in both languages, and what its buttons do."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.drivers.browser import Chromium, profile
from tests.support.drivers.console import built_console, press_button, until_text
from tests.support.patience import WITHIN_S
from tests.support.proofs import WHOLE
from tests.support.servers.nats import INSTALL, program

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture
def link(tmp_path: Path) -> Iterator[str]:
    """The sign-in link of a running demo of a cluster."""
    built_console()
    if program() is None:
        pytest.skip(INSTALL)
    demo = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "huahuo",
            "demo",
            "--cluster",
            "--port",
            "0",
            "--data",
            str(tmp_path / "demo"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert demo.stdout is not None
        lines = iter(demo.stdout.readline, "")
        yield next(line.split()[-1] for line in lines if "#token=" in line)
    finally:
        demo.terminate()
        demo.wait(WITHIN_S)
        assert demo.stdout is not None
        demo.stdout.close()


if WHOLE:

    async def test_a_node_is_killed_and_healed_by_buttons_while_the_page_goes_on(
        chromium: Chromium, link: str, tmp_path: Path
    ) -> None:
        async with profile(chromium) as browser:
            tab = await browser.open()
            await tab.page.add_init_script("localStorage['huahuo.language'] ??= 'en'")
            await tab.goto(link)
            await tab.until("document.querySelector('[data-state=online]')")
            await tab.run("location.hash = '#/nodes'")
            await until_text(tab, "[data-node=node-b]", "follows")
            await until_text(tab, "[data-node=log-1]", "runs")
            await press_button(tab, "Kill: node-b")
            await until_text(tab, "[data-node=node-b]", "does not answer")
            await until_text(tab, "[data-node=node-b]", "Last: killed")
            await tab.page.screenshot(path=tmp_path / "nodes.png", full_page=True)
            await press_button(tab, "Heal: node-b")
            await until_text(tab, "[data-node=node-b]", "follows")
            await tab.run("localStorage['huahuo.language'] = 'zh'")
            await tab.page.reload()
            await until_text(tab, "[data-node=node-b]", "最近操作：恢复")
            await tab.page.screenshot(path=tmp_path / "nodes-zh.png", full_page=True)
