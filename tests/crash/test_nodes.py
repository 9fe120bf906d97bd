"""Real services over one ordered log: kills, a log that is away, and nodes that do not belong to it."""

import asyncio
import contextlib
import os
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from huahuo.transport.client.client import Client
from huahuo.transport.client.model import CommandError
from tests.support.patience import WITHIN_S
from tests.support.proofs import WHOLE
from tests.support.servers.nats import PASSWORD, NatsServers, nats_servers
from tests.support.servers.postgres import Postgres, postgres
from tests.support.servers.pymap import pymap
from tests.support.servers.receiver import receiver
from tests.support.servers.serving import JWT_SECRET, MASTER_KEY, Serving, serving

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
EVENTS = 40
HOOKS = 8
STREAM = "user/42"


@pytest.fixture(scope="module", params=["nats", "postgres"] if WHOLE else ["nats"])
def order(request: pytest.FixtureRequest) -> Iterator[NatsServers | Postgres]:
    with nats_servers() if request.param == "nats" else postgres() as running:
        yield running


SUMS = """
from msgspec import Struct

from huahuo import Command, Context, Entity, Event, Huahuo, Outcome, Put


class Paid(Event, type="sum_paid"):
    cents: int
class Account(Struct, frozen=True):
    cents: int = 0
class Pay(Command, action="pay", creates=True):
    cents: int


account = Entity("account", Account)


@account.evolve
def paid(state: Account, event: Paid) -> Account:
    return Account(state.cents + event.cents)
@account.decide
def pay(state: Account, command: Pay, ctx: Context) -> Outcome:
    return [Paid(command.cents)]
@account.rows("sums")
def sums(state: Account, id: int) -> list[Put]:
    return [Put("sums", "", f"{id:016d}", state.cents // UNIT)]


app = Huahuo(entities=[account], plugins=[])
"""
"""An application whose versions differ in their rows."""


@contextlib.contextmanager
def node(
    folder: Path,
    name: str,
    order: NatsServers | Postgres,
    log: str,
    app: str | None = None,
    **settings: str,
) -> Iterator[Serving]:
    """A node over the ordered log named `log`."""
    address = f"{order.url}?name={log}"
    with serving(
        folder / name,
        stderr=folder / f"{name}.log",
        app=app,
        folder=folder,
        HUAHUO_LOG=address,
        HUAHUO_NODE=name,
        **settings,
    ) as server:
        yield server


def readiness(server: Serving) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"{server.url}/readyz", timeout=WITHIN_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def ends(server: Serving) -> dict[int, tuple[bytes, bytes]]:
    """The chain and the digest of a stopped node after each proposal that it applied."""
    with contextlib.closing(sqlite3.connect(server.data / "log.db")) as database:
        return {
            offset: (chain, digest) for offset, chain, digest, _ in database.execute("SELECT * FROM passed")
        }


async def publish(client: Client, number: int) -> int:
    reply = await client.send("publish", stream=STREAM, type="ticked", n=number)
    return int(reply["at"]["seq"])


async def until_ready(server: Serving) -> None:
    async with asyncio.timeout(WITHIN_S):
        while (await asyncio.to_thread(readiness, server))[0] != 200:  # noqa: ASYNC110  a probe
            await asyncio.sleep(0.05)


async def test_what_one_node_acknowledged_others_deliver_also_after_its_kill(
    tmp_path: Path, order: NatsServers | Postgres
) -> None:
    with node(tmp_path, "a", order, "kills") as a, node(tmp_path, "b", order, "kills") as b:
        token = a.token(42, "alice", admin=True)
        got: list[int] = []
        acknowledged: list[int] = []
        async with (
            asyncio.timeout(2 * WITHIN_S),
            Client(b.url, token=token) as reader,
            reader.events(STREAM, after="start") as events,
            Client(a.url, token=token) as writer,
        ):
            for number in range(EVENTS):
                await publish(writer, number)
                acknowledged.append(number)
            async for event in events:
                got.append(event.data["n"])
                if len(got) == EVENTS:
                    break
            late = [asyncio.ensure_future(publish(writer, EVENTS + n)) for n in range(20)]
            await asyncio.sleep(0)
            await asyncio.to_thread(a.kill)
            other = await publish(reader, 1000)  # the node that lives goes on at once
            assert other > EVENTS
            await asyncio.to_thread(a.start)
            await asyncio.gather(*late)  # the client sends again, under the same ids
            async for event in events:
                got.append(event.data["n"])
                if len(got) == EVENTS + 21:
                    break
        assert sorted(got) == [*range(EVENTS + 20), 1000], "nothing is lost or doubled"
        await until_ready(a)
        a.stop()
        b.stop()
        of_a, of_b = ends(a), ends(b)
        both = of_a.keys() & of_b.keys()
        assert len(both) >= EVENTS
        assert [of_a[offset] for offset in both] == [of_b[offset] for offset in both]


