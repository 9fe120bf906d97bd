"""The table: ten thousand mailboxes, the keyboard, import, search, sort, delete."""

from pathlib import Path
from statistics import median

import pytest

from tests.support.drivers.browser import Chromium, Tab
from tests.support.drivers.console import (
    console,
    mail,
    press_button,
    resize,
    rows,
    until_text,
    violations,
)

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

STEPS = 40
_SCROLL_TO = """
const box = document.querySelector(".grid .long-list");
box.scrollTop = (box.scrollHeight - box.clientHeight) * ARE;
await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
return [...box.querySelectorAll(".address a")].map((one) => one.textContent);
"""


def _lines(count: int, first: int = 0) -> str:
    return "\n".join(f"m{n:05}@example.org----secret{n}" for n in range(first, first + count))


async def test_a_step_through_ten_thousand_mailboxes_costs_no_more_than_one_through_a_thousand(
    chromium: Chromium, tmp_path: Path
) -> None:
    async with console(chromium, tmp_path) as on:
        await on.client.send("import_emails", data=_lines(1_000), mail_type="gmail")
        tab = await on.sign_in()
        await until_text(tab, ".facts", "1,000 mailboxes")
        await tab.until("document.querySelector('.row')")
        await tab.call("Profiler.enable")
        await tab.call("Profiler.startPreciseCoverage", callCount=True)
        _, calls_of_a_thousand = await _scroll(tab)
        await on.client.send("import_emails", data=_lines(9_000, 1_000), mail_type="gmail")
        await until_text(tab, ".facts", "10,000 mailboxes")
        shown, calls = await _scroll(tab)
        assert shown[-1] == "m09999@example.org"
        assert len(set(shown)) > STEPS * 10
        assert calls <= 1.2 * calls_of_a_thousand
        await tab.fill("input[name=search]", "m0777")
        await until_text(tab, ".facts", "10 of 10,000")
        assert [row["email"] for row in await rows(tab)] == [f"m0777{n}@example.org" for n in range(10)]


async def test_a_hundred_thousand_mailboxes_are_there_after_a_reload(
    chromium: Chromium, tmp_path: Path
) -> None:
    async with console(chromium, tmp_path) as on:
        for first in range(0, 100_000, 20_000):
            await on.client.send("import_emails", data=_lines(20_000, first), mail_type="gmail")
        tab = await on.sign_in()
        await until_text(tab, ".facts", "100,000 mailboxes")
        await tab.until("document.querySelector('.row')")
        shown = await tab.run(_SCROLL_TO.replace("ARE", "1"))
        assert shown[-1] == "m99999@example.org"
        assert 0 < len(shown) < 60, "only what is in sight is drawn"
        await on.client.send("delete_emails", email_ids=[100_000])
        await until_text(tab, ".facts", "99,999 mailboxes")


async def test_an_import_says_what_became_of_each_line(chromium: Chromium, tmp_path: Path) -> None:
    async with console(chromium, tmp_path) as on:
        tab = await on.sign_in()
        await press_button(tab, "Import", ".tools-box")
        await tab.run("document.querySelector('[name=import_type]').value = 'gmail'")
        await tab.run("document.querySelector('[name=import_type]').dispatchEvent(new Event('change'))")
        await tab.click("textarea[name=accounts]")
        text = "a@example.org----x\nnonsense\n\nA@example.org----y\nb@example.org----z"
        await tab.page.keyboard.insert_text(text)
        await press_button(tab, "Import", "dialog")
        await until_text(tab, ".import-result", "2 imported, 2 failed")
        table = await tab.run(
            "return [...document.querySelectorAll('.failures tbody tr')].map((row) => row.innerText)"
        )
        assert [line.split("\t")[0] for line in table] == ["2", "4"]
        assert "occurs twice" in table[1]
        assert "nonsense" not in await tab.run("return document.body.innerText"), "no line is echoed"
        await press_button(tab, "Close", "dialog .buttons")
        await tab.until("document.querySelectorAll('.row').length === 2")
        assert await violations(tab) == []


async def test_every_tool_for_chosen_mailboxes_is_in_sight_on_a_phone(
    chromium: Chromium, tmp_path: Path
) -> None:
    async with console(chromium, tmp_path) as on:
        await on.client.send("import_emails", data=_lines(3), mail_type="gmail")
        await on.client.send("label_emails", email_ids=[1, 2, 3], group="a group")
        tab = await on.sign_in()
        await resize(tab, 375, 720)
        await tab.until("document.querySelectorAll('.row').length === 3")
        await tab.click(".head input")
        await until_text(tab, ".facts", "3 selected")
        await until_text(tab, ".facts", "Groups")
        cut = await tab.run(
            """const box = document.querySelector(".tools-box").getBoundingClientRect();
               const right = Math.min(box.right, innerWidth); // a page that is too wide counts too
               return [...document.querySelectorAll(".tools-box button")]
                 .filter((one) => one.getBoundingClientRect().right > right).map((one) => one.textContent)"""
        )
        assert cut == []


