"""The console with mailboxes: signing in, checks with moving bars, many mailboxes, all by the keyboard."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from huahuo.transport.client.client import Client
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


async def test_an_import_of_bars_and_swapped_fields_shows_its_end_and_its_reasons(on: Console) -> None:
    tab = await on.sign_in()
    await press_button(tab, "Import")
    await tab.page.locator("select[name=import_type]").select_option("imap")
    text = "\ufeffa@example.org|canary-1\n\ncanary-2|b@example.org\na@example.org|x\nrubbish"
    await tab.fill("textarea[name=accounts]", text)
    await press_button(tab, "Import", "dialog")
    await until_text(tab, ".import-result", "2 imported, 2 failed")
    await until_text(tab, ".failures", "The address occurs twice")
    await until_text(tab, ".failures", "At least two fields are needed")
    assert "canary" not in await tab.page.locator("dialog[open]").inner_text()
    await press_button(tab, "Close", "dialog .buttons")
    await tab.until("document.querySelectorAll('.row').length === 2")
    assert {row["email"] for row in await rows(tab)} == {"a@example.org", "b@example.org"}
    assert await violations(tab) == []


async def test_labels_are_given_shown_and_filtered_by_and_reasons_of_failures_are_listed(on: Console) -> None:
    first = await on.add("a@example.org")
    await on.add("b@example.org", password="wrong")
    await on.client.send("label_emails", email_ids=[first], add_tags=["old"])
    tab = await on.sign_in()
    await until_text(tab, ".row .labels", "old")
    await tab.page.locator(f".row[data-id='{first}'] input[type=checkbox]").click()
    await press_button(tab, "Labels")
    await tab.fill("input[name=add_tags]", "shop, 工作")
    await tab.fill("input[name=remove_tags]", "old")
    await tab.fill("input[name=group_name]", "ops")
    await press_button(tab, "Save labels", "dialog")
    await until_text(tab, ".row .labels", "工作")
    await tab.page.locator("select[name=tag]").select_option("shop")
    await until_text(tab, ".facts", "1 of 2")
    await tab.page.locator("select[name=tag]").select_option("")
    await tab.until("document.querySelector('.address a')?.textContent === 'b@example.org'")
    await press_button(tab, "Clear selection")
    await press_button(tab, "Check all")
    await until_text(tab, ".facts", "1 failed: why?")
    await press_button(tab, "1 failed: why?")
    await until_text(tab, "dialog .reasons", "wrong user name or password")
    reasons = await tab.run("return document.querySelector('dialog .reasons').innerText")
    assert reasons.lower().count("enter the password again") == 1, "what to do is told once"
    assert await violations(tab) == []


async def test_mails_are_searched_and_opened_and_an_export_is_saved(on: Console) -> None:
    letters = [mail(1, subject="您的登录验证码"), mail(2, subject="Invoice for Paris"), mail(3)]
    email_id = await on.add("a@example.org", letters)
    tab = await on.sign_in(language="zh")
    await on.client.send("check_emails", email_ids=[email_id])
    await until_text(tab, ".row .end", "3")
    await _until_found(on.client, "验证码")
    await tab.run("location.hash = '#/search'")
    await tab.fill("input[name=mail_query]", "验证码")
    await press_button(tab, "搜索")
    await until_text(tab, ".found", "您的登录验证码")
    assert await tab.page.locator(".found li").count() == 1
    await tab.fill("input[name=mail_query]", "paris -invoice")
    await press_button(tab, "搜索")
    await until_text(tab, ".empty", "没有符合的邮件")
    await tab.fill("input[name=mail_query]", "from:s2")
    await press_button(tab, "搜索")
    await until_text(tab, ".found", "Invoice for Paris")
    await tab.page.locator(".found a").first.click()
    await until_text(tab, ".mail-view h2", "Invoice for Paris")
    await tab.run("location.hash = '#/mailboxes'")
    await press_button(tab, "导出")
    await tab.page.locator("input[name=export_secrets]").check()
    async with tab.page.expect_download() as waiting:
        await press_button(tab, "保存文件", "dialog")
    saved = await (await waiting.value).path()
    text = await asyncio.to_thread(Path(saved).read_text, encoding="utf-8")
    assert text.startswith("a@example.org----")
    assert await violations(tab) == []


async def _until_found(client: Client, words: str) -> None:
    """Wait until the index has these words: it runs a moment behind the mails."""
    while not (await client.send("search_mails", query=words))["data"]:
        pass


SOME_BYTES = 10_000
"""Of what a mail server sends for 60 mails less than half, and for 200 mails a seventh."""
_WATCH_BARS = """
window.bars = {};
new MutationObserver(() => document.querySelectorAll(".row [role=progressbar]").forEach((bar) => {
  const seen = (bars[bar.closest(".row").dataset.id] ??= []);
  if (seen.at(-1) !== Number(bar.ariaValueNow)) seen.push(Number(bar.ariaValueNow));
})).observe(document.body, { subtree: true, childList: true, attributes: true });
"""


async def test_a_link_signs_in_and_its_token_leaves_the_address_at_once(on: Console) -> None:
    tab = await on.sign_in()
    assert await tab.run("return location.href") == f"{on.server.url}/"
    await tab.reload()
    await tab.until("document.querySelector('[data-state=online]')")
    await until_text(tab, ".empty", "No mailboxes yet")
    assert await violations(tab) == []


async def test_a_pasted_token_signs_in_and_signing_out_leaves_nothing(on: Console) -> None:
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
    on: Console, tmp_path: Path
) -> None:
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


MAILS = 4
_WATCHED = "document.querySelectorAll('.row .watch[aria-pressed=true]').length"


async def test_a_new_mail_of_a_watched_mailbox_shows_as_soon_as_idle_tells_of_it(
    chromium: Chromium, tmp_path: Path
) -> None:
    # What else would find a mail does so long after the test.
    async with console(chromium, tmp_path, HUAHUO_WATCH_POLL_S="10000") as on:
        email_id = await on.add("alice@example.org")
        await on.add("bob@example.org")
        tab = await on.sign_in()
        await tab.until("document.querySelectorAll('.row').length === 2")
        assert await tab.run(f"return {_WATCHED}") == 0
        await press_button(tab, "Watch for new mails: alice@example.org")
        await tab.until(f"{_WATCHED} === 1")
        for number in range(1, MAILS + 1):
            await asyncio.to_thread(on.mails.add_mail, "alice@example.org", mail(number))
            await tab.until(f"document.querySelector('#row-{email_id} .end').textContent === '{number}'")
        [alice, _] = await rows(tab)
        assert (alice["status"], alice["mails"]) == ("idle", MAILS)
        await tab.reload()
        await tab.until(f"{_WATCHED} === 1")
        assert await violations(tab) == []


async def test_all_shown_mailboxes_are_watched_and_left_with_one_switch(on: Console) -> None:
    for name in ("alice", "bob", "carol"):
        await on.add(f"{name}@example.org")
    tab = await on.sign_in(language="zh")
    await tab.until("document.querySelectorAll('.row').length === 3")
    await press_button(tab, "全部监听")
    await tab.until(f"{_WATCHED} === 3")
    await until_text(tab, ".toasts", "已监听 3 个邮箱")
    await press_button(tab, "全部停止监听")
    await tab.until(f"{_WATCHED} === 0")
    assert {row["watched"] for row in (await on.client.send("get_all_emails"))["data"]} == {False}


async def test_an_attachment_is_saved_when_it_is_pressed(chromium: Chromium, tmp_path: Path) -> None:
    with_file = (
        b"Subject: with a file\r\nFrom: bob@example.org\r\nMIME-Version: 1.0\r\n"
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nsee below\r\n"
        b"--b\r\nContent-Type: text/csv; name=a.csv\r\nContent-Disposition: attachment\r\n\r\n1,2\r\n"
        b"--b--\r\n"
    )
    async with console(chromium, tmp_path) as on:
        email_id = await on.add("alice@example.org", [with_file])
        tab = await on.sign_in(page=f"#/mailboxes/{email_id}")
        await on.client.send("check_emails", email_ids=[email_id])
        await tab.page.get_by_text("with a file").first.click()
        async with tab.page.expect_download() as saved:
            await press_button(tab, "Save a.csv")
        file = await saved.value
        assert file.suggested_filename == "a.csv"
        assert (await asyncio.to_thread(Path(await file.path()).read_bytes)) == b"1,2"
        assert await violations(tab) == []


PAGES = {
    "mailboxes": ".grid", "search": "input[type=search]", "live": ".live", "programs": "main h2",
    "account": "main h2", "users": ".users", "audit": "main", "clients": "main", "notify": "main form",
}  # fmt: skip
"""Pages with something that shows that they are there."""
STOPS_MAX = 150
_STOPS = """
const seen = (one) => one.getClientRects().length && getComputedStyle(one).visibility === "visible";
const radios = new Set();
const kinds = "a[href], button, input, select, textarea, summary, iframe, [tabindex]";
return [...document.querySelectorAll(kinds)]
  .filter((one) => one.tabIndex >= 0 && !one.disabled && seen(one) && !one.closest("[inert]"))
  .filter((one) => one.type !== "radio" || (!radios.has(one.name) && radios.add(one.name)))
  .map((one, n) => { one.dataset.stop ??= `${n} ${NAME(one)}`; return one.dataset.stop; });