async def test_checks_and_webhooks_are_divided_among_nodes_and_go_on_after_a_kill(
    tmp_path: Path, order: NatsServers | Postgres
) -> None:
    allowed = {"HUAHUO_WEBHOOKS_ALLOW_PRIVATE": "true", "HUAHUO_MAIL_ALLOW_PRIVATE": "true"}
    with (
        pymap() as server,
        receiver() as hooked,
        node(tmp_path, "a", order, "mail", **allowed) as a,
        node(tmp_path, "b", order, "mail", **allowed) as b,
    ):
        async with (
            asyncio.timeout(3 * WITHIN_S),
            Client(b.url, token=b.token(42, "alice", admin=True)) as client,
            client.events("log", after="start") as events,
        ):
            await until_divided(client, "a", "b")
            url = f"http://127.0.0.1:{hooked.port}/hook"
            for _ in range(HOOKS):
                await client.send("add_webhook", url=url, types=["ticked"], streams=[STREAM])
            added = [
                await client.send(
                    "add_email",
                    email=f"{n}@example.com",
                    password="another",
                    server=server.host,
                    port=server.port,
                    use_ssl=False,
                    mail_type="imap",
                )
                for n in range(HOOKS)
            ]
            numbers = [one["email_id"] for one in added]
            checkers = (event.data["by"] async for event in events if event.type == "check_started")
            for nodes in ({"a", "b"}, {"b"}):
                if nodes == {"b"}:
                    await asyncio.to_thread(a.kill)
                await client.send("check_emails", email_ids=numbers)
                await publish(client, 1)
                found = {(await anext(checkers)).partition(".")[0] for _ in range(HOOKS)}
                assert found == nodes, "where checks ran"
                for _ in range(HOOKS):
                    await asyncio.to_thread(hooked.next)
                while not all(one["status"] == "need_reauth" for one in await _rows(client)):  # noqa: ASYNC110
                    await asyncio.sleep(0.1)  # a probe of other processes


async def _rows(client: Client) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = (await client.send("get_all_emails"))["data"]
    return rows


async def until_divided(client: Client, *names: str) -> None:
    """Wait until these nodes have a part of the work, and each has told where it listens."""
    while True:
        nodes = (await client.send("get_nodes"))["data"]
        works = [one["node"] for one in nodes if one["works"]]
        if works == ["a"] and [one["node"] for one in nodes if one["shares"] and one["url"]] == list(names):
            return
        await asyncio.sleep(0.1)  # a probe of other processes


def rows(server: Serving, table: str) -> list[int]:
    """The values of a table that a running node holds."""
    with contextlib.closing(sqlite3.connect(f"file:{server.data}/log.db?mode=ro", uri=True)) as database:
        found = database.execute("SELECT value FROM projection WHERE tbl = ?", (f"app:{table}",))
        return sorted(int(value) for (value,) in found)


