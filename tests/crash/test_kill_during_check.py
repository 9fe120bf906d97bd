"""`kill -9` in the middle of a check: the check still ends, and every client has exactly the log's events."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from huahuo.transport.client.client import Client
from tests.support.models.history import TERMINAL, Seen, checks_end_once, same_run
from tests.support.patience import ALL_WITHIN_S
from tests.support.servers.dovecot import dovecot
from tests.support.servers.proxy import ChaosProxy, chaos_proxy
from tests.support.servers.serving import Serving, serving

CLIENTS = 10
MAILS = 200
SOME_BYTES = 24_000
"""Of what the mail server sends for all mails: more than for the first batch of them."""
USER = "alice@example.com"

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


class Watcher:
    """A client that keeps the events it applied, over all its connections."""

    def __init__(self, url: str, token: str, name: str) -> None:
        self.applied: list[Seen] = []
        self.mail_seen = asyncio.Event()
        self.ended = asyncio.Event()
        self._client = Client(url, token=token, client=name, backoff_s=(0.05, 0.2))

    async def follow(self) -> None:
        async with self._client as client, client.events("user/42", after="start") as events:
            async for event in events:
                self.applied.append(Seen(event.seq, event.type, msgspec.json.encode(event.data).decode()))
                if event.type == "mail_received":
                    self.mail_seen.set()
                if event.type == "email_status_update" and event.data["status"] in TERMINAL:
                    self.ended.set()


async def everything(url: str, token: str, stream: str) -> list[Seen]:
    """The whole stream, read by a fresh client."""
    async with Client(url, token=token) as client, client.events(stream, after="start") as events:
        outcome = await events.ready()
        found: list[Seen] = []
        async for event in events:
            found.append(Seen(event.seq, event.type, msgspec.json.encode(event.data).decode()))
            if event.seq >= outcome.head:
                return found
    raise AssertionError("the stream ended early")


async def kill_in_the_middle(server: Serving, mail: ChaosProxy) -> tuple[list[Watcher], list[Seen]]:
    token = server.token(42, "alice")
    watchers = [Watcher(server.url, token, f"watcher-{n}") for n in range(CLIENTS)]
    tasks = [asyncio.create_task(watcher.follow()) for watcher in watchers]
    async with asyncio.timeout(ALL_WITHIN_S):
        async with Client(server.url, token=token) as client:
            added = await client.send(
                "add_email",
                email=USER,
                password="secret",
                mail_type="imap",
                server="127.0.0.1",
                port=mail.port,
                use_ssl=False,
            )
            mail.blackhole(after_bytes=SOME_BYTES)  # so that no kill comes too late
            await client.send("check_emails", email_ids=[added["email_id"]])
            await asyncio.gather(mail.silent.wait(), *(watcher.mail_seen.wait() for watcher in watchers))
            server.kill()
            assert not any(watcher.ended.is_set() for watcher in watchers)
            mail.heal()
        await asyncio.get_running_loop().run_in_executor(None, server.start)
        await asyncio.gather(*(watcher.ended.wait() for watcher in watchers))
        log = await everything(server.url, token, "user/42")
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return watchers, log


async def test_after_kill_9_every_client_has_applied_exactly_the_log_and_the_check_ends(
    tmp_path: Path,
) -> None:
    with dovecot() as mail, serving(tmp_path / "data") as server:
        mail.add_user(USER)
        mail.add_mail(USER, *(f"Subject: nonce {n}\r\n\r\nbody {n}".encode() for n in range(MAILS)))
        before = mail.snapshot(USER)
        async with chaos_proxy(mail.port) as proxy:
            watchers, log = await kill_in_the_middle(server, proxy)
        assert checks_end_once(log) is None
        subjects = [
            msgspec.json.decode(event.body)["subject"] for event in log if event.type == "mail_received"
        ]
        assert sorted(subjects) == sorted(f"nonce {n}" for n in range(MAILS)), "each mail exactly once"
        for watcher in watchers:
            assert same_run(watcher.applied, log) is None
            assert [watcher.applied[0].seq, watcher.applied[-1].seq] == [1, log[-1].seq]
        assert mail.snapshot(USER) == before, "the mailbox on the server is untouched"
