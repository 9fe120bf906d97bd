"""The live panel, administration, both languages, and windows of three widths."""

import re
from pathlib import Path

import pytest

from tests.support.drivers.browser import Chromium, Tab
from tests.support.drivers.console import (
    console,
    mail,
    press_button,
    resize,
    rows,
    until_stored,
    until_text,
    violations,
)

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ENGLISH = re.compile(r"[A-Za-z]{3,}")
NAMES = frozenset(
    [
        "imap",
        "alice",
        "bob",
        "user",
        "group",
        "ops",
        "system",
        "example",
        "org",
        "fresh",
        "snapshot",
        "KiB",
        "Delete",
    ]
)
"""What is called the same in every language: streams, addresses, units, keys, words of the protocol."""
_WORDS = """
const copy = document.querySelector("#app").cloneNode(true);
const elsewhere = ".lines, .toasts, .numbers .mono, .language, .chart .canvas";
copy.querySelectorAll(elsewhere).forEach((one) => one.remove());
const texts = document.createTreeWalker(copy, NodeFilter.SHOW_TEXT);
const said = [];
while (texts.nextNode()) said.push(texts.currentNode.data);
const named = [...copy.querySelectorAll("[aria-label], [title], [placeholder]")];
return [...said, ...named.flatMap((one) => [one.ariaLabel, one.title, one.placeholder])].join(" ");
"""
_TOO_WIDE = """
return [document.documentElement, ...document.querySelectorAll("main, main *")]
  .filter((one) => one.clientWidth > 0 && one.scrollWidth > one.clientWidth + 1)
  .filter((one) => /auto|scroll|visible/.test(getComputedStyle(one).overflowX))
  .filter((one) => getComputedStyle(one).display !== "inline")
  .map((one) => `${one.tagName}.${one.className} ${one.scrollWidth} > ${one.clientWidth}`)
"""
CHINESE = re.compile(r"[\u4e00-\u9fff]")


async def test_a_cut_connection_is_seen_to_resume(chromium: Chromium, tmp_path: Path) -> None:
    async with console(chromium, tmp_path) as on:
        await on.add("alice@example.org", [mail(1)])
        tab = await on.sign_in()
        await tab.until("document.querySelector('.row')")
        await until_text(tab, "[data-stream='user/42'] [data-fact=outcome]", "snapshot")
        await press_button(tab, "Cut the connection")
        await until_text(tab, "[data-fact=reconnects]", "1")
        await until_text(tab, "[data-stream='user/42'] [data-fact=outcome]", "resumed")
        await until_text(tab, ".event.note", "resumed")
        await press_button(tab, "Check: alice@example.org")
        await tab.until("document.querySelector('.row[data-status=ok]')")
        await until_text(tab, "[data-fact=unacked]", "0")
        # Lines are drawn a moment later, and only those in view: go to the newest.
        await tab.until(
            "document.querySelector('.lines').scrollTop = 1e9, document.querySelector('.event:not(.note)')"
        )
        numbers = await tab.run(
            """return [...document.querySelectorAll('.event:not(.note) b')]
                     .map((one) => one.textContent).filter((text) => text.startsWith('user/42'))
                     .map((text) => Number(text.split(' ')[1]))"""
        )
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), "no gap, nothing twice"


async def test_events_are_filtered_held_and_shown_whole(chromium: Chromium, tmp_path: Path) -> None:
    async with console(chromium, tmp_path) as on:
        tab = await on.sign_in()
        await tab.until("document.querySelector('.mailboxes .empty')")
        await on.add("alice@example.org")
        await on.add("bob@example.org")
        await tab.until("document.querySelectorAll('.event:not(.note)').length === 2")
        await tab.fill("input[name=event-filter]", "BOB@")
        await tab.until("document.querySelectorAll('.event').length === 1")
        await tab.click(".event")
        await until_text(tab, ".detail", '"email": "bob@example.org"')
        await tab.run(
            "const box = document.querySelector('[name=event-filter]'); box.value = '';"
            "box.dispatchEvent(new Event('input'))"
        )
        await press_button(tab, "Pause")
        await on.add("chen@example.org")
        await until_text(tab, ".events [role=status]", "paused, 1 new")
        assert "chen" not in await tab.run("return document.querySelector('.lines').textContent")
        await press_button(tab, "Resume")
        await until_text(tab, ".event", "chen@example.org")