""".replace("NAME(one)", "(one.ariaLabel || one.name || one.textContent.trim() || one.tagName).slice(0, 30)")
_AT = """
const one = document.activeElement, style = getComputedStyle(one);
const outline = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
const around = one.closest("label, .field, .switch, fieldset");
const within = around ? getComputedStyle(around) : style;
const parts = ["date", "datetime-local"].includes(one.type);  // the browser marks the part that is typed into
const boxes = parts || [style, within].some((one) => one.boxShadow !== "none");
const marked = outline || boxes || within.outlineStyle !== "none";
const radio = one.type === "radio" ? document.querySelector(`[name="${one.name}"][data-stop]`) : null;
const stop = (radio ?? one).dataset.stop ?? one.outerHTML.slice(0, 80);
return one === document.body ? null : { stop, marked };
"""
_INSIDE = "const one = document.activeElement; return one === document.body || !!one.closest('dialog')"


async def stops(tab: Tab) -> list[dict[str, Any]]:
    """Where Tab leads from the top of the page, until it leaves the page."""
    await tab.run(
        "document.body.tabIndex = -1; document.body.focus(); document.body.removeAttribute('tabindex')"
    )
    found: list[dict[str, Any]] = []
    for _ in range(STOPS_MAX):
        await tab.press("Tab")
        at = await tab.run(_AT)
        if at is None or (found and at == found[0]):
            break
        found.append(at)
    return found


async def test_tab_reaches_every_control_of_each_page_and_shows_where_it_is(on: Console) -> None:
    await on.add("alice@example.org", [mail(1)])
    tab = await on.sign_in(on.token(admin=True))
    faults: dict[str, dict[str, Any]] = {}
    for page, there in PAGES.items():
        await tab.run(f"location.hash = '#/{page}'")
        await tab.until(f"document.querySelector({json.dumps(there)})")
        wanted = await tab.run(_STOPS)
        reached = await stops(tab)
        names = [one["stop"] for one in reached]
        known = [wanted.index(name) for name in names if name in wanted]
        found = {
            "not reached": [one for one in wanted if one not in names],
            "not marked": [one["stop"] for one in reached if not one["marked"]],
            "out of order": [] if known == sorted(known) else names,
        }
        if any(found.values()):
            faults[page] = found
    assert faults == {}


async def test_a_dialog_opens_by_enter_keeps_the_focus_and_gives_it_back_by_escape(on: Console) -> None:
    await on.add("alice@example.org", [mail(1)])
    tab = await on.sign_in()
    await until_text(tab, ".facts", "1 mailbox")
    for name in ("Add", "Import", "Export"):
        button = tab.page.get_by_role("button", name=name, exact=True).first
        await button.focus()
        await tab.press("Enter")
        await tab.until("document.querySelector('dialog[open]')")
        for _ in range(25):
            await tab.press("Tab")
            assert await tab.run(_INSIDE), f"{name}: the focus left the dialog"
        await tab.press("Escape")
        await tab.until("!document.querySelector('dialog[open]')")
        assert await button.evaluate("one => one === document.activeElement"), name


async def test_a_mailbox_is_added_opened_and_closed_without_a_mouse(on: Console) -> None:
    on.mails.add_user("bob@example.org")
    tab = await on.sign_in()
    await tab.page.get_by_role("button", name="Add", exact=True).first.focus()
    await tab.press("Enter")
    await tab.until("document.querySelector('dialog[open] input')")
    await tab.page.locator("dialog input[name=email]").focus()
    await tab.page.keyboard.type("bob@example.org")
    await tab.page.locator("dialog input[name=password]").focus()
    await tab.page.keyboard.type("secret")
    await tab.press("Enter")
    await until_text(tab, ".address", "bob@example.org")
    await tab.until("!document.querySelector('dialog[open]')")
    await tab.page.locator(".row .address a").first.focus()
    await tab.press("Enter")
    await tab.until("document.querySelector('.mail-panel')")
    await tab.page.locator(".mail-panel button").first.focus()
    await tab.press("Escape")
    await tab.until("!document.querySelector('.mail-panel')")
    await press_button(tab, "Check all")
