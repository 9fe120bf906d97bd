"""SIGTERM while a check runs: the check comes to its end first, and the next start does not repeat it."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from huahuo.transport.client.client import Client
from tests.support.drivers.rawclient import raw
from tests.support.patience import ALL_WITHIN_S
from tests.support.servers.evil_imap import Peer, evil
from tests.support.servers.serving import Serving, serving

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


async def statuses(server: Serving, last: str) -> list[dict[str, Any]]:
    """What user 42 is told of the status of checks, up to one that is `last`."""
    told: list[dict[str, Any]] = []
    async with (
        Client(server.url, token=server.token(42, "alice")) as client,
        client.events("user/42", after="start") as events,
    ):
        async for event in events:
            if event.type == "email_status_update":
                told.append(event.data)
                if event.data["status"] == last:
                    break
    return told


async def test_a_stop_waits_for_a_check_that_runs(tmp_path: Path) -> None:
    logging_in, stopping = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.until_login()
        logging_in.set()
        await stopping.wait()
        await peer.say(peer.tag + b" NO [AUTHENTICATIONFAILED] no")
        await peer.silent()

    with serving(tmp_path / "data") as server:
        async with (
            asyncio.timeout(ALL_WITHIN_S),
            evil(script) as mail,
            raw(f"ws://127.0.0.1:{server.port}/ws", "huahuo.v1") as watcher,
        ):
            await watcher.authenticate(server.token(42, "alice"))
            async with Client(server.url, token=server.token(42, "alice")) as client:
                fields = {"server": "127.0.0.1", "port": mail.port, "use_ssl": False, "mail_type": "imap"}
                added = await client.send("add_email", email="a@example.org", password="p", **fields)
                await client.send("check_emails", email_ids=[added["email_id"]])
                await logging_in.wait()
            stop = asyncio.get_running_loop().run_in_executor(None, server.stop)
            await watcher.closed()
            stopping.set()
            assert await stop == 0
            server.start()
            told = await statuses(server, "need_reauth")
            assert [one["status"] for one in told] == ["queued", "processing", "need_reauth"]
            assert len(mail.peers) == 1
