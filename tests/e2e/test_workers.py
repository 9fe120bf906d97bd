"""`huahuo serve --workers 2`: one service in three processes, as its clients and its operator see it."""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from huahuo.transport.client.client import Client
from huahuo.transport.protocol.codes import CloseCode
from tests.support.drivers.http import ask
from tests.support.drivers.rawclient import RawClient, raw
from tests.support.patience import WITHIN_S, until
from tests.support.servers.serving import Serving, serving

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

V1 = "huahuo.v1"
WHOLE = bool(os.environ.get("HUAHUO_WHOLE"))
"""Whether to run what starts a service of its own and is shown in one process elsewhere."""
_MANY = 20
"""Connections until it is all but certain (1 in 500,000) that both workers have one."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("workers") / "data", HUAHUO_WORKERS="2") as one:
        yield one


def workers_of(pid: int) -> list[int]:
    """The processes that a service started."""
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False).stdout
    return [int(line) for line in found.split()]


def counted(server: Serving, name: str) -> dict[str, float]:
    """The values of a metric, by what stands after its name."""
    lines = (
        line for line in ask(f"{server.url}/metrics").text.splitlines() if line.startswith(f"huahuo_{name}")
    )
    return {line.rpartition(" ")[0].removeprefix(f"huahuo_{name}"): float(line.split()[-1]) for line in lines}


@asynccontextmanager
async def connected(server: Serving, count: int, **fields: object) -> AsyncIterator[list[RawClient]]:
    async with contextlib.AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(raw(server.url.replace("http", "ws"), V1)) for _ in range(count)
        ]
        for client in clients:
            await client.authenticate(server.token(42, "alice"), **fields)
        yield clients


async def publish(server: Serving, text: str) -> None:
    async with raw(server.url.replace("http", "ws"), V1) as admin:
        await admin.authenticate(server.token(1, "root", admin=True))
        await admin.say(
            action="publish",
            id=text,
            events=[{"stream": "user/42", "type": "said", "fields": {"text": text}}],
        )
        await admin.until("success")


async def test_all_clients_see_one_order_whichever_process_serves_them(server: Serving) -> None:
    async with connected(server, _MANY) as clients:
        for text in ("a", "b", "c"):
            await publish(server, text)
        for client in clients:
            while len([one for one in client.events("user/42") if one[1]["type"] == "said"]) < 3:
                await client.next()
        seen = [[seq for seq, _ in client.events("user/42")] for client in clients]
        assert all(one == seen[0] for one in seen)
        held: dict[str, float] = {}
        while sorted(held) != ['worker="1"}', 'worker="2"}']:  # one that tells its own late is left out
            held = await asyncio.to_thread(counted, server, "connections{")
        assert min(held.values()) > 0
        up = partial(counted, server, "worker_up")
        await asyncio.to_thread(until, lambda: up() == {'{worker="1"}': 1.0, '{worker="2"}': 1.0}, up)


async def test_a_client_that_comes_back_elsewhere_takes_over(server: Serving) -> None:
    async with contextlib.AsyncExitStack() as stack:
        (old,) = await stack.enter_async_context(connected(server, 1, client="dev"))
        for _ in range(_MANY):
            (new,) = await stack.enter_async_context(connected(server, 1, client="dev"))
            assert await old.closed() == CloseCode.SUPERSEDED
            old = new


if WHOLE:

    async def test_the_limit_of_a_user_holds_over_all_processes(tmp_path: Path) -> None:
        with serving(tmp_path / "data", HUAHUO_WORKERS="2", HUAHUO_CONNECTIONS_PER_USER="3") as server:
            async with connected(server, 3), raw(server.url.replace("http", "ws"), V1) as fourth:
                await fourth.say(action="authenticate", token=server.token(42, "alice"))
                assert await fourth.closed() == CloseCode.TOO_MANY_CONNECTIONS


async def test_a_revoked_user_is_gone_from_all_processes(server: Serving) -> None:
    async with connected(server, _MANY) as clients, raw(server.url.replace("http", "ws"), V1) as admin:
        await admin.authenticate(server.token(1, "root", admin=True))
        lags: list[int] = []
        while lags != [0] * _MANY:  # each tells its position
            await admin.say(action="get_clients", id="q")
            rows = (await admin.until("clients", id="q"))["data"]
            assert len([row for row in rows if row["user"] == "user/42"]) == _MANY
            lags = [one["lag"] for row in rows for one in row["streams"] if one["stream"] == "user/42"]
        await admin.say(action="revoke", id="r", user_id=42)
        await admin.until("success", id="r")
        for client in clients:
            assert await client.closed() == CloseCode.REVOKED


async def test_a_worker_that_dies_is_replaced_and_its_clients_resume(tmp_path: Path) -> None:
    with serving(tmp_path / "data", HUAHUO_WORKERS="2") as server:
        before = workers_of(server.pid)
        async with connected(server, _MANY) as clients:
            await publish(server, "one")
            os.kill(before[0], signal.SIGKILL)
            # Until it has ended, the kernel may give it the next client.
            until(lambda: before[0] not in workers_of(server.pid))
            lost = kept = 0
            await publish(server, "two")
            for client in clients:
                try:
                    while "two" not in [e.get("text") for _, e in client.events("user/42")]:
                        await client.next()
                    kept += 1
                except Exception:  # noqa: BLE001  its worker is gone
                    lost += 1
                    async with connected(
                        server, 1, resume={"cursors": {"user/42": 1}, "log": client.seen[0]["log"]}
                    ) as (again,):
                        while not again.events("user/42"):
                            await again.next()
                        assert [seq for seq, _ in again.events("user/42")] == [2]
            assert lost > 0
            assert kept > 0
        until(lambda: len(workers_of(server.pid)) == 2)
        until(lambda: counted(server, "worker_restarts_total") == {"": 1.0})


async def test_no_worker_outlives_its_owner(tmp_path: Path) -> None:
    with serving(tmp_path / "data", HUAHUO_WORKERS="2") as server:
        workers = workers_of(server.pid)
        assert len(workers) == 2
        async with connected(server, 1) as (client,):
            server.kill()
            until(lambda: not [pid for pid in workers if Path(f"/proc/{pid}").exists()], lambda: workers)
            with pytest.raises(Exception):  # noqa: B017, PT011  whatever a lost socket raises
                await client.until("never")
        server.start()  # on the same port, at once
        async with connected(server, 1):
            pass


if WHOLE:

    async def test_sigterm_tells_every_client_to_come_back_and_ends_all_processes(tmp_path: Path) -> None:
        with serving(tmp_path / "data", HUAHUO_WORKERS="2") as server:
            workers = workers_of(server.pid)
            async with connected(server, _MANY) as clients:
                stopping = asyncio.get_running_loop().run_in_executor(None, server.stop)
                for client in clients:
                    assert await client.closed() == CloseCode.DRAINING
                assert await stopping == 0
            assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]


def of_service(server: Serving, event: str) -> list[str]:
    """The lines of the service's log with that event."""
    return [line for line in server.log().splitlines() if f" {event} " in line]


