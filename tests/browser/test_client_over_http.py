"""The browser client in a network that lets no WebSocket through: it goes over plain HTTP by itself."""

from pathlib import Path

import pytest

from tests.support.drivers.browser import Chromium
from tests.support.drivers.stage import stage
from tests.support.servers.proxy import chaos_proxy

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


async def test_every_event_comes_once_though_upgrades_are_refused_and_connections_cut(
    chromium: Chromium, tmp_path: Path
) -> None:
    async with stage(chromium, tmp_path) as on, chaos_proxy(on.server.port) as proxy:
        proxy.refused = 0
        tab = await on.reader("stored", port=proxy.port)
        await tab.run("await subscription.ready")
        assert proxy.refused >= 2
        await on.publish(50)
        await tab.until("applied().then((all) => all.length >= 50)")
        proxy.cut()
        await on.publish(50)
        await tab.until("applied().then((all) => all.length >= 100)")
        await tab.reload()
        await tab.until("window.ready")
        await on.publish(20)
        await tab.until("applied().then((all) => all.length >= 120)")
        assert await tab.run("return applied()") == on.expected()


async def test_commands_are_answered_once_over_plain_http(chromium: Chromium, tmp_path: Path) -> None:
    async with stage(chromium, tmp_path) as on, chaos_proxy(on.server.port) as proxy:
        proxy.refused = 0
        tab = await on.reader("memory", port=proxy.port)
        await tab.run("await subscription.ready")
        listed = await tab.run("return (await client.send('get_all_emails')).type")
        assert listed == "emails_list"
        await tab.run("window.wrong = client.send('check_emails', { email_ids: 'x' })")
        refused = await tab.run("try { await window.wrong } catch (error) { return error.code }")
        assert refused == "invalid_field"
