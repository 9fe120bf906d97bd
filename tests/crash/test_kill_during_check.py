"""kill -9 during a check, a delivery, an effect and a restore.

Nothing is lost, and nothing is done twice unsaid.
"""

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import urllib.request
from collections import Counter
from contextlib import closing
from functools import partial
from pathlib import Path

import msgspec
import pytest

from huahuo.eventstore.ambient import FakeAmbient, SystemAmbient
from huahuo.eventstore.care.backup import back_up
from huahuo.eventstore.model import Append, NewEvent, StoredEvent
from huahuo.eventstore.sqlite.connections import connect_reader
from huahuo.eventstore.sqlite.log import SqliteLog
from huahuo.eventstore.sqlite.schema import DATABASE, get_meta
from huahuo.transport.client.client import Client
from tests.support.drivers.command_line import KEYS
from tests.support.drivers.snippets import block
from tests.support.models.history import TERMINAL, Seen, checks_end_once, same_run
from tests.support.patience import ALL_WITHIN_S, WITHIN_S, until
from tests.support.proofs import WHOLE
from tests.support.servers.dovecot import dovecot
from tests.support.servers.proxy import ChaosProxy, chaos_proxy
from tests.support.servers.serving import MASTER_KEY, Serving, serving

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


KILLS = 4 if WHOLE else 2
ORDERS = 300
PAGE = "docs/entities.md"
HANGS_AFTER = 40
HANG = f"""
from pathlib import Path

calls = []

async def hang() -> None:
    calls.append(1)
    if len(calls) >= {HANGS_AFTER} and not Path("free").exists():
        await asyncio.Event().wait()
"""
"""At most how many events one life of the service delivers, so that no kill comes too late."""


def application(folder: Path, *, follower: bool) -> None:
    """Write the document's shop, with its follower in batches of one so that there is much to interrupt."""
    text = block(PAGE, "shop")
    if follower:
        own = block(PAGE, "own_cursor").replace("cursor=place)", "cursor=place, batch=1)")
        text += own.rstrip() + "\n    await hang()  # its transaction is committed\n" + HANG
    (folder / "shop.py").write_text(text, encoding="utf-8")


def copied(folder: Path) -> list[int]:
    """The positions in the follower's database, in the order of their rows."""
    with contextlib.closing(sqlite3.connect(folder / "crm.db", timeout=WITHIN_S)) as database:
        # The application has made the tables before it listens.
        return [row[0] for row in database.execute("SELECT position FROM changes ORDER BY rowid")]


def written(folder: Path, count: int) -> bool:
    """Whether the follower has written at least `count` rows."""
    return len(copied(folder)) >= count


def lag(server: Serving) -> int:
    """The metric."""
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=WITHIN_S) as answer:
        lines = answer.read().decode().splitlines()
    return int(float(next(line.split()[1] for line in lines if line.startswith("huahuo_followers_lag"))))


async def order(server: Serving) -> None:
    """Place many orders."""
    async with asyncio.timeout(WITHIN_S), Client(server.url, token=server.token(42, "alice")) as client:
        for _ in range(ORDERS // 100):
            await asyncio.gather(*(client.send("place_order", item="tea") for _ in range(100)))


async def orders_in_the_log(server: Serving) -> list[int]:
    """The positions of the orders' events."""
    log = await SqliteLog.open(
        server.data, ambient=SystemAmbient(), master_key=bytes.fromhex(MASTER_KEY), build="test"
    )
    try:
        events = await log.read("log", 0, events_max=100_000, bytes_max=1 << 30)
        return [event.position for event in events if event.stream.startswith("order/")]
    finally:
        await log.close()


def test_over_kills_every_event_is_in_the_followers_database_exactly_once(tmp_path: Path) -> None:
    application(tmp_path, follower=False)
    with serving(tmp_path / "data", app="shop:app", folder=tmp_path) as server:
        asyncio.run(order(server))
        assert server.stop() == 0
        application(tmp_path, follower=True)
        server.start()
        for kill in range(KILLS):
            wanted = len(copied(tmp_path)) + 10
            until(partial(written, tmp_path, wanted), lambda: (len(copied(tmp_path)), server.log()[-2000:]))
            server.kill()
            assert len(copied(tmp_path)) < ORDERS, "killed too late to prove anything"
            if kill == KILLS - 1:
                (tmp_path / "free").touch()
            server.start()
        until(partial(written, tmp_path, ORDERS), lambda: (len(copied(tmp_path)), server.log()[-2000:]))
        until(lambda: lag(server) == 0, lambda: lag(server))
        assert server.stop() == 0
        assert copied(tmp_path) == asyncio.run(orders_in_the_log(server))
        assert len(copied(tmp_path)) == ORDERS


SHOP = Path(__file__).resolve().parents[2] / "examples" / "shop" / "shop.py"
EFFECT_ORDERS = 100
REPORT = "await run.emit(Packed(percent=percent))"
HELD = """
        while percent == 50 and int(run.id) % 3 and not Path("free").exists():
            await asyncio.sleep(0.01)
"""
"""Two of three orders are packed to half and no further, so that no kill comes too late."""


async def order_and_kill(server: Serving) -> None:
    """Place orders, and kill the service when the first one is being packed."""
    async with asyncio.timeout(WITHIN_S), Client(server.url, token=server.token(42, "alice")) as client:
        first = await client.send("place_order", item="tea")
        async with client.events(f"order/{first['order_id']}", first="start") as events:
            await asyncio.gather(*(client.send("place_order", item="tea") for _ in range(EFFECT_ORDERS - 1)))
            async for event in events:
                if event.type == "order_progress":
                    break
            server.kill()


async def whole_log(server: Serving) -> list[StoredEvent]:
    """Every event on disk."""
    log = await SqliteLog.open(
        server.data, ambient=SystemAmbient(), master_key=bytes.fromhex(MASTER_KEY), build="test"
    )
    try:
        return await log.read("log", 0, events_max=100_000, bytes_max=1 << 30)
    finally:
        await log.close()


async def all_ended(server: Serving) -> None:
    """Wait until every effect has ended, which administrators see in `log`."""
    token = server.token(1, "root", admin=True)
    async with (
        asyncio.timeout(WITHIN_S),
        Client(server.url, token=token, client="watcher") as client,
        client.events("log", first="start") as events,
    ):
        left = EFFECT_ORDERS
        async for event in events:
            left -= event.type == "effect_ended"
            if not left:
                return


def effects_open(server: Serving) -> int:
    """The metric."""
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=WITHIN_S) as answer:
        lines = answer.read().decode().splitlines()
    return int(float(next(line.split()[1] for line in lines if line.startswith("huahuo_effects_open "))))


