"""The browser client with a server that compresses: the same events, from fewer bytes, under its policy."""

from pathlib import Path

import pytest

from tests.support.drivers.browser import Chromium, Tab
from tests.support.drivers.console import built_console, console, rows, violations
from tests.support.drivers.stage import STREAM, Stage, stage

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

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


async def test_compressed_events_equal_those_over_the_plain_protocol(
    chromium: Chromium, tmp_path: Path
) -> None:
    async with stage(chromium, tmp_path) as on:
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


async def test_a_tab_without_the_connection_gets_what_its_owner_unpacked(
    chromium: Chromium, tmp_path: Path
) -> None:
    async with stage(chromium, tmp_path) as on:
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


async def test_a_page_that_cannot_load_the_decoder_goes_on_without(
    chromium: Chromium, tmp_path: Path
) -> None:
    async with stage(chromium, tmp_path) as on:
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
