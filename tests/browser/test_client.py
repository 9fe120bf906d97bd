"""The browser client in Chromium.

Commands once, every event once, compression, and tabs that share one connection.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.drivers.browser import Chromium, Tab
from tests.support.drivers.console import built_console, console, rows, violations
from tests.support.drivers.stage import STREAM, Stage, stage
from tests.support.servers.proxy import chaos_proxy

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture
async def on(chromium: Chromium, tmp_path: Path) -> AsyncIterator[Stage]:
    async with stage(chromium, tmp_path, within_s=None) as made:
        yield made


ADD = """client.send("add_email", {
  email: `${name}@example.org`, mail_type: "imap", server: "127.0.0.1", port: 143, password: "x",
})"""


async def test_commands_given_offline_are_executed_once(chromium: Chromium, tmp_path: Path) -> None:
    async with stage(chromium, tmp_path) as on, chaos_proxy(on.server.port) as proxy:
        tab = await on.reader("none", port=proxy.port)
        proxy.refuse()
        proxy.cut()
        await tab.until("client.state.value.name === 'offline'")
        await tab.run(f"window.replies = ['a', 'b', 'c'].map((name) => {ADD})")
        await asyncio.to_thread(on.server.kill)
        await asyncio.to_thread(on.server.start)
        proxy.heal()
        replies = await tab.run("return await Promise.all(replies)")
        assert [reply["type"] for reply in replies] == ["success"] * 3
        listed = await tab.run("return await client.send('get_all_emails')")
        assert sorted(row["email"] for row in listed["data"]) == [f"{n}@example.org" for n in "abc"]


async def test_a_reply_lost_with_the_connection_comes_again(chromium: Chromium, tmp_path: Path) -> None:
    async with stage(chromium, tmp_path) as on, chaos_proxy(on.server.port) as proxy:
        tab = await on.reader("none", port=proxy.port)
        proxy.blackhole()
        await tab.run(f"const name = 'a'; window.reply = {ADD}")
        proxy.cut_after_bytes = None
        proxy.heal()
        proxy.cut()
        assert (await tab.run("return await reply"))["email_id"] >= 1
        listed = await tab.run("return await client.send('get_all_emails')")
        assert len(listed["data"]) == 1


async def test_a_write_is_read_where_it_was_waited_for(on: Stage) -> None:
    tab = await on.reader("none")
    rows = await tab.run(
        f"""let emails = null;
                client.subscribe("user/42", {{
                  after: "snapshot",
                  onSnapshot: ({{ state }}) => {{ emails = state.emails.map((row) => row.email); }},
                  onEvent: (event) => {{ if (event.type === "email_added") emails.push(event.email); }},
                }});
                const name = "a";
                await {ADD.replace("})", "}, { applied: true })")};
                return emails;"""
    )
    assert rows == ["a@example.org"]


async def test_an_expiring_token_is_renewed_in_place(on: Stage) -> None:
    tab = await on.reader("memory", on.token(ttl_s=50), on.token())
    await tab.run("await subscription.ready")
    await on.publish(10)
    await tab.until("tokensGiven === 2")
    await on.connection_lasts("user/42", 1000)
    await on.publish(10)
    await tab.until("seen.length === 20")
    assert await tab.run("return states") == ["connecting", "online"]
    assert await tab.run("return seen") == on.expected()


async def test_a_revoked_token_stops_the_client_and_says_why(on: Stage) -> None:
    tab = await on.reader("memory")
    await on.revoke(42)
    await tab.until("client.state.value.name === 'stopped'")
    assert await tab.run("return client.state.value.error.closeCode") == 4503
    refused = await tab.run(
        "return client.send('get_all_emails').catch((error) => `${error.name} ${error.code}`)"
    )
    assert refused == "HuahuoError stopped"


# in a page of the real server (its sign-in), so that its policy holds for the decoder and its WASM file
_READ = """
window.violations = [];
addEventListener("securitypolicyviolation", (event) => violations.push(event.blockedURI));
window.protocols = [];
window.received = { string: 0, object: 0 };
window.bytes = 0;
window.WebSocket = class extends WebSocket {
  constructor(...args) {
    super(...args);
    this.addEventListener("open", () => protocols.push(this.protocol));
    this.addEventListener("message", ({ data }) => {
      received[typeof data] += 1;
      bytes += data.length ?? data.byteLength;
    });
  }
};
window.events = [];
window.problems = [];
const { Client } = await import("/client/huahuo-client.js");
window.client = new Client({ token: "%s", share: %s, backoffMs: [20, 200], %s });
client.onStatus((status) => status.type === "problem" && problems.push(status.message));
await client.subscribe("%s", { onEvent: (event) => void events.push(event) }).ready;
"""
_DECODER = 'decoder: () => import("/client/zstd.js")'


async def _reader(on: Stage, more: str, *, share: bool = False) -> Tab:
    tab = await on.browser.open(f"{on.server.url}/")
    await tab.run(_READ % (on.token(), str(share).lower(), more, STREAM))
    return tab


async def _decoder_files(tab: Tab) -> list[str]:
    """What the page loaded for compression."""
    names = await tab.run("return performance.getEntriesByType('resource').map(({ name }) => name)")
    paths = [name.split("/", 3)[3] for name in names]
    return sorted(path for path in paths if "zstd" in path or "dictionary" in path)


async def test_compressed_events_equal_those_over_the_plain_protocol(on: Stage) -> None:
    compressed, plain = await _reader(on, _DECODER), await _reader(on, "")
    assert await _decoder_files(compressed) == [], "nothing was compressed yet"
    for count in (1, 100, 300):
        await on.publish(count)
        for tab in (compressed, plain):
            await tab.until(f"events.length === {on.published}")
    assert await compressed.run("return events") == await plain.run("return events")
    assert await compressed.run("return protocols") == ["huahuo.v1.zstd"]
    assert await plain.run("return protocols") == ["huahuo.v1"]
    assert await compressed.run("return received.object") > 0
    assert await plain.run("return received.object") == 0
    assert await compressed.run("return bytes") * 2 < await plain.run("return bytes")
    assert await compressed.run("return problems") == []
    assert await compressed.run("return violations") == []
    *files, dictionary = await _decoder_files(compressed)
    assert dictionary.startswith("dictionary/")
    assert files == ["client/zstd.js", "client/zstd.wasm"]
    assert await _decoder_files(plain) == []


async def test_a_tab_without_the_connection_gets_what_its_owner_unpacked(on: Stage) -> None:
    owner = await _reader(on, _DECODER, share=True)
    other = await _reader(on, _DECODER, share=True)
    await on.publish(100)
    for tab in (owner, other):
        await tab.until("events.length === 100")
        assert await tab.run("return events.map(({ n }) => n)") == on.expected()
    assert await owner.run("return received.object") > 0
    assert await other.run("return protocols") == []
    await owner.close()
    await on.publish(50)
    await other.until("events.length === 150")
    assert await other.run("return events.map(({ n }) => n)") == on.expected()
    assert await other.run("return received.object") > 0


async def test_a_page_that_cannot_load_the_decoder_goes_on_without(on: Stage) -> None:
    tab = await _reader(on, 'decoder: () => import("/client/nowhere.js")')
    await on.publish(100)
    await tab.until("events.length === 100")
    assert await tab.run("return events.map(({ n }) => n)") == on.expected()
    assert await tab.run("return protocols") == ["huahuo.v1.zstd", "huahuo.v1"]


async def test_the_console_reads_compressed_messages(chromium: Chromium, tmp_path: Path) -> None:
    built_console()
    async with console(chromium, tmp_path) as on:
        tab = await on.browser.open()
        note = """window.violations = [];
            addEventListener("securitypolicyviolation", (event) => violations.push(event.blockedURI));
            window.sockets = []; window.WebSocket = class extends WebSocket {
              constructor(...args) {
                super(...args);
                const one = { socket: this, binary: 0 };
                sockets.push(one);
                this.addEventListener("message", ({ data }) => (one.binary += typeof data !== "string"));
              } };"""
        await tab.page.add_init_script(note)
        await tab.goto(f"{on.server.url}/#token={on.token()}")
        await tab.until("document.querySelector('[data-state=online]')")
        for name in ("alice", "bob", "carol"):
            await on.add(f"{name}@example.org")
        await tab.until("document.querySelectorAll('.row').length === 3")
        assert [row["email"] for row in await rows(tab)] == [
            f"{name}@example.org" for name in ("alice", "bob", "carol")
        ]
        found = await tab.run("return sockets.map(({ socket, binary }) => [socket.protocol, binary > 0])")
        assert found == [["huahuo.v1.zstd", True]]
        assert any(path.endswith(".wasm") for path in await _decoder_files(tab))
        assert await violations(tab) == []


async def test_a_cut_connection_goes_on_where_it_stood(chromium: Chromium, tmp_path: Path) -> None:
    async with stage(chromium, tmp_path) as on, chaos_proxy(on.server.port) as proxy:
        tab = await on.reader("memory", port=proxy.port)
        await tab.run("await subscription.ready")
        await on.publish(50)
        await tab.until("seen.length >= 20")
        proxy.cut()
        await on.publish(50)
        await tab.until("seen.length >= 100")
        assert await tab.run("return seen") == on.expected()
        assert "offline" in await tab.run("return states")


async def test_a_reload_in_the_middle_of_a_burst_applies_every_event_once(on: Stage) -> None:
    tab = await on.reader("stored")
    await tab.run("await subscription.ready")
    for _ in range(4):
        burst = asyncio.create_task(on.publish(150))
        await asyncio.sleep(0)
        await tab.until("seen.length >= 20")
        await tab.reload()
        await tab.until("window.ready")
        await burst
    await tab.until(f"applied().then((all) => all.length >= {on.published})")
    assert await tab.run("return applied()") == on.expected()
    assert len(await tab.run("return seen")) < on.published, "the reloads came in the middle"


async def test_a_closed_tab_is_continued_by_a_new_one(on: Stage) -> None:
    first = await on.reader("stored")
    await first.run("await subscription.ready")
    await on.publish(30)
    await first.until("applied().then((all) => all.length === 30)")
    await first.close()
    await on.publish(30)
    second = await on.reader("stored")
    await second.until("applied().then((all) => all.length >= 60)")
    assert await second.run("return applied()") == on.expected()


async def test_a_page_that_received_nothing_yet_misses_nothing_after_a_reload(on: Stage) -> None:
    await on.publish(5)
    tab = await on.reader("stored")
    assert await tab.run("return await subscription.ready") == "fresh"
    await tab.until("place().then((seq) => seq === 5)")  # a page that goes earlier comes back as new
    await tab.goto("about:blank")
    await on.publish(7)
    await tab.goto(on.address("stored"))
    await tab.until("seen.length === 7")
    assert await tab.run("return seen") == [6, 7, 8, 9, 10, 11, 12]


async def test_a_killed_server_is_awaited_without_a_reload(on: Stage) -> None:
    tab = await on.reader("stored")
    await tab.run("await subscription.ready; window.mark = 'same page'")
    await on.publish(40)
    await tab.until("seen.length >= 10")
    await asyncio.to_thread(on.server.kill)
    await tab.until("states.includes('offline')")
    await asyncio.to_thread(on.server.start)
    await on.publish(40)
    await tab.until(f"applied().then((all) => all.length >= {on.published})")
    assert await tab.run("return applied()") == on.expected()
    assert await tab.run("return window.mark") == "same page"


async def test_a_page_put_away_and_brought_back_goes_on(on: Stage) -> None:
    tab = await on.reader("memory")
    await tab.run("await subscription.ready")
    await on.publish(10)
    await tab.until("seen.length === 10")
    await tab.call("Page.setWebLifecycleState", state="frozen")
    await on.publish(10)
    await tab.call("Page.setWebLifecycleState", state="active")
    await tab.until("seen.length === 20")
    assert await tab.run("return seen") == on.expected()


async def test_a_connection_that_went_silent_is_found_out_when_the_page_is_seen_again(
    chromium: Chromium, tmp_path: Path
) -> None:
    # The silence of heartbeats is noticed long after the deadline of `until`.
    async with (
        stage(chromium, tmp_path, HUAHUO_HEARTBEAT_S="600") as on,
        chaos_proxy(on.server.port) as proxy,
    ):
        tab = await on.reader("memory", port=proxy.port)
        await tab.run("await subscription.ready")
        proxy.blackhole()  # as a phone's network does: the socket stays open, nothing comes
        await on.publish(10)
        await tab.run("document.dispatchEvent(new Event('visibilitychange'))")
        await tab.until("states.includes('offline')")
        proxy.heal()
        await tab.until("seen.length === 10")
        assert await tab.run("return seen") == on.expected()


async def _owner_and_other(on: Stage, kind: str) -> tuple[Tab, Tab]:
    first = await on.reader(kind)
    await first.until("client.owner.value")
    second = await on.reader(kind)
    return first, second


async def _connections(on: Stage) -> int:
    """How many the service has of this user: the metrics count all, one is the admin's."""
    text = await (await on.browser.open(f"{on.server.url}/metrics")).run("return document.body.innerText")
    [line] = [line for line in text.splitlines() if line.startswith("huahuo_connections ")]
    return int(float(line.split()[-1])) - 1