async def test_after_kill_9_every_order_is_packed_and_shipped_exactly_once(tmp_path: Path) -> None:
    text = SHOP.read_text(encoding="utf-8")
    assert text.count(REPORT) == 1
    held = f"import asyncio\nfrom pathlib import Path\n{text.replace(REPORT, REPORT + HELD)}"
    (tmp_path / "shop.py").write_text(held, encoding="utf-8")
    with serving(tmp_path / "data", app="shop:app", folder=tmp_path) as server:
        await order_and_kill(server)
        before = await whole_log(server)
        (tmp_path / "free").touch()
        server.start()
        await all_ended(server)
        assert await asyncio.to_thread(effects_open, server) == 0
        assert server.stop() == 0
        after = await whole_log(server)
    open_then = Counter(event.type for event in before)
    assert open_then["effect_ended"] < open_then["effect_requested"], "killed too late to prove anything"
    assert open_then["order_progress"] > 0, "killed too early to prove anything"
    shipped = Counter(event.stream for event in after if event.type == "order_shipped")
    assert shipped == {f"order/{n}": 1 for n in range(1, EFFECT_ORDERS + 1)}
    ends = Counter(msgspec.json.decode(event.body)["id"] for event in after if event.type == "effect_ended")
    assert sorted(ends) == list(range(1, EFFECT_ORDERS + 1))
    assert set(ends.values()) == {1}


_DYING = """
import os, signal, sys
from huahuo.cli.entry import main
left, rename = int(sys.argv.pop(1)), os.rename

def dying(*given, **named):
    global left
    rename(*given, **named)
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)

os.rename = dying
main()
"""
"""`huahuo`, killed behind as many renames as the first argument says."""


async def backed_up(folder: Path) -> str:
    """A backup in `folder`, of a log that went on after it. The log's id."""
    log = await SqliteLog.open(
        folder / "data", ambient=FakeAmbient(1), master_key=bytes.fromhex(MASTER_KEY), build="test"
    )
    await log.append(Append(ts_ms=0, events=(NewEvent("group/a", "said", b'{"n":1}'),)))
    await back_up(folder / "data" / DATABASE, folder / "backup", FakeAmbient(1))
    await log.close()
    return log.log_id


def id_in(directory: Path) -> str:
    """The id of the log in a directory, "" if there is none."""
    if not (directory / DATABASE).exists():
        return ""
    with closing(connect_reader(directory / DATABASE)) as connection:
        return (get_meta(connection, "log") or b"").decode()


def test_a_restore_that_is_killed_leaves_no_log_under_its_former_id(tmp_path: Path) -> None:
    former, restored = asyncio.run(backed_up(tmp_path)), tmp_path / "restored"
    words = ["restore", str(tmp_path / "backup"), "--data", str(restored)]
    found = ""
    for renames in range(1, 9):  # each attempt begins where the one before was killed
        done = subprocess.run(
            [sys.executable, "-c", _DYING, str(renames), *words], env={**os.environ, **KEYS},
            capture_output=True, text=True, timeout=WITHIN_S, check=False,
        )  # fmt: skip
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        if found := id_in(restored):
            break
    assert found
    assert found != former
