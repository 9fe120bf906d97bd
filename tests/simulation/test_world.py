"""The whole server with three clients in a simulated world, and a power cut in the middle.

Besides the promises below, these tests prove that all code asks the injected clock and chance, leaves the
loop only through the executor port and communicates only through asyncio. Else the world would not repeat.
"""

import asyncio
import functools
import tempfile
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest
from simloop import SimLoop

from huahuo.transport.client.client import Client
from tests.support.models.history import TERMINAL, Seen, checks_end_once, same_run
from tests.support.models.model_imap import ModelImap
from tests.support.proofs import WHOLE
from tests.support.worlds.simworld import PORT, SERVER, SimAmbient, SimServer, run

MAILS = 40
SEEDS = range(4 if WHOLE else 2)


class Watcher:
    """One client on a machine of its own, for the whole time."""

    def __init__(self, loop: SimLoop, server: SimServer, number: int) -> None:
        self.applied: list[Seen] = []
        self.mail_seen = asyncio.Event()
        self.ended = asyncio.Event()
        self.connections = 0
        self._ambient = SimAmbient(f"client {number} {loop.seed}")
        self._token = server.token(42, "alice")
        self._name = f"watcher-{number}"
        loop.net.host(self._name).create_task(self._follow())

    async def _follow(self) -> None:
        client = Client(
            f"ws://{SERVER}:{PORT}", token=self._token, client=self._name, ambient=self._ambient, window=16
        )
        client.on_status(self._count)
        async with client, client.events("user/42", after="start") as events:
            async for event in events:
                self.applied.append(Seen(event.seq, event.type, msgspec.json.encode(event.data).decode()))
                if event.type == "mail_received":
                    self.mail_seen.set()
                if event.type == "email_status_update" and event.data["status"] in TERMINAL:
                    self.ended.set()

    def _count(self, status: Any) -> None:
        self.connections += type(status).__name__ == "Online"


def play(loop: SimLoop, data: Path, told: dict[str, Any]) -> Any:
    async def world() -> None:
        loop.net.set_flow_control(enabled=True)
        loop.net.set_defaults(latency=(0.001, 0.02))
        server = SimServer(loop, data)
        imap = ModelImap(
            "alice", "secret", [f"Subject: nonce {n}\r\n\r\nbody".encode() for n in range(MAILS)]
        )
        mail_host = loop.net.host("imap")
        mail_host.create_task(imap.serve(143))
        admin = loop.net.host("admin")
        watchers = []
        for number in range(3):
            loop.net.host(f"watcher-{number}")
        await server.start()
        watchers = [Watcher(loop, server, number) for number in range(3)]

        async def command() -> None:
            ambient = SimAmbient(f"admin {loop.seed}")
            async with Client(
                f"ws://{SERVER}:{PORT}", token=server.token(42, "alice"), client="cmd", ambient=ambient
            ) as client:
                added = await client.send(
                    "add_email", email="alice@example.com", password="secret", mail_type="imap",
                    server="imap", port=143, use_ssl=False,
                )  # fmt: skip
                told["added"] = added
                await client.send("check_emails", email_ids=[added["email_id"]])
                await asyncio.gather(*(watcher.mail_seen.wait() for watcher in watchers))

        await admin.create_task(command())
        assert not any(watcher.ended.is_set() for watcher in watchers), "crashed too late to prove anything"
        server.crash()
        await asyncio.sleep(1.0)
        await server.restart()
        async with asyncio.timeout(60):  # I7, in virtual seconds
            await asyncio.gather(*(watcher.ended.wait() for watcher in watchers))
        told["watchers"] = [watcher.applied for watcher in watchers]
        told["connections"] = [watcher.connections for watcher in watchers]

    return world()


def played(seed: int) -> dict[str, Any]:
    """What the three clients of one run were told."""
    told: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as data:
        threads = threading.active_count()
        run(lambda loop: play(loop, Path(data), told), seed)
        assert threading.active_count() == threads, "nothing left the loop"
    return told


once = functools.cache(played)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_three_clients_end_with_one_history_after_a_power_cut(seed: int) -> None:
    told = once(seed)
    log = told["watchers"][0]
    assert [event.seq for event in log] == list(range(1, len(log) + 1))
    assert checks_end_once(log) is None
    for applied in told["watchers"]:
        assert same_run(applied, log) is None
        assert len(applied) == len(log)
    subjects = [msgspec.json.decode(event.body)["subject"] for event in log if event.type == "mail_received"]
    assert sorted(subjects) == sorted(f"nonce {n}" for n in range(MAILS))
    assert min(told["connections"]) >= 2, "each client lost its server and came back"


@pytest.mark.slow
def test_the_same_seed_gives_the_same_history() -> None:
    assert played(1)["watchers"] == once(1)["watchers"]
