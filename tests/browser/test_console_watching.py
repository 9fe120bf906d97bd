"""The console's switches for watching: a new mail shows by itself, in both languages."""

import asyncio
from pathlib import Path

import pytest

from tests.support.drivers.browser import Chromium
from tests.support.drivers.console import console, mail, press_button, rows, until_text, violations

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

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


async def test_all_shown_mailboxes_are_watched_and_left_with_one_switch(
    chromium: Chromium, tmp_path: Path
) -> None:
    async with console(chromium, tmp_path) as on:
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
