"""Many mailboxes in the console: import as a job, labels, failures, search, export."""

import asyncio
from pathlib import Path

import pytest

from huahuo.transport.client.client import Client
from tests.support.drivers.browser import Chromium
from tests.support.drivers.console import console, mail, press_button, rows, until_text, violations

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


async def test_an_import_of_bars_and_swapped_fields_shows_its_end_and_its_reasons(
    chromium: Chromium, tmp_path: Path
) -> None:
    async with console(chromium, tmp_path) as on:
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
        assert {row["email"] for row in await rows(tab)} == {"a@example.org", "b@example.org"}
        assert await violations(tab) == []


async def test_labels_are_given_shown_and_filtered_by_and_reasons_of_failures_are_listed(
    chromium: Chromium, tmp_path: Path
) -> None:
    async with console(chromium, tmp_path) as on:
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


async def test_mails_are_searched_and_opened_and_an_export_is_saved(
    chromium: Chromium, tmp_path: Path
) -> None:
    async with console(chromium, tmp_path) as on:
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
