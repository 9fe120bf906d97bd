"""The browser client in a real browser: whatever is interrupted, every event is applied once."""

import asyncio
from pathlib import Path

import pytest

from tests.browser.stage import stage
from tests.support.proxy import chaos_proxy

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def test_a_cut_connection_goes_on_where_it_stood(tmp_path: Path) -> None:
    async def main() -> None:
        async with stage(tmp_path) as on, chaos_proxy(on.server.port) as proxy:
            tab = await on.reader("memory", port=proxy.port)
            await tab.run("await subscription.ready")
            await on.publish(50)
            await tab.until("seen.length >= 20")
            proxy.cut()
            await on.publish(50)
            await tab.until("seen.length >= 100")
            assert await tab.run("return seen") == on.expected()
            assert "offline" in await tab.run("return states")

    asyncio.run(main())