async def until_rows(servers: list[Serving], wanted: list[int]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while any(rows(server, "sums") != wanted for server in servers):  # noqa: ASYNC110  a probe
            await asyncio.sleep(0.05)


async def test_rows_are_those_of_the_final_version_and_made_anew_while_the_nodes_run(
    tmp_path: Path, order: NatsServers | Postgres
) -> None:
    for name, unit in (("first", 1), ("second", 100)):
        (tmp_path / f"{name}.py").write_text(SUMS.replace("UNIT", str(unit)), encoding="utf-8")

    def version(stack: contextlib.ExitStack, name: str, app: str) -> Serving:
        return stack.enter_context(node(tmp_path, name, order, "sums", app=f"{app}:app"))

    async def pay(server: Serving, cents: int) -> None:
        await until_ready(server)
        async with Client(server.url, token=server.token(42, "alice")) as client:
            await client.send("pay", cents=cents)

    async def run(server: Serving, *words: str) -> tuple[int, str]:
        asked = (sys.executable, "-m", "huahuo", *words, "--data", str(server.data))
        done = await asyncio.to_thread(
            subprocess.run, asked, capture_output=True, text=True, env=server.environ, cwd=tmp_path
        )
        return done.returncode, done.stdout + done.stderr

    rebuild = ("projections", "rebuild", "sums", "--app", "second:app")
    with contextlib.ExitStack() as stack:
        with contextlib.ExitStack() as older:
            one = version(older, "a", "first")
            await pay(one, 10_000)
            other = version(stack, "b", "second")
            await pay(other, 5_000)
            await pay(one, 7_000)
            await until_rows([one, other], [7_000, 10_000])
            code, told = await run(other, *rebuild)
            assert (code, "cluster finalize" in told) == (1, True), told
            code, told = await run(other, "cluster", "finalize")
            assert (code, "the node a makes the application's rows by other code" in told) == (1, True), told
        one = version(stack, "a", "second")
        await until_ready(one)
        code, told = await run(one, "cluster", "finalize")
        assert code == 0, told
        await until_rows([one, other], [50, 70, 100])
        await pay(other, 9_000)
        assert await run(one, *rebuild) == (0, "sums: made anew from 4 rows of states\n")
        await until_rows([one, other], [50, 70, 90, 100])


async def test_a_node_is_drained_as_soon_as_it_is_ready_and_removed_as_soon_as_it_has_stopped(
    tmp_path: Path, order: NatsServers | Postgres
) -> None:
    with node(tmp_path, "a", order, "at_once") as one, node(tmp_path, "b", order, "at_once") as other:
        for server in (one, other):
            await until_ready(server)
        async with Client(one.url, token=one.token(1, "root", admin=True)) as admin:
            assert (await admin.send("drain_node", node="b"))["type"] == "drained"
            await admin.send("drain_node", node="b", undo=True)
            with pytest.raises(CommandError):
                await admin.send("remove_node", node="b")
            assert other.stop() == 0
            rows = (await admin.send("get_nodes"))["data"]
            assert [row["stopped"] for row in rows] == [False, True]
            assert (await admin.send("remove_node", node="b"))["type"] == "success"


async def test_nodes_read_while_the_log_is_away_and_write_when_it_is_back(
    tmp_path: Path, order: NatsServers | Postgres
) -> None:
    with node(tmp_path, "a", order, "away") as a:
        token = a.token(42, "alice", admin=True)
        async with asyncio.timeout(2 * WITHIN_S), Client(a.url, token=token) as client:
            await publish(client, 1)
        a.stop()
        _kill(order)
        a.start()  # with its replica, without the log
        code, reason = await asyncio.to_thread(readiness, a)
        assert code == 503
        assert "127.0.0.1" in reason
        assert PASSWORD not in reason
        async with asyncio.timeout(2 * WITHIN_S), Client(a.url, token=token) as client:
            async with client.events(STREAM, after="start") as events:
                async for event in events:
                    assert event.data["n"] == 1
                    break
            asked = (sys.executable, "-m", "huahuo", "backup", str(tmp_path / "b"), "--data", str(a.data))
            done = await asyncio.to_thread(
                subprocess.run, asked, capture_output=True, text=True, env=a.environ
            )
            assert (done.returncode, "does not record this backup" in done.stderr) == (0, True), done.stderr
            waiting = asyncio.ensure_future(publish(client, 2))
            await asyncio.sleep(0)
            await asyncio.to_thread(_start, order)
            assert await waiting == 2
        await until_ready(a)
        assert PASSWORD not in a.log()
        for file in a.data.iterdir():
            assert file.is_dir() or PASSWORD.encode() not in file.read_bytes()


def test_a_password_on_the_command_line_is_not_shown_to_other_users(
    tmp_path: Path, order: NatsServers | Postgres
) -> None:
    given = {"HUAHUO_MASTER_KEY": MASTER_KEY, "HUAHUO_JWT_SECRET": JWT_SECRET}
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "huahuo", "serve", "--data", str(tmp_path / "a"), "--port", "0"),
            *("--log", f"{order.url}?name=title"),
        ],
        env=os.environ | given,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("listening on")
    shown = Path(f"/proc/{process.pid}/cmdline").read_bytes()
    process.terminate()
    process.wait(WITHIN_S)
    process.stdout.close()
    assert b"serve" in shown
    assert PASSWORD.encode() not in shown


def _kill(order: NatsServers | Postgres) -> None:
    (order[0] if isinstance(order, list) else order).kill()


def _start(order: NatsServers | Postgres) -> None:
    (order[0] if isinstance(order, list) else order).start()
