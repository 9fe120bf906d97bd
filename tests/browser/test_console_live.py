"""The live panel, administration, tables, both languages, and windows of three widths."""

import re
from statistics import median

import pytest

from tests.support.drivers.browser import Tab
from tests.support.drivers.console import (
    Console,
    mail,
    press_button,
    resize,
    rows,
    until_stored,
    until_text,
    violations,
)
from tests.support.proofs import WHOLE

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


async def test_a_cut_connection_is_seen_to_resume(on: Console) -> None:
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


async def test_events_are_filtered_held_and_shown_whole(on: Console) -> None:
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


async def test_admins_search_the_log_see_clients_and_notify_everyone(on: Console) -> None:
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


async def test_others_are_not_offered_what_only_admins_may_do(on: Console) -> None:
    tab = await on.sign_in(page="#/audit")
    await until_text(tab, ".empty", "No mailboxes yet")
    offered = await tab.run("return document.querySelector('nav').innerText")
    assert offered.split() == ["Mailboxes", "Search", "Programs", "Account"]


async def test_a_notification_that_came_while_one_was_away_is_shown_once(on: Console) -> None:
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


async def test_both_languages_say_everything(on: Console) -> None:
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


async def test_no_page_is_wider_than_its_window(on: Console) -> None:
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
    on: Console,
) -> None:
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


MANY = 100_000 if WHOLE else 20_000


async def test_many_mailboxes_are_there_after_a_reload(on: Console) -> None:
    for first in range(0, MANY, 20_000):
        await on.client.send("import_emails", data=_lines(20_000, first), mail_type="gmail")
    tab = await on.sign_in()
    await until_text(tab, ".facts", f"{MANY:,} mailboxes")
    await tab.until("document.querySelector('.row')")
    shown = await tab.run(_SCROLL_TO.replace("ARE", "1"))
    assert shown[-1] == f"m{MANY - 1:05}@example.org"
    assert 0 < len(shown) < 60, "only what is in sight is drawn"
    await on.client.send("delete_emails", email_ids=[MANY])
    await until_text(tab, ".facts", f"{MANY - 1:,} mailboxes")


async def test_an_import_says_what_became_of_each_line(on: Console) -> None:
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


async def test_every_tool_for_chosen_mailboxes_is_in_sight_on_a_phone(on: Console) -> None:
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


async def test_everything_in_the_table_is_done_with_the_keyboard(on: Console) -> None:
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


async def test_deleting_asks_first_and_the_row_goes_when_the_server_says_so(on: Console) -> None:
    await on.add("alice@example.org")
    await on.add("bob@example.org")
    tab = await on.sign_in()
    await press_button(tab, "Delete: alice@example.org")
    await until_text(tab, "dialog[open]", "Delete alice@example.org?")
    await press_button(tab, "Delete", "dialog")
    await tab.until("document.querySelectorAll('.row').length === 1")
    listed = await on.client.send("get_all_emails")
    assert [row["email"] for row in listed["data"]] == ["bob@example.org"]


async def test_a_mailbox_is_added_sorted_and_filtered(on: Console) -> None:
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