async def test_everything_in_the_table_is_done_with_the_keyboard(chromium: Chromium, tmp_path: Path) -> None:
    async with console(chromium, tmp_path) as on:
        for name in ("alice", "bob", "chen"):
            await on.add(f"{name}@example.org", [mail(1)])
        tab = await on.sign_in()
        await tab.until("document.querySelectorAll('.row').length === 3")
        await _tab_to(tab, "document.activeElement.matches('[role=grid]')")
        active = "document.getElementById(document.activeElement.getAttribute('aria-activedescendant'))"
        address = f"{active}.querySelector('a').textContent"
        for key, expected in (
            ("ArrowDown", "bob"),
            ("End", "chen"),
            ("ArrowUp", "bob"),
            ("Home", "alice"),
        ):
            await tab.press(key)
            await tab.until(f"{address}.startsWith('{expected}')")
        await tab.press(" ")
        await tab.press("ArrowDown")
        await tab.press(" ")
        await until_text(tab, ".facts", "2 selected")
        await tab.press("c")
        await tab.until("document.querySelectorAll('.row[data-status=ok]').length === 1")
        await tab.press("Delete")
        await until_text(tab, "dialog[open]", "Delete 2 mailboxes?")
        await tab.press("Escape")
        await tab.until("!document.querySelector('dialog[open]')")
        assert len(await rows(tab)) == 3, "Escape means no"
        assert await tab.run("return document.activeElement.role") == "grid", "the focus is where it was"
        await tab.press("Enter")
        await until_text(tab, ".mail-panel h2", "bob@example.org")
        await _tab_to(tab, "document.activeElement.matches('.mail-list a')")
        await tab.press("Enter")
        await until_text(tab, ".mail-view h2", "Mail 1")
        await press_button(tab, "Back")
        await tab.until("document.querySelector('[role=grid]').offsetParent")
        await tab.run("document.querySelector('[role=grid]').focus()")
        await tab.press("/")
        assert await tab.run("return document.activeElement.name") == "search"


async def test_deleting_asks_first_and_the_row_goes_when_the_server_says_so(
    chromium: Chromium, tmp_path: Path
) -> None:
    async with console(chromium, tmp_path) as on:
        await on.add("alice@example.org")
        await on.add("bob@example.org")
        tab = await on.sign_in()
        await press_button(tab, "Delete: alice@example.org")
        await until_text(tab, "dialog[open]", "Delete alice@example.org?")
        await press_button(tab, "Delete", "dialog")
        await tab.until("document.querySelectorAll('.row').length === 1")
        listed = await on.client.send("get_all_emails")
        assert [row["email"] for row in listed["data"]] == ["bob@example.org"]


async def test_a_mailbox_is_added_sorted_and_filtered(chromium: Chromium, tmp_path: Path) -> None:
    async with console(chromium, tmp_path) as on:
        await on.add("alice@example.org")
        tab = await on.sign_in()
        await press_button(tab, "Add", ".tools-box")
        on.mails.add_user("zoe@example.org")
        fields = {"email": "zoe@example.org", "password": "secret", "server": "127.0.0.1"}
        for name, value in (fields | {"port": str(on.mails.port)}).items():
            await tab.fill(f"dialog input[name={name}]", value)
        await tab.click("dialog input[name=use_ssl]")
        await press_button(tab, "Add", "dialog")
        await tab.until("document.querySelectorAll('.row').length === 2")
        await press_button(tab, "Sort by Address")
        await tab.until("document.querySelector('.row .address a').textContent === 'zoe@example.org'")
        await press_button(tab, "Check: zoe@example.org")
        await tab.until("document.querySelector('.row[data-status=ok]')")
        choose = "const box = document.querySelector('.tools-box select'); box.value = 'ok';"
        await tab.run(f"{choose} box.dispatchEvent(new Event('change'))")
        await until_text(tab, ".facts", "1 of 2 mailboxes")
        assert "secret" not in await tab.run("return document.documentElement.outerHTML")


async def _scroll(tab: Tab) -> tuple[list[str], int]:
    """All addresses seen from the first row to the last, and the calls of functions that a usual step took.

    Calls are counted because a slow machine changes every time and no count.
    """
    seen, counts = [], []
    for step in range(STEPS + 1):
        shown = await tab.run(_SCROLL_TO.replace("ARE", str(step / STEPS)))
        assert 0 < len(shown) < 60, "only what is in sight is drawn"
        seen += shown
        scripts = (await tab.call("Profiler.takePreciseCoverage"))["result"]
        counts.append(sum(one["ranges"][0]["count"] for script in scripts for one in script["functions"]))
    return seen, int(median(counts))


async def _tab_to(tab: Tab, condition: str) -> None:
    """Press Tab until the focus is there; the whole page has fewer stops than this."""
    for _ in range(40):
        await tab.press("Tab")
        if await tab.run(f"return {condition}"):
            return
    raise AssertionError(f"the Tab key never led to: {condition}")
