"""The examples in Chromium."""

import asyncio
import importlib.util
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType

import pytest

from huahuo import Every
from huahuo.testing import given
from tests.support.drivers.browser import Browser, Chromium, Tab, pages, profile
from tests.support.drivers.stage import stage
from tests.support.patience import ALL_WITHIN_S
from tests.support.proofs import WHOLE
from tests.support.servers.proxy import chaos_proxy
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


UNREACHABLE = ("error: Failed to load resource", "error: WebSocket connection")
"""What Chromium itself logs while the server is down, and for the icon that the page does not have."""


async def test_it_shows_mailboxes_as_they_change_under_the_policy_of_the_service(
    chromium: Chromium, tmp_path: Path
) -> None:
    async with stage(chromium, tmp_path) as on:
        tab = await on.browser.open(f"{on.server.url}/client/#token={on.token()}")
        await tab.until("document.querySelector('#state').value === 'online'")
        other = await on.reader("none")
        await other.run(
            """await client.send("add_email", {
                     email: "a@example.org", mail_type: "imap", server: "127.0.0.1", port: 143, password: "x",
                   })"""
        )
        await tab.until("document.querySelector('#emails').textContent.includes('a@example.org')")
        await asyncio.to_thread(on.server.kill)
        await tab.until("document.querySelector('#state').value === 'offline'")
        await asyncio.to_thread(on.server.start)
        await tab.until("document.querySelector('#state').value === 'online'")
        said = [line for line in tab.said if line.startswith(("error", "thrown"))]
        assert not [line for line in said if not line.startswith(UNREACHABLE)]


FLEET = Path(__file__).resolve().parents[2] / "examples" / "fleet"
SENSORS = 10_000 if WHOLE else 2_000
READINGS = "document.querySelector('#readings').value"


