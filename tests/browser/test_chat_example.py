"""The chat of `examples/chat`, served by `huahuo serve --app chat:app`, in two real browsers."""

import asyncio
from pathlib import Path

import pytest

from tests.support.drivers.browser import Browser, Chromium, Tab, pages, profile
from tests.support.patience import ALL_WITHIN_S
from tests.support.servers.serving import Serving, serving

CHAT = Path(__file__).resolve().parents[2] / "examples" / "chat"
LINES = "[...document.querySelectorAll('#lines li')].map((line) => line.textContent).join('|')"
PRESENT = "document.querySelector('#present').value"

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


async def opened(browser: Browser, site: str, server: Serving, number: int, name: str) -> Tab:
    """The page, as this user."""
    return await browser.open(f"{site}/chat.html#{server.token(number, name)}")


async def say(tab: Tab, text: str) -> None:
    await tab.fill("#text", text)
    await tab.press("Enter")


async def test_two_people_talk_over_a_reload_and_a_kill_and_see_who_is_there(
    chromium: Chromium, tmp_path: Path
) -> None:
    async with profile(chromium) as first, profile(chromium) as second, asyncio.timeout(ALL_WITHIN_S):
        with serving(tmp_path / "data", app="chat:app", folder=CHAT) as server:
            folder = tmp_path / "pages"
            folder.mkdir()
            text = (CHAT / "chat.html").read_text(encoding="utf-8")
            page = text.replace("http://127.0.0.1:8765", server.url)
            (folder / "chat.html").write_text(page, encoding="utf-8")
            async with pages(folder) as site:
                alice = await opened(first, site, server, 1, "alice")
                await alice.until(f"{PRESENT} === 'alice'")
                bob = await opened(second, site, server, 2, "bob")
                for tab in (alice, bob):
                    await tab.until(f"{PRESENT} === 'alice, bob'")
                await say(alice, "tea?")
                await bob.until(f"{LINES} === 'alice: tea?'")
                await bob.reload()
                await bob.until(f"{LINES} === 'alice: tea?'")
                server.kill()
                server.start()
                await say(bob, "please")
                for tab in (alice, bob):
                    await tab.until(f"{LINES} === 'alice: tea?|bob: please'")
                await bob.click("#leave")
                await alice.until(f"{PRESENT} === 'alice'")
                await say(bob, "still here?")
                await bob.until("document.querySelector('#error').textContent !== ''")
                assert await alice.run(f"return {LINES}") == "alice: tea?|bob: please"
