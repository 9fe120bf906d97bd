"""The classic front end in Chromium: its page and what it shows."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Route

from huahuo.transport.client.client import Client
from tests.support.drivers.browser import Chromium, Tab, profile
from tests.support.drivers.stage import stage
from tests.support.patience import ALL_WITHIN_S
from tests.support.servers.pymap import pymap
from tests.support.servers.serving import serving
from tests.support.worlds.firemail import service

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


async def test_it_checks_a_mailbox_sees_the_progress_and_comes_back_after_a_kill(
    chromium: Chromium, tmp_path: Path
) -> None:
    async with stage(chromium, tmp_path) as on:
        with pymap() as mail:
            mail.add_mail(*(b"Subject: mail %d\r\n\r\nhello" % n for n in range(5)))
            server, token = on.server, on.token()
            tab = await on.browser.open(
                f"{on.site}/classic.html?server=ws://127.0.0.1:{server.port}/ws#{token}"
            )
            await tab.until("document.getElementById('status').textContent === '已连接'")
            await tab.run(
                f"""client.send({{
                          action: "add_email", email: "{mail.user}", password: "{mail.password}",
                          mail_type: "imap", server: "127.0.0.1", port: {mail.port}, use_ssl: false,
                        }})"""
            )
            added = await tab.until("client.messages.find((one) => one.type === 'email_added')")
            await tab.run(f"client.checkEmails([{added['email_id']}])")
            await tab.until(
                "client.messages.find((one) => one.type === 'email_status_update' && one.status === 'ok')"
            )
            progress = await tab.run(f"return client.progress[{added['email_id']}]")
            assert progress == sorted(progress)
            assert progress[-1] == 100
            events = "client.messages.filter((one) => one.timestamp && one.stream === 'user/42')"
            seqs = await tab.run(f"return {events}.map((one) => one.seq)")
            assert seqs == list(range(1, len(seqs) + 1)), "each event once, in order, none missing"
            await asyncio.to_thread(server.kill)
            await tab.until("document.getElementById('status').textContent === '已断开'")
            await asyncio.to_thread(server.start)
            await tab.until("document.querySelector('#emails li')?.textContent.endsWith(' ok')")


async def test_it_shows_a_notification_to_everybody(chromium: Chromium, tmp_path: Path) -> None:
    async with stage(chromium, tmp_path) as on:
        tab = await on.browser.open(
            f"{on.site}/classic.html?server=ws://127.0.0.1:{on.server.port}#{on.token()}"
        )
        await tab.until("document.getElementById('status').textContent === '已连接'")
        text = "系统将在5分钟后进行维护"
        await on.notify(text)
        await tab.until(f"document.getElementById('notification').textContent === '{text}'")


INDEX = """<!doctype html>
<script>
window.API_URL = 'http://elsewhere.example'; window.WS_URL = 'ws://elsewhere.example'; window.inline = true;
</script>
<script src="/env-config.js"></script>
<p id="mail"></p>
<script type="module" src="/assets/app-1.js"></script>
"""
SCRIPT = """
const said = (window.said = []);
const signIn = async (username = "alice") => {
  const answer = await fetch(`${window.API_URL}/api/auth/login`, {
    method: "POST", headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ username, password: "a good password" }),
  });
  const { token } = await answer.json();
  const socket = new WebSocket(`ws://${location.host}${window.WS_URL}`);
  window.socket = socket;
  socket.onmessage = (event) => {
    said.push(JSON.parse(event.data).type);
    if (event.data.startsWith('{"type":"import_result"')) window.result = JSON.parse(event.data);
  };
  socket.onopen = () => {
    socket.send(JSON.stringify({ type: "authenticate", token }));
    socket.send(JSON.stringify({ type: "get_all_emails" }));
  };
};
window.signIn = signIn;
// What a mail could bring, if the page that shows it did not look:
document.getElementById("mail").innerHTML = '<img src="data:," onerror="window.hacked = 1">';
"""


async def test_the_link_makes_an_administrator_who_signs_in_on_a_page_that_runs_only_its_own_scripts(
    chromium: Chromium, tmp_path: Path
) -> None:
    ui = tmp_path / "ui"
    (ui / "assets").mkdir(parents=True)
    (ui / "index.html").write_text(INDEX)
    (ui / "assets" / "app-1.js").write_text(SCRIPT)
    async with service(tmp_path / "d", classic_ui=str(ui)) as running, profile(chromium) as browser:
        link = running.app.first_link()
        assert link is not None
        tab = await browser.open(link)
        assert "#" not in await tab.run("return location.href")
        for field, text in enumerate(("alice", "a good password", "another one")):
            await tab.page.locator("input").nth(field).fill(text)
        await tab.click("button")
        await tab.until("document.querySelector('output').textContent.includes('differ')")
        await tab.page.locator("input").nth(2).fill("a good password")
        await tab.click("button")
        await tab.click("output a")
        await tab.until("window.signIn !== undefined && location.pathname === '/'")
        assert await tab.run("return [window.inline, window.API_URL, window.WS_URL]") == [True, "", "/ws"]
        await tab.run("await window.signIn()")
        await tab.until("window.said.includes('auth_result') && window.said.includes('emails_list')")
        assert await tab.run("return window.hacked === undefined")
        assert any("Content Security Policy" in line for line in tab.said)
        await tab.goto(f"{running.app.url}/emails/7")
        assert await tab.until("window.inline")
        await tab.goto(f"{running.app.url}/console/")
        await tab.until("document.querySelector('#app input') !== null")


async def test_an_import_larger_than_a_message_is_taken_in_parts_as_one_job(
    chromium: Chromium, tmp_path: Path
) -> None:
    async with of_alice(chromium, tmp_path) as (tab, _admin):
        await import_too_much(tab)


@asynccontextmanager
async def of_alice(chromium: Chromium, tmp_path: Path) -> AsyncIterator[tuple[Tab, Client]]:
    """The page, of a service with an account for alice, and a client of its administrator."""
    ui = tmp_path / "ui"
    (ui / "assets").mkdir(parents=True)
    (ui / "index.html").write_text(INDEX)
    (ui / "assets" / "app-1.js").write_text(SCRIPT)
    with serving(tmp_path / "d", HUAHUO_CLASSIC_UI=str(ui)) as server:
        async with (
            Client(server.url, token=server.token(0, "root", admin=True)) as admin,
            profile(chromium) as browser,
        ):
            await admin.send("add_user", name="alice", password="a good password")
            tab = await browser.open(server.url)
            await tab.until("window.signIn !== undefined")
            await tab.run("await window.signIn()")
            await tab.until("window.said.includes('emails_list')")
            yield tab, admin


async def import_too_much(tab: Tab) -> None:
    """24,000 lines of more than 1 MiB, in one message of the page."""
    asked: list[str] = []
    tab.page.on("request", lambda request: asked.append(request.url.rpartition("/")[2]))
    await tab.run(
        """const lines = Array.from({ length: 24_000 }, (_, n) =>
          n % 4_000 ? `u${n % 500}@example.com----canary${"x".repeat(40)}` : "only----canary");
        window.socket.send(JSON.stringify({ type: "import_emails",
          mailType: "imap", data: "\\ufeff" + lines.join("\\r\\n") }));"""
    )
    await tab.until("window.result", ALL_WITHIN_S)
    result = await tab.run("return window.result")
    assert (result["total"], result["success"], result["failed"]) == (24_000, 500, 23_500)
    lines = {one["line"]: one["reason"] for one in result["failed_details"]}
    assert len(lines) == 23_500
    assert lines[4_001] != lines[4_002]
    assert "canary" not in str(result)
    assert (asked.count("begin_import"), asked.count("end_import")) == (1, 1)
    assert await tab.run("return window.said.filter((type) => type === 'email_added').length") == 0
    assert await tab.run("return window.said.filter((type) => type === 'emails_imported').length") == 1


IMPORT = """window.socket.send(JSON.stringify({ type: "import_emails", mailType: "imap",
  data: Array.from({ length: 8_000 }, (_, n) => `u${n}@example.com----p${"x".repeat(40)}`).join("\\n") }));"""
"""Some 480,000 characters: several commands of lines."""


async def test_a_command_of_an_import_whose_answer_is_lost_is_carried_out_once(
    chromium: Chromium, tmp_path: Path
) -> None:
    answers: dict[str, list[Any]] = {}

    async def lose_the_first(route: Route) -> None:
        answer = await route.fetch()
        seen = answers.setdefault(route.request.url.rpartition("/")[2], [])
        seen.append(await answer.json())
        await (route.fulfill(response=answer) if len(seen) > 1 else route.abort())

    async with of_alice(chromium, tmp_path) as (tab, _admin):
        await tab.page.route("**/commands/*", lose_the_first)
        await tab.run(IMPORT)
        await tab.until("window.result", ALL_WITHIN_S)
        result = await tab.run("return window.result")
    assert (result["total"], result["success"], result["failed"]) == (8_000, 8_000, 0)
    assert answers.keys() == {"begin_import", "import_emails", "end_import"}
    for first, again, *_others in answers.values():
        places = [one.pop("at", {}) for one in (first, again)]
        assert len({(place.get("stream"), place.get("seq")) for place in places}) == 1
        assert again == {**first, "duplicate": True}


async def test_an_import_ends_when_its_token_is_no_longer_good(chromium: Chromium, tmp_path: Path) -> None:
    asked: list[str] = []

    async with of_alice(chromium, tmp_path) as (tab, admin):

        async def sign_out_after_the_first(route: Route) -> None:
            asked.append(route.request.url.rpartition("/")[2])
            if asked.count("import_emails") == 2:
                await admin.send("disable_user", name="alice")
            await route.continue_()

        await tab.page.route("**/commands/*", sign_out_after_the_first)
        await tab.run(IMPORT)
        await tab.until("window.result", ALL_WITHIN_S)
        result = await tab.run("return window.result")
    assert asked.count("import_emails") == 2
    done = result["success"]
    assert 0 < done < 4_000
    assert (result["total"], result["failed"]) == (8_000, 8_000 - done)
    assert result["failed_details"][0]["line"] == done + 1


ADDED = """window.socket.dispatchEvent(new MessageEvent("message", {
  data: '{"type":"email_added","message":"","email_id":7}' }));"""


async def test_a_mailbox_that_another_client_adds_is_told_also_while_an_import_adds_none(
    chromium: Chromium, tmp_path: Path
) -> None:
    told = "return window.said.filter((type) => type === 'email_added').length"
    async with of_alice(chromium, tmp_path) as (tab, _admin):

        async def add_one(route: Route) -> None:
            await tab.run(ADDED)
            await route.continue_()

        await tab.page.route("**/commands/end_import", add_one)
        await tab.run(IMPORT.replace("@example.com", ""))
        await tab.until("window.result", ALL_WITHIN_S)
        assert (await tab.run("return window.result"))["success"] == 0
        assert await tab.run(told) == 1
        await tab.run(ADDED)
        assert await tab.run(told) == 2


async def test_who_signs_in_on_the_page_meanwhile_is_told_nothing_of_an_import(
    chromium: Chromium, tmp_path: Path
) -> None:
    async with of_alice(chromium, tmp_path) as (tab, admin):
        await admin.send("add_user", name="bob", password="a good password")

        async def let_bob_sign_in(route: Route) -> None:
            await tab.run("await window.signIn('bob')")
            await tab.until("window.said.filter((type) => type === 'auth_result').length === 2")
            await route.continue_()

        await tab.page.route("**/commands/begin_import", let_bob_sign_in)
        async with tab.page.expect_event("requestfinished", lambda one: one.url.endswith("/end_import")):
            await tab.run(IMPORT)
        assert await tab.run("return window.said.filter((type) => type === 'import_result')") == []
