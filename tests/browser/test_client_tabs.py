"""All tabs of a browser share one connection; whichever closes, no event is lost or doubled."""

import asyncio
from pathlib import Path

import pytest

from tests.support.drivers.browser import Chromium, Tab
from tests.support.drivers.stage import Stage, stage

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


async def _owner_and_other(on: Stage, kind: str) -> tuple[Tab, Tab]:
    first = await on.reader(kind)
    await first.until("client.owner.value")
    second = await on.reader(kind)
    return first, second


async def _connections(on: Stage) -> int:
    """How many the service has of this user: the metrics count all, one is the admin's."""
    text = await (await on.browser.open(f"{on.server.url}/metrics")).run("return document.body.innerText")
    [line] = [line for line in text.splitlines() if line.startswith("huahuo_connections ")]
    return int(float(line.split()[-1])) - 1


async def test_tabs_share_one_connection_and_each_sees_every_event(
    chromium: Chromium, tmp_path: Path
) -> None:
    async with stage(chromium, tmp_path) as on:
        first, second = await _owner_and_other(on, "memory")
        await first.run("await subscription.ready")
        await second.run("await subscription.ready")
        await on.publish(100)
        for tab in (first, second):
            await tab.until("seen.length === 100")
            assert await tab.run("return seen") == on.expected()
        assert not await second.run("return client.owner.value")
        assert await _connections(on) == 1


@pytest.mark.parametrize("end", ["close", "crash"])
async def test_when_the_owner_goes_another_tab_continues_without_loss_or_repeat(
    chromium: Chromium, tmp_path: Path, end: str
) -> None:
    async with stage(chromium, tmp_path) as on:
        owner, other = await _owner_and_other(on, "memory")
        await other.run("await subscription.ready")
        burst = asyncio.create_task(on.publish(300))
        await other.until("seen.length >= 50")
        await (owner.close() if end == "close" else owner.crash())
        await burst
        await on.publish(100)
        await other.until("client.owner.value")
        await other.until(f"seen.length >= {on.published}")
        assert await other.run("return seen") == on.expected()


async def test_a_stored_place_is_handed_over_with_its_events_applied_once(
    chromium: Chromium, tmp_path: Path
) -> None:
    async with stage(chromium, tmp_path) as on:
        owner, other = await _owner_and_other(on, "stored")
        await owner.run("await subscription.ready")
        burst = asyncio.create_task(on.publish(300))
        await owner.until("seen.length >= 50")
        assert await other.run("return seen.length") == 0, "one tab applies them"
        await owner.close()
        await burst
        await on.publish(100)
        await other.until(f"applied().then((all) => all.length >= {on.published})")
        assert await other.run("return applied()") == on.expected()
        assert await other.run("return seen.length") > 0


async def test_a_command_of_a_tab_is_answered_though_the_owner_goes_before_the_reply(
    chromium: Chromium, tmp_path: Path
) -> None:
    async with stage(chromium, tmp_path) as on:
        owner, other = await _owner_and_other(on, "memory")
        await other.run(
            """window.reply = client.send("add_email", {
                     email: "a@example.org", mail_type: "imap", server: "127.0.0.1", port: 143, password: "x",
                   });"""
        )
        await owner.close()
        assert (await other.run("return await reply"))["type"] == "success"
        listed = await other.run("return await client.send('get_all_emails')")
        assert [row["email"] for row in listed["data"]] == ["a@example.org"]


async def test_without_sharing_each_tab_has_its_own_connection(chromium: Chromium, tmp_path: Path) -> None:
    async with stage(chromium, tmp_path) as on:
        tabs = [await on.reader("memory", share="no") for _ in range(2)]
        assert await _connections(on) == 2
        for tab in tabs:
            await tab.run("await subscription.ready")
        await on.publish(20)
        for tab in tabs:
            await tab.until("seen.length === 20")
            assert await tab.run("return seen") == on.expected()
        assert [await tab.run("return client.state.value.name") for tab in tabs] == ["online"] * 2