def has_ended(server: Serving, crashes: int) -> bool:
    """Whether the service said so often that a worker ended."""
    return len(of_service(server, "worker_ended")) >= crashes


async def said_once(server: Serving, texts: list[str]) -> None:
    """Every text is in the stream of user 42, once, and in the order in which it was acknowledged."""
    async with Client(server.url, token=server.token(42, "alice")) as client:
        found: list[str] = []
        async with client.events("user/42", after="start") as events:
            async for event in events:
                if event.type == "said":
                    found.append(event.data["text"])
                if len(found) >= len(texts):
                    break
    assert found == texts


if WHOLE:

    async def test_a_frozen_worker_is_replaced_and_its_clients_go_on_elsewhere(tmp_path: Path) -> None:
        with serving(tmp_path / "data", HUAHUO_WORKERS="2") as server:
            before = workers_of(server.pid)
            token = server.token(42, "alice", admin=True)
            async with contextlib.AsyncExitStack() as stack, asyncio.timeout(2 * WITHIN_S):
                clients = [
                    await stack.enter_async_context(Client(server.url, token=token, backoff_s=(0.1, 1.0)))
                    for _ in range(_MANY)
                ]
                for number, client in enumerate(clients):
                    await client.send("publish", stream="user/42", type="said", text=f"a{number}")
                os.kill(before[0], signal.SIGSTOP)
                for number, client in enumerate(clients):
                    await client.send("publish", stream="user/42", type="said", text=f"b{number}")
                await said_once(server, [f"{part}{n}" for part in "ab" for n in range(_MANY)])
            await asyncio.to_thread(
                until, lambda: before[0] not in workers_of(server.pid) and len(workers_of(server.pid)) == 2
            )
            assert of_service(server, "worker_silent")

    async def test_a_worker_that_crashes_again_and_again_is_started_later_each_time(tmp_path: Path) -> None:
        with serving(tmp_path / "data", HUAHUO_WORKERS="2") as server:
            keeps = workers_of(server.pid)[0]
            for crashes in (1, 2, 3):
                await asyncio.to_thread(until, lambda: len(workers_of(server.pid)) == 2)
                [other] = [pid for pid in workers_of(server.pid) if pid != keeps]
                os.kill(other, signal.SIGKILL)
                await asyncio.to_thread(until, partial(has_ended, server, crashes))
            pauses = [float(line.partition("restarts_in_s=")[2].split()[0])
                      for line in of_service(server, "worker_ended")]  # fmt: skip
            assert pauses[-1] > 0.1, "the third within moments waits longer than the first"
            assert keeps in workers_of(server.pid)
            async with connected(server, 1):
                pass

    async def test_a_restart_under_load_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
        with serving(tmp_path / "data", HUAHUO_WORKERS="2") as server:
            token = server.token(42, "alice", admin=True)
            texts = [f"m{number}" for number in range(60)]

            async def write() -> None:
                async with Client(server.url, token=token, backoff_s=(0.1, 1.0)) as client:
                    for text in texts:
                        await client.send("publish", stream="user/42", type="said", text=text)

            async with asyncio.timeout(2 * WITHIN_S):
                writing = asyncio.create_task(write())
                for end in (server.stop, server.kill):
                    await asyncio.to_thread(end)
                    await asyncio.to_thread(server.start)
                await writing
                await said_once(server, texts)
