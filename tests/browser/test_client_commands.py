"""Commands and tokens of the browser client, in a real browser."""

import asyncio
from pathlib import Path

import pytest

from tests.support.drivers.browser import Chromium
from tests.support.drivers.stage import stage
from tests.support.servers.proxy import chaos_proxy

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

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


async def test_a_write_is_read_where_it_was_waited_for(chromium: Chromium, tmp_path: Path) -> None:
    async with stage(chromium, tmp_path) as on:
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


async def test_an_expiring_token_is_renewed_in_place(chromium: Chromium, tmp_path: Path) -> None:
    async with stage(chromium, tmp_path) as on:
        tab = await on.reader("memory", on.token(ttl_s=50), on.token())
        await tab.run("await subscription.ready")
        await on.publish(10)
        await tab.until("tokensGiven === 2")
        await on.connection_lasts("user/42", 1000)
        await on.publish(10)
        await tab.until("seen.length === 20")
        assert await tab.run("return states") == ["connecting", "online"]
        assert await tab.run("return seen") == on.expected()


async def test_a_revoked_token_stops_the_client_and_says_why(chromium: Chromium, tmp_path: Path) -> None:
    async with stage(chromium, tmp_path) as on:
        tab = await on.reader("memory")
        await on.revoke(42)
        await tab.until("client.state.value.name === 'stopped'")
        assert await tab.run("return client.state.value.error.closeCode") == 4503
        refused = await tab.run(
            "return client.send('get_all_emails').catch((error) => `${error.name} ${error.code}`)"
        )
        assert refused == "HuahuoError stopped"
