"""A page written for the original service, without any library, works unchanged with a real mail server."""

import asyncio
from pathlib import Path

import pytest

from tests.support.drivers.browser import Chromium
from tests.support.drivers.stage import stage
from tests.support.servers.pymap import pymap

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
