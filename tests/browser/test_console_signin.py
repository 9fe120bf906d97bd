"""Signing in at the console: a user with name and password, and a mailbox with a code."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from huahuo.transport.client.client import Client
from tests.support.drivers.browser import Chromium
from tests.support.drivers.console import console, press_button, rows, until_text, violations
from tests.support.servers.token_server import CLIENT_ID, TokenServer, token_server

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

USER = "alice@outlook.com"


@pytest.fixture
def tokens() -> Iterator[TokenServer]:
    with token_server() as server:
        yield server


def outlook(tokens: TokenServer) -> str:
    keys = {
        "token_url": f"{tokens.url}/token",
        "devicecode_url": f"{tokens.url}/devicecode",
        "client_id": CLIENT_ID,
    }
    return json.dumps({"outlook": keys})


async def test_a_code_is_shown_and_the_mailbox_comes_when_it_was_entered(
    chromium: Chromium, tmp_path: Path, tokens: TokenServer
) -> None:
    tokens.grant(USER)
    async with console(chromium, tmp_path, HUAHUO_PROVIDERS=outlook(tokens)) as on:
        tab = await on.sign_in()
        await press_button(tab, "Add", ".tools-box")
        await tab.page.locator("select[name=mail_type]").select_option("outlook")
        await tab.fill("input[name=email]", USER)
        await press_button(tab, "Sign in with a code", "dialog")
        await until_text(tab, ".code-sign-in code", "ABCD-EFGH")
        link = tab.page.locator(".code-sign-in a")
        assert await link.get_attribute("href") == "https://microsoft.com/devicelogin"
        assert await link.get_attribute("rel") == "noopener noreferrer"
        await tab.page.screenshot(path=tmp_path / "code.png")
        tokens.device_state = USER
        await tab.until("document.querySelector('.row')")
        assert [row["email"] for row in await rows(tab)] == [USER]
        await tab.until("!document.querySelector('dialog[open]')")
        assert await violations(tab) == []


async def test_a_mailbox_that_goes_back_to_its_provider_says_so_before_and_after(
    chromium: Chromium, tmp_path: Path, tokens: TokenServer
) -> None:
    tokens.grant(USER)
    async with console(chromium, tmp_path, HUAHUO_PROVIDERS=outlook(tokens)) as on:
        await on.client.send(
            "add_email",
            email=USER,
            mail_type="outlook",
            server="mail.example.com",
            password="p",
            client_id=CLIENT_ID,
            refresh_token="r",
        )
        tab = await on.sign_in()
        await tab.click(".row .address a")
        await press_button(tab, "Edit")
        await press_button(tab, "Sign in with a code", "dialog")
        await until_text(tab, ".code-sign-in .moves", "moves it back to outlook.office365.com:993")
        tokens.device_state = USER
        await until_text(tab, ".toasts", "was moved from mail.example.com:993 back")


async def test_a_code_that_was_declined_says_so(
    chromium: Chromium, tmp_path: Path, tokens: TokenServer
) -> None:
    tokens.device_state = "authorization_declined"
    async with console(chromium, tmp_path, HUAHUO_PROVIDERS=outlook(tokens)) as on:
        tab = await on.sign_in(language="zh")
        await press_button(tab, "添加", ".tools-box")
        await tab.page.locator("select[name=mail_type]").select_option("outlook")
        await tab.fill("input[name=email]", USER)
        await press_button(tab, "使用代码授权登录", "dialog")
        await until_text(tab, ".code-sign-in [role=alert]", "授权被拒绝。")


async def test_a_user_signs_in_with_name_and_password(chromium: Chromium, tmp_path: Path) -> None:
    async with console(chromium, tmp_path) as on:
        async with Client(on.server.url, token=on.token(0, admin=True)) as root:
            await root.send("add_user", name="alice", password="canary-password")
        tab = await on.open("/")
        await tab.fill("input[name=username]", "alice")
        await tab.fill("input[name=password]", "wrong-password")
        await tab.press("Enter")
        await until_text(tab, "[role=alert]", "The name or the password is wrong.")
        await tab.page.screenshot(path=tmp_path / "wrong.png")
        await tab.fill("input[name=password]", "canary-password")
        await tab.press("Enter")
        await tab.until("document.querySelector('[data-state=online]')")
        await until_text(tab, "header", "alice")
        kept = await tab.run("return JSON.stringify([{ ...sessionStorage }, { ...localStorage }])")
        assert "canary-password" not in kept
        await tab.page.reload()
        await tab.until("document.querySelector('[data-state=online]')")
        assert await violations(tab) == []