async def test_tabs_share_one_connection_and_each_sees_every_event(on: Stage) -> None:
    first, second = await _owner_and_other(on, "memory")
    await first.run("await subscription.ready")
    await second.run("await subscription.ready")
    await on.publish(100)
    for tab in (first, second):
        await tab.until("seen.length === 100")
        assert await tab.run("return seen") == on.expected()
    assert not await second.run("return client.owner.value")
    assert await _connections(on) == 1


@pytest.mark.parametrize("end", ["close", "crash"])
async def test_when_the_owner_goes_another_tab_continues_without_loss_or_repeat(on: Stage, end: str) -> None:
    owner, other = await _owner_and_other(on, "memory")
    await other.run("await subscription.ready")
    burst = asyncio.create_task(on.publish(300))
    await other.until("seen.length >= 50")
    await (owner.close() if end == "close" else owner.crash())
    await burst
    await on.publish(100)
    await other.until("client.owner.value")
    await other.until(f"seen.length >= {on.published}")
    assert await other.run("return seen") == on.expected()


async def test_a_stored_place_is_handed_over_with_its_events_applied_once(on: Stage) -> None:
    owner, other = await _owner_and_other(on, "stored")
    await owner.run("await subscription.ready")
    burst = asyncio.create_task(on.publish(300))
    await owner.until("seen.length >= 50")
    assert await other.run("return seen.length") == 0, "one tab applies them"
    await owner.close()
    await burst
    await on.publish(100)
    await other.until(f"applied().then((all) => all.length >= {on.published})")
    assert await other.run("return applied()") == on.expected()
    assert await other.run("return seen.length") > 0


async def test_a_command_of_a_tab_is_answered_though_the_owner_goes_before_the_reply(on: Stage) -> None:
    owner, other = await _owner_and_other(on, "memory")
    await other.run(
        """window.reply = client.send("add_email", {
                 email: "a@example.org", mail_type: "imap", server: "127.0.0.1", port: 143, password: "x",
               });"""
    )
    await owner.close()
    assert (await other.run("return await reply"))["type"] == "success"
    listed = await other.run("return await client.send('get_all_emails')")
    assert [row["email"] for row in listed["data"]] == ["a@example.org"]


async def test_without_sharing_each_tab_has_its_own_connection(on: Stage) -> None:
    tabs = [await on.reader("memory", share="no") for _ in range(2)]
    assert await _connections(on) == 2
    for tab in tabs:
        await tab.run("await subscription.ready")
    await on.publish(20)
    for tab in tabs:
        await tab.until("seen.length === 20")
        assert await tab.run("return seen") == on.expected()
    assert [await tab.run("return client.state.value.name") for tab in tabs] == ["online"] * 2
