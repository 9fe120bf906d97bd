"""A front end that the user has, in a real browser under its policy; and the page of the first administrator.

The page of the test stands in for FireMail's: it has an inline script before `/env-config.js` as that has,
and talks to the WebSocket and the HTTP in the same way.
"""

from pathlib import Path

import pytest

from huahuo.transport.client.client import Client
from tests.support.drivers.browser import Chromium, Tab, profile
from tests.support.patience import ALL_WITHIN_S
from tests.support.servers.serving import serving
from tests.support.worlds.firemail import service

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

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
const signIn = async () => {
  const answer = await fetch(`${window.API_URL}/api/auth/login`, {
    method: "POST", headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ username: "alice", password: "a good password" }),
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
    ui = tmp_path / "ui"
    (ui / "assets").mkdir(parents=True)
    (ui / "index.html").write_text(INDEX)
    (ui / "assets" / "app-1.js").write_text(SCRIPT)
    with serving(tmp_path / "d", HUAHUO_CLASSIC_UI=str(ui)) as server:
        async with Client(server.url, token=server.token(0, "root", admin=True)) as client:
            await client.send("add_user", name="alice", password="a good password")
        async with profile(chromium) as browser:
            await import_too_much(await browser.open(server.url))


async def import_too_much(tab: Tab) -> None:
    """24,000 lines of more than 1 MiB, in one message of the page."""
    asked: list[str] = []
    tab.page.on("request", lambda request: asked.append(request.url.rpartition("/")[2]))
    await tab.until("window.signIn !== undefined")
    await tab.run("await window.signIn()")
    await tab.until("window.said.includes('emails_list')")
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
