"""The example page as the service itself offers it: the package from `/client/`, without a bundler."""

import asyncio
from pathlib import Path

import pytest

from tests.support.drivers.browser import Chromium
from tests.support.drivers.stage import stage

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

UNREACHABLE = ("error: Failed to load resource", "error: WebSocket connection")
"""What Chromium itself logs while the server is down, and for the icon that the page does not have."""


async def test_it_shows_mailboxes_as_they_change_under_the_policy_of_the_service(
    chromium: Chromium, tmp_path: Path
) -> None:
    async with stage(chromium, tmp_path) as on:
        tab = await on.browser.open(f"{on.server.url}/client/#token={on.token()}")
        await tab.until("document.querySelector('#state').value === 'online'")
        other = await on.reader("none")
        await other.run(
            """await client.send("add_email", {
                     email: "a@example.org", mail_type: "imap", server: "127.0.0.1", port: 143, password: "x",
                   })"""
        )
        await tab.until("document.querySelector('#emails').textContent.includes('a@example.org')")
        await asyncio.to_thread(on.server.kill)
        await tab.until("document.querySelector('#state').value === 'offline'")
        await asyncio.to_thread(on.server.start)
        await tab.until("document.querySelector('#state').value === 'online'")
        said = [line for line in tab.said if line.startswith(("error", "thrown"))]
        assert not [line for line in said if not line.startswith(UNREACHABLE)]
