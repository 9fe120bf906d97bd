"""The console's pages for accounts, users and registration, and the ways in."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from huahuo.transport.client.client import Client
from tests.support.drivers.browser import Chromium, Tab
from tests.support.drivers.console import (
    Console,
    console,
    mail,
    press_button,
    resize,
    rows,
    until_text,
    violations,
)
from tests.support.servers.token_server import CLIENT_ID, TokenServer, token_server

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

PHONE = (375, 720)


async def shoot(tab: Tab, folder: Path, name: str) -> None:
    """The page in light and dark, on a desk and on a phone; nothing may be wider than the window."""
    for size, where in (((1280, 800), "desk"), (PHONE, "phone")):
        await resize(tab, *size)
        for scheme in ("light", "dark"):
            await tab.page.emulate_media(color_scheme=scheme)
            await tab.page.screenshot(path=folder / f"{name}-{where}-{scheme}.png")
        wide = await tab.run("return document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, f"{name} is wider than a {where}"
    await resize(tab, 1280, 800)


async def unlabelled(tab: Tab) -> list[str]:
    """Fields and buttons that a screen reader could not name."""
    found: list[str] = await tab.run(
        """return [...document.querySelectorAll("input, select, textarea, button")]
             .filter((one) => one.getAttribute("aria-hidden") !== "true" && one.offsetParent !== null)
             .filter((one) => !one.labels?.length && !one.ariaLabel && !one.textContent.trim() && !one.title)
             .map((one) => one.outerHTML)"""
    )
    return found


async def test_an_administrator_keeps_users_and_opens_registration(on: Console, tmp_path: Path) -> None:
    tab = await on.sign_in(on.token(99, admin=True), page="#/users")
    await until_text(tab, ".users", "No users yet")
    await tab.fill("input[name=new_user]", "alice")
    await tab.fill("input[name=new_user_password]", "a good password")
    await press_button(tab, "Add the user", ".users")
    await until_text(tab, "[data-user=alice]", "since")
    await press_button(tab, "Disable: alice", ".users")
    await until_text(tab, "[data-user=alice]", "disabled")
    await press_button(tab, "Enable: alice", ".users")
    await press_button(tab, "New password: alice", ".users")
    await tab.fill("input[name=fresh_password]", "another good one")
    await shoot(tab, tmp_path, "reset")
    await press_button(tab, "Save", "dialog[open]")
    await until_text(tab, ".toasts", "alice has a new password")
    await tab.page.locator("input[name=registration]").check()
    await until_text(tab, ".toasts", "Registration is open")
    assert await unlabelled(tab) == []
    await shoot(tab, tmp_path, "users")

    stranger = await on.open("/")
    await press_button(stranger, "Make an account")
    await stranger.fill("input[name=username]", "alice")
    await stranger.fill("input[name=password]", "my own password")
    await press_button(stranger, "Make the account")
    await stranger.until("document.querySelector('.wrong')")
    await shoot(stranger, tmp_path, "register")
    await stranger.fill("input[name=username]", "carol")
    await stranger.fill("input[name=password]", "my own password")
    await press_button(stranger, "Make the account")
    await stranger.until("document.querySelector('[data-state=online]')")

    await stranger.run("location.hash = '#/account'")
    await stranger.fill("input[name=old_password]", "my own password")
    await stranger.fill("input[name=new_password]", "quite another one")
    await stranger.fill("input[name=new_password_again]", "quite another on")
    await press_button(stranger, "Change the password")
    await until_text(stranger, ".account", "The new passwords differ")
    assert await unlabelled(stranger) == []
    await shoot(stranger, tmp_path, "account")
    await stranger.fill("input[name=new_password_again]", "quite another one")
    await press_button(stranger, "Change the password")
    await until_text(stranger, "body", "This sign-in was revoked")

    assert await violations(tab) == []
    assert await violations(stranger) == []


async def test_folders_are_chosen_and_a_group_gets_a_proxy(on: Console, tmp_path: Path) -> None:
    email_id = await on.add("a@example.org", [mail(1, subject="in the inbox")])
    with on.mails.client("a@example.org", "secret") as client:
        client.create("Archive")
    await on.client.send("label_emails", email_ids=[email_id], group="ops")
    await on.client.send("check_emails", email_ids=[email_id])
    tab = await on.sign_in()
    await press_button(tab, "Groups")
    await until_text(tab, "dialog[open]", "ops")
    await tab.fill("input[name=group_proxy]", "socks5://proxy.example.com:1080")
    assert await unlabelled(tab) == []
    await shoot(tab, tmp_path, "groups")
    await press_button(tab, "Save", "dialog[open]")
    await until_text(tab, "dialog[open]", "Take off")
    await press_button(tab, "Take off: ops", "dialog[open]")
    await press_button(tab, "Close", "dialog[open]")

    await tab.run(f"location.hash = '#/mailboxes/{email_id}'")
    await press_button(tab, "Edit")
    await press_button(tab, "Ask the mail server", "dialog[open]")
    await tab.page.locator("input[name=folder][value=Archive]").check()
    assert await unlabelled(tab) == []
    await shoot(tab, tmp_path, "folders")
    await press_button(tab, "Save", "dialog[open]")
    await until_text(tab, ".toasts", "a@example.org saved")
    [row] = (await on.client.send("get_all_emails", limit=1))["data"]
    assert row["folders"] == ["junk", "Archive"]

    await tab.until("document.querySelector('.unread-dot')")
    await shoot(tab, tmp_path, "unread")
    await tab.run("location.hash = '#/search'")
    await tab.page.locator("input[name=unread]").check()
    await press_button(tab, "Search", ".search-form")
    await until_text(tab, ".found", "in the inbox")
    assert await unlabelled(tab) == []
    await shoot(tab, tmp_path, "search")
    assert await violations(tab) == []


async def test_a_webhook_is_paused_and_gets_another_secret(on: Console, tmp_path: Path) -> None:
    await on.client.send("add_webhook", url="https://receiver.example/hook", types=["mail_received"])
    tab = await on.sign_in(page="#/programs")
    await press_button(tab, "Pause: https://receiver.example/hook", ".hooks")
    await until_text(tab, ".hooks", "Paused: what happens waits.")
    await press_button(tab, "New secret: https://receiver.example/hook", ".hooks")
    await press_button(tab, "New secret", "dialog[open]")
    secret = await tab.page.locator(".told-once code").text_content()
    assert secret is not None
    assert secret.startswith("whsec_")
    await until_text(tab, ".hooks", "Both secrets sign until")
    assert await unlabelled(tab) == []
    await shoot(tab, tmp_path, "hooks")
    await press_button(tab, "Resume: https://receiver.example/hook", ".hooks")
    await tab.until("!document.body.textContent.includes('Paused: what happens')")
    assert await violations(tab) == []


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


async def test_a_user_signs_in_with_name_and_password(on: Console, tmp_path: Path) -> None:
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