async def test_admins_search_the_log_see_clients_and_notify_everyone(
    chromium: Chromium, tmp_path: Path
) -> None:
    async with console(chromium, tmp_path) as on:
        await on.add("alice@example.org")
        other = await on.sign_in()
        tab = await on.sign_in(on.token(1, admin=True), page="#/audit")
        await tab.fill("input[name=type]", "email_added")
        await press_button(tab, "Search")
        await until_text(tab, ".audit-rows", "user/42 1")
        assert await tab.run("return document.querySelectorAll('.audit-rows li').length") == 1
        await tab.click(".audit-rows summary")
        await until_text(tab, ".audit-rows .json-table", "alice@example.org")
        await tab.run("location.hash = '#/clients'")
        await until_text(tab, ".clients .card", "user42")
        await until_text(tab, ".clients .card", "stage")
        await until_text(tab, ".clients td", "user/42")
        await tab.run("location.hash = '#/notify'")
        await tab.fill("input[name=message]", "maintenance at noon")
        await press_button(tab, "Send")
        await until_text(other, ".toast", "maintenance at noon")
        assert await violations(tab) == []


async def test_others_are_not_offered_what_only_admins_may_do(chromium: Chromium, tmp_path: Path) -> None:
    async with console(chromium, tmp_path) as on:
        tab = await on.sign_in(page="#/audit")
        await until_text(tab, ".empty", "No mailboxes yet")
        offered = await tab.run("return document.querySelector('nav').innerText")
        assert offered.split() == ["Mailboxes", "Search", "Programs", "Account"]


async def test_a_notification_that_came_while_one_was_away_is_shown_once(
    chromium: Chromium, tmp_path: Path
) -> None:
    async with console(chromium, tmp_path) as on:
        tab = await on.sign_in()
        await until_text(tab, "[data-stream=system] [data-fact=outcome]", "fresh")
        await until_stored(tab, "system", 0)
        await tab.goto("about:blank")
        await on.notify("while you were away", "warning")
        await tab.goto(f"{on.server.url}/")
        await until_text(tab, ".toast[data-level=warning]", "while you were away")
        await until_text(tab, "[data-stream=system] [data-fact=outcome]", "resumed")
        await until_stored(tab, "system", 1)
        await tab.reload()
        await until_text(tab, "[data-stream=system] [data-fact=cursor]", "1")
        await tab.until("document.querySelector('.mailboxes .empty')")
        assert await tab.run("return document.querySelectorAll('.toast').length") == 0


async def test_both_languages_say_everything(chromium: Chromium, tmp_path: Path) -> None:
    async with console(chromium, tmp_path) as on:
        await on.add("alice@example.org", [mail(1)])
        await on.add("bob@example.org", password="wrong")
        tab = await on.sign_in(on.token(admin=True))
        await press_button(tab, "Check all")
        await tab.until("document.querySelector('.row[data-status=ok]')")
        await tab.until("document.querySelector('.row[data-status=need_reauth]')")
        assert await tab.run("return document.documentElement.lang") == "en"
        assert not CHINESE.search(await _words(tab)), "English is English, also what the server said"
        await press_button(tab, "Switch to Chinese")
        await until_text(tab, ".top nav", "邮箱")
        assert await tab.run("return document.documentElement.lang") == "zh-CN"
        alice, bob = await rows(tab)
        assert alice["message"] == "检查完成，共 1 封新邮件"
        assert bob["message"].startswith("登录被拒绝：用户名或密码错误")
        left = set(ENGLISH.findall(await _words(tab))) - set(ENGLISH.findall(bob["message"]))
        assert left <= NAMES
        await tab.reload()
        await until_text(tab, ".top nav", "邮箱")


async def _words(tab: Tab) -> str:
    """The text of the page without raw events, ids, and the name of the other language."""
    text: str = await tab.run(_WORDS)
    return text


async def test_no_page_is_wider_than_its_window(chromium: Chromium, tmp_path: Path) -> None:
    async with console(chromium, tmp_path) as on:
        long = mail(1, subject="word" * 60, sender="x" * 60 + " <a@example.org>")
        mailbox = f"#/mailboxes/{await on.add(f'{"a-very-long-name-" * 3}@example.org', [long])}"
        tab = await on.sign_in(on.token(admin=True))
        await press_button(tab, "Check all")
        await tab.until("document.querySelector('.row[data-status=ok]')")
        admin = ("#/live", "#/audit", "#/clients", "#/notify")
        for width in (380, 800, 1280):
            await resize(tab, width, 700)
            for page in ("#/mailboxes", mailbox, f"{mailbox}/1", *admin):
                await tab.run(f"location.hash = '{page}'")
                await tab.run("await new Promise((done) => setTimeout(done, 60))")
                assert await tab.run(_TOO_WIDE) == [], f"{page} at {width} px"
                assert await tab.run("return document.documentElement.scrollWidth") <= width
