"""The console with mailboxes: signing in, checks with moving bars, a server killed in the middle."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.support.drivers.browser import Chromium, Tab
from tests.support.drivers.console import (
    Console,
    built_console,
    console,
    mail,
    press_button,
    rows,
    until_text,
    violations,
)
from tests.support.servers.proxy import chaos_proxy

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SOME_BYTES = 10_000
"""Of what a mail server sends for 60 mails less than half, and for 200 mails a seventh."""
_WATCH_BARS = """
window.bars = {};
new MutationObserver(() => document.querySelectorAll(".row [role=progressbar]").forEach((bar) => {
  const seen = (bars[bar.closest(".row").dataset.id] ??= []);
  if (seen.at(-1) !== Number(bar.ariaValueNow)) seen.push(Number(bar.ariaValueNow));
})).observe(document.body, { subtree: true, childList: true, attributes: true });
"""


async def test_a_link_signs_in_and_its_token_leaves_the_address_at_once(
    chromium: Chromium, tmp_path: Path
) -> None:
    async with console(chromium, tmp_path) as on:
        tab = await on.sign_in()
        assert await tab.run("return location.href") == f"{on.server.url}/"
        await tab.reload()
        await tab.until("document.querySelector('[data-state=online]')")
        await until_text(tab, ".empty", "No mailboxes yet")
        assert await violations(tab) == []


async def test_a_pasted_token_signs_in_and_signing_out_leaves_nothing(
    chromium: Chromium, tmp_path: Path
) -> None:
    async with console(chromium, tmp_path) as on:
        tab = await on.open("/")
        await tab.page.locator("summary").click()
        await tab.fill("input[name=token]", "not a token")
        await tab.press("Enter")
        await until_text(tab, "[role=alert]", "This is not a token")
        await tab.fill("input[name=token]", on.token())
        await tab.press("Enter")
        await tab.until("document.querySelector('[data-state=online]')")
        await press_button(tab, "Sign out")
        await tab.until("document.querySelector('input[name=token]')")
        left = await tab.run(
            """const kept = JSON.stringify([{ ...sessionStorage }, { ...localStorage }]);
                   for (;;) {
                     const databases = (await indexedDB.databases()).length;
                     if (databases === 0) return kept;
                     await new Promise((resolve) => setTimeout(resolve, 20));
                   }"""
        )
        assert "eyJ" not in left
        assert "user/42" not in left


async def test_a_check_moves_its_bar_and_brings_the_mails(chromium: Chromium, tmp_path: Path) -> None:
    async with console(chromium, tmp_path) as on, chaos_proxy(on.mails.port) as proxy:
        email_id = await on.add("alice@example.org", [mail(n) for n in range(1, 61)], port=proxy.port)
        await on.add("bob@example.org", password="wrong")
        tab = await on.sign_in()
        await tab.until("document.querySelectorAll('.row').length === 2")
        await tab.run(_WATCH_BARS)
        proxy.blackhole(after_bytes=SOME_BYTES)
        await press_button(tab, "Check all")
        for count in (1, 2):  # the mail server waits until the page has shown what it sent
            await proxy.silent.wait()
            await tab.until(f"bars[{email_id}]?.filter((value) => value % 100).length >= {count}")
            proxy.heal()
            if count == 1:
                proxy.blackhole(after_bytes=SOME_BYTES)
        await tab.until("document.querySelector('.row[data-status=ok]')")
        await tab.until("document.querySelector('.row[data-status=need_reauth]')")
        bars = (await tab.run("return bars"))[str(email_id)]
        assert bars == sorted(bars), "a bar never goes back"
        alice, bob = await rows(tab)
        assert (alice["mails"], alice["message"]) == (60, "Done, new mails: 60")
        assert "wrong user name or password" in bob["message"]
        await tab.click(f"[data-id='{email_id}'] .address a")
        await until_text(tab, ".mail-list li", "Mail 60")
        await press_button(tab, "Older mails")
        await tab.until("document.querySelectorAll('.mail-list li').length === 60")


async def test_a_server_killed_during_checks_leaves_the_page_with_exactly_the_log_s_state(
    chromium: Chromium, tmp_path: Path
) -> None:
    async with console(chromium, tmp_path) as on, chaos_proxy(on.mails.port) as proxy:
        letters = [mail(n) for n in range(1, 201)]
        await on.add("alice@example.org", letters, port=proxy.port)
        for name in ("bob", "chen"):
            await on.add(f"{name}@example.org", letters)
        tab = await on.sign_in(language="zh")
        await tab.until("document.querySelectorAll('.row').length === 3")
        await tab.run("window.unloaded = false")
        proxy.blackhole(after_bytes=5 * SOME_BYTES)  # alice's check does not end before the kill
        await press_button(tab, "全部检查")
        bars = "[...document.querySelectorAll('.row [role=progressbar]')]"
        await tab.until(f"{bars}.some((bar) => bar.ariaValueNow > 30)")
        await proxy.silent.wait()
        await asyncio.to_thread(on.server.kill)
        await tab.until("document.querySelector('[data-state=offline]')")
        assert await tab.run(f"return {bars}.length") > 0, "it was killed during a check"
        proxy.heal()
        await asyncio.to_thread(on.server.start)
        # The page may come back by itself before the button can be pressed.
        await tab.run(
            "[...document.querySelectorAll('button')].find((b) => b.innerText === '立即连接')?.click()"
        )
        await tab.until("document.querySelector('[data-state=online]')")
        await _settled(on, tab)
        assert [row["mails"] for row in await rows(tab)] == [200, 200, 200]
        assert await tab.run("return window.unloaded") is False, "the page was not loaded anew"
        assert await tab.run("return document.querySelector('[data-fact=outcome]').textContent") == "resumed"
        assert int(await tab.run("return document.querySelector('[data-fact=reconnects]').textContent")) == 1


async def _settled(on: Console, tab: Tab) -> None:
    """Wait until no check runs; the table then says what the log's own state says."""
    while True:
        listed = await on.client.send("get_all_emails")
        if all(row["status"] not in {"queued", "processing"} for row in listed["data"]):
            break
        if any(row["status"] != "ok" for row in listed["data"]):
            idle = [row["id"] for row in listed["data"] if row["status"] in {"error", "cancelled"}]
            if idle:
                await on.client.send("check_emails", email_ids=idle)
        await asyncio.sleep(0.05)
    await tab.until(
        f"""Number(document.querySelector('[data-stream="{listed["stream"]}"] [data-fact=cursor]')
              .textContent.replace(/\\D/g, "")) >= {listed["seq"]}"""
    )
    shown = [
        {key: row[key] for key in ("id", "email", "status", "message", "mails")} for row in await rows(tab)
    ]
    assert shown == [_as_shown(row) for row in listed["data"]]


def _as_shown(row: dict[str, Any]) -> dict[str, Any]:
    return {key: row[key] for key in ("id", "email", "status", "message")} | {"mails": row["mail_count"]}


@pytest.fixture(autouse=True)
def _built() -> None:
    built_console()


async def test_a_failed_mailbox_says_the_class_the_servers_words_and_what_to_do(
    chromium: Chromium, tmp_path: Path
) -> None:
    async with console(chromium, tmp_path) as on:
        email_id = await on.add("a@example.org", password="wrong")
        tab = await on.sign_in(page=f"#/mailboxes/{email_id}")
        await on.client.send("check_emails", email_ids=[email_id])
        await tab.until("document.querySelector('.failure[data-class=auth]')")
        await until_text(tab, ".failure", "Sign-in. login refused: wrong user name or password")
        await until_text(tab, ".failure q", "Authentication failed")
        await until_text(tab, ".failure", "What to do: enter the password again")
        await tab.page.screenshot(path=tmp_path / "failure.png")
        await tab.page.reload()
        await tab.until("document.querySelector('.failure[data-class=auth]')")