@pytest.fixture(scope="module")
def fleet() -> ModuleType:
    """The example as a module."""
    spec = importlib.util.spec_from_file_location("fleet_example", FLEET / "fleet.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["fleet_example"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_an_alarm_begins_and_ends_with_one_event_each(fleet: ModuleType) -> None:
    warm, cold = 150_000, 450_000  # milliseconds at which the wave is at sensor 10,000, and far from it
    sensor = given(fleet.sensor, [fleet.Installed(fleet.SENSORS)], id="s")
    for now_ms, celsius, change in (
        (cold, 10.0, ()),
        (warm, 30.0, (True,)),
        (warm, 30.0, ()),
        (cold, 10.0, (False,)),
    ):
        changes = [fleet.to("group/ops", fleet.AlarmChanged("s", alarm)) for alarm in change]
        sensor.when(fleet.Measure(), now_ms=now_ms).then([fleet.Read(celsius), *changes])


def test_a_sensor_is_installed_once_and_with_its_timer(fleet: ModuleType) -> None:
    assert fleet.Every is Every
    new = given(fleet.sensor).when(fleet.Install(7)).then([fleet.Installed(7)], effects=["measure"])
    new.when(fleet.Install(7)).then([])


async def number(tab: Tab, name: str, at_least: int) -> None:
    """Wait until the page shows at least this many."""
    await tab.until(f"parseInt(document.querySelector('#{name}').value) >= {at_least}")


async def test_all_its_sensors_raise_alarms_and_go_on_after_a_kill(
    chromium: Chromium, tmp_path: Path
) -> None:
    text = (FLEET / "fleet.py").read_text(encoding="utf-8")
    for known, wanted in (
        ("READ_EVERY_S = 60", f"READ_EVERY_S = {10 if WHOLE else 2}"),
        ("SENSORS = 10_000", f"SENSORS = {SENSORS}"),
    ):
        assert known in text
        text = text.replace(known, wanted)
    (tmp_path / "fleet.py").write_text(text, encoding="utf-8")
    folder = tmp_path / "pages"
    folder.mkdir()
    async with profile(chromium) as browser, asyncio.timeout(ALL_WITHIN_S):
        with serving(tmp_path / "data", app="fleet:app", folder=tmp_path) as server:
            page = (FLEET / "fleet.html").read_text(encoding="utf-8")
            page = page.replace("http://127.0.0.1:8765", server.url)
            (folder / "fleet.html").write_text(page, encoding="utf-8")
            async with pages(folder) as site:
                token = server.token(1, "operator", groups=("ops",))
                tab = await browser.open(f"{site}/fleet.html#{token}")
                await number(tab, "sensors", SENSORS)
                await number(tab, "alarms", 1)
                await tab.click("#list li")
                await tab.until(f"{READINGS}.split(' ').length > 1")
                seen = await tab.run(f"return {READINGS}")
                server.kill()
                server.start()
                await tab.until(f"{READINGS} !== '{seen}'")
                await tab.reload()
                await number(tab, "sensors", SENSORS)
                await number(tab, "alarms", 1)
                assert await tab.run("return document.querySelector('#error').textContent") == ""


JOBS = Path(__file__).resolve().parents[2] / "examples" / "jobs"


@asynccontextmanager
async def opened_jobs(chromium: Chromium, tmp_path: Path) -> AsyncIterator[tuple[Serving, Tab]]:
    """The service of the example, and its page as alice sees it."""
    async with profile(chromium) as browser, asyncio.timeout(ALL_WITHIN_S):
        with serving(tmp_path / "data", app="jobs:app", folder=JOBS) as server:
            folder = tmp_path / "pages"
            folder.mkdir()
            page = (JOBS / "jobs.html").read_text(encoding="utf-8")
            page = page.replace("http://127.0.0.1:8765", server.url)
            (folder / "jobs.html").write_text(page, encoding="utf-8")
            async with pages(folder) as site:
                yield server, await browser.open(f"{site}/jobs.html#{server.token(1, 'alice')}")


async def start(tab: Tab, files: int) -> None:
    await tab.until("!document.querySelector('#start').disabled")
    await tab.fill("#files", str(files))
    await tab.press("Enter")


async def shows(tab: Tab, job_id: int, status: str) -> None:
    """Wait until the line of this job has this status."""
    text = f"document.querySelector('#job-{job_id} span')?.textContent"
    await tab.until(f"{text}?.startsWith('import: {status}')")


async def percent(tab: Tab, job_id: int, above: float) -> float:
    """The bar of this job, once it is above a value."""
    bar = f"document.querySelector('#job-{job_id} progress')"
    await tab.until(f"{bar}?.value > {above}")
    found: float = await tab.run(f"return {bar}.value")
    return found


async def test_a_job_moves_its_bar_over_a_reload_and_its_user_cancels_it(
    chromium: Chromium, tmp_path: Path
) -> None:
    async with opened_jobs(chromium, tmp_path) as (_, tab):
        await start(tab, 1_000)
        seen = await percent(tab, 1, 0)
        await tab.reload()
        assert await percent(tab, 1, seen) > seen
        await tab.click("#job-1 button")
        await shows(tab, 1, "cancelled")
        assert await tab.run("return document.querySelector('#job-1 button').disabled")
        await start(tab, 2)
        await shows(tab, 2, "done, 2 of 2 files")


async def test_a_killed_service_ends_its_jobs_as_interrupted_once_and_the_page_goes_on(
    chromium: Chromium, tmp_path: Path
) -> None:
    async with opened_jobs(chromium, tmp_path) as (server, tab):
        await start(tab, 1_000)
        await percent(tab, 1, 0)
        server.kill()
        server.start()
        await shows(tab, 1, "interrupted")
        await start(tab, 2)
        await shows(tab, 2, "done")
        assert await tab.run("return document.querySelectorAll('#list li').length") == 2
        await tab.reload()
        await shows(tab, 1, "interrupted")
        await shows(tab, 2, "done")


AUCTION = Path(__file__).resolve().parents[2] / "examples" / "auction"
OPEN = (
    "[...document.querySelectorAll('#lots li')].map((line) => line.firstChild.textContent.trim()).join('|')"
)


@asynccontextmanager
async def opened_auction(chromium: Chromium, tmp_path: Path) -> AsyncIterator[tuple[Serving, Tab, Tab]]:
    """The service of the example, and two tabs of alice."""
    async with profile(chromium) as browser, asyncio.timeout(ALL_WITHIN_S):
        with serving(tmp_path / "data", app="auction:app", folder=AUCTION) as server:
            folder = tmp_path / "pages"
            folder.mkdir()
            page = (AUCTION / "auction.html").read_text(encoding="utf-8")
            page = page.replace("http://127.0.0.1:8765", server.url)
            (folder / "auction.html").write_text(page, encoding="utf-8")
            async with pages(folder) as site:
                address = f"{site}/auction.html#{server.token(1, 'alice')}"
                yield server, await browser.open(address), await browser.open(address)


async def test_an_auction_is_the_same_in_two_tabs_over_reloads_and_a_kill_and_ends(
    chromium: Chromium, tmp_path: Path
) -> None:
    async with opened_auction(chromium, tmp_path) as (server, one, two):
        for title, seconds in (("Volvo", 3600), ("Saab", 1800)):
            await one.fill("#title", title)
            await one.fill("#seconds", str(seconds))
            await one.press("Enter")
            for tab in (one, two):
                await tab.until(f"{OPEN}.includes('{title}: 0')")
        for tab in (one, two):
            await tab.until(f"{OPEN} === 'Saab: 0|Volvo: 0'")
        await two.click("#lots button")
        await one.until(f"{OPEN} === 'Saab: 1|Volvo: 0'")
        await one.click("#lots li:last-child button:last-child")
        await two.until("document.querySelector('#watched li')?.textContent.startsWith('Volvo')")
        server.kill()
        server.start()
        await two.reload()
        await one.click("#lots button")
        for tab in (one, two):
            await tab.until(f"{OPEN} === 'Saab: 2|Volvo: 0'")
        await two.fill("#title", "Fiat")
        await two.fill("#seconds", "3")
        await two.press("Enter")
        await one.until(f"{OPEN}.startsWith('Fiat')")
        for tab in (one, two):
            await tab.until(f"{OPEN} === 'Saab: 2|Volvo: 0'")


async def test_lists_are_live_where_no_websocket_gets_through(chromium: Chromium, tmp_path: Path) -> None:
    async with profile(chromium) as browser, asyncio.timeout(ALL_WITHIN_S):
        with serving(tmp_path / "data", app="auction:app", folder=AUCTION) as server:
            async with chaos_proxy(server.port) as proxy:
                proxy.refused = 0
                page = (AUCTION / "auction.html").read_text(encoding="utf-8")
                page = page.replace("http://127.0.0.1:8765", f"http://127.0.0.1:{proxy.port}")
                folder = tmp_path / "pages"
                folder.mkdir()
                (folder / "auction.html").write_text(page, encoding="utf-8")
                async with pages(folder) as site:
                    tab = await browser.open(f"{site}/auction.html#{server.token(1, 'alice')}")
                    await tab.fill("#title", "Volvo")
                    await tab.press("Enter")
                    await tab.until(f"{OPEN} === 'Volvo: 0'")
                    assert proxy.refused >= 2
                    proxy.cut()
                    await tab.click("#lots button")
                    await tab.until(f"{OPEN} === 'Volvo: 1'")


async def test_the_winner_of_an_auction_gets_one_mail_and_an_import_opens_each_lot_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HUAHUO_PORT", "0")
    spec = importlib.util.spec_from_file_location("auction_example", AUCTION / "auction.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["auction_example"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    lots = tmp_path / "lots.csv"
    lots.write_text("cars,Volvo,1\nvans,Transit,3600\n", encoding="utf-8")
    async with module.app as app, asyncio.timeout(ALL_WITHIN_S):
        for _ in range(2):
            await module.import_lots(lots)
        await app.send("bid", as_user=7, lot_id=1, amount=5)
        async for event in app.follow("lot/1"):
            if event["type"] == "lot_mailed":
                break
        [mail] = tmp_path.glob("auction-mails/*.eml")
        assert b"7@example.com" in mail.read_bytes()
        state, seq = await app.state(module.lot, 3)
        assert (state, seq) == (module.Lot(), 0)
