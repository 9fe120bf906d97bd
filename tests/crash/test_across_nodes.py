"""What holds over all nodes: one connection for a client, limits, revocation, and what administrators see."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from huahuo.transport.protocol.codes import CloseCode
from tests.support.drivers.rawclient import RawClient, raw
from tests.support.patience import WITHIN_S
from tests.support.proofs import WHOLE
from tests.support.servers.nats import nats_servers
from tests.support.servers.serving import Serving, serving

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
V1 = "huahuo.v1"
LIMIT = 3


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Serving, Serving]]:
    """Two nodes over one log. A user may have three connections."""
    folder = tmp_path_factory.mktemp("across")
    with nats_servers() as order:
        settings = {"HUAHUO_LOG": order.url, "HUAHUO_CONNECTIONS_PER_USER": str(LIMIT)}
        with (
            serving(folder / "a", stderr=folder / "a.log", app=None, folder=None,
                    **settings, HUAHUO_NODE="a") as a,
            serving(folder / "b", stderr=folder / "b.log", app=None, folder=None,
                    **settings, HUAHUO_NODE="b") as b,
        ):  # fmt: skip
            asyncio.run(_until_both_know(a))
            yield a, b


async def _until_both_know(a: Serving) -> None:
    async with asyncio.timeout(WITHIN_S):
        while len([row for row in await rows_of(a, "get_nodes") if row["answers"]]) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.1)  # a probe of another process


async def ask(server: Serving, action: str, **fields: Any) -> dict[str, Any]:
    """The answer to an administrator without a name of a client."""
    async with raw(server.url.replace("http", "ws"), V1) as admin:
        await admin.authenticate(server.token(1, "root", admin=True))
        await admin.say(action=action, id="q", **fields)
        while True:
            said = await admin.next()
            if said.get("id") == "q":
                return dict(said)


async def rows_of(server: Serving, action: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = (await ask(server, action))["data"]
    return rows


async def joined(stack: AsyncExitStack, server: Serving, user: int, client: str = "") -> RawClient:
    one = await stack.enter_async_context(raw(server.url.replace("http", "ws"), V1))
    await one.authenticate(server.token(user, f"u{user}"), **({"client": client} if client else {}))
    return one


async def test_a_client_that_comes_to_another_node_takes_over(nodes: tuple[Serving, Serving]) -> None:
    a, b = nodes
    async with AsyncExitStack() as stack, asyncio.timeout(WITHIN_S):
        old = await joined(stack, a, 42, "dev")
        for place in (b, a, b):
            new = await joined(stack, place, 42, "dev")
            assert await old.closed() == CloseCode.SUPERSEDED
            old = new


if WHOLE:

    async def test_a_frozen_node_learns_when_it_goes_on_who_has_left_it(
        nodes: tuple[Serving, Serving],
    ) -> None:
        a, b = nodes
        async with AsyncExitStack() as stack, asyncio.timeout(2 * WITHIN_S):
            old = await joined(stack, a, 43, "dev")
            a.send(signal.SIGSTOP)
            try:
                await joined(stack, b, 43, "dev")
            finally:
                a.send(signal.SIGCONT)
            assert await old.closed() == CloseCode.SUPERSEDED


async def test_the_connections_of_a_user_are_counted_over_all_nodes(nodes: tuple[Serving, Serving]) -> None:
    a, b = nodes
    async with AsyncExitStack() as stack, asyncio.timeout(WITHIN_S):
        for _ in range(LIMIT):
            await joined(stack, a, 44)
        while True:  # until the news has come
            async with raw(b.url.replace("http", "ws"), V1) as late:
                await late.say(action="authenticate", token=b.token(44, "u44"))
                while (said := await late.next())["type"] not in ("authentication_result", "goaway"):
                    pass
                if said["type"] == "goaway":
                    break
        async with raw(b.url.replace("http", "ws"), V1) as another:
            await another.authenticate(b.token(45, "u45"))


async def test_a_client_at_its_users_limit_may_move_to_another_node(nodes: tuple[Serving, Serving]) -> None:
    a, b = nodes
    async with AsyncExitStack() as stack, asyncio.timeout(WITHIN_S):
        olds = [await joined(stack, a, 46, f"dev-{number}") for number in range(LIMIT)]
        for number, old in enumerate(olds):
            await joined(stack, b, 46, f"dev-{number}")
            assert await old.closed() == CloseCode.SUPERSEDED


async def test_a_revoked_user_is_gone_from_each_node(nodes: tuple[Serving, Serving]) -> None:
    a, b = nodes
    async with AsyncExitStack() as stack, asyncio.timeout(WITHIN_S):
        clients = [await joined(stack, server, 47) for server in (a, b, b)]
        assert (await ask(a, "revoke", user_id=47))["type"] == "success"
        for client in clients:
            assert await client.closed() == CloseCode.REVOKED


async def test_an_administrator_sees_the_clients_of_all_nodes_and_which_node_is_silent(
    nodes: tuple[Serving, Serving],
) -> None:
    a, b = nodes
    async with AsyncExitStack() as stack, asyncio.timeout(2 * WITHIN_S):
        await joined(stack, a, 48, "here")
        await joined(stack, b, 48, "there")
        while (said := await ask(b, "get_clients"))["silent"]:  # an answer may come too late
            pass
        found = {row["client"]: row["node"] for row in said["data"] if row["user"] == "user/48"}
        assert found == {"here": "a", "there": "b"}
        if not WHOLE:
            return
        a.send(signal.SIGSTOP)
        try:
            assert (await ask(b, "get_clients"))["silent"] == ["a"]
            assert {row["node"]: row["answers"] for row in await rows_of(b, "get_nodes")} == {
                "a": False,
                "b": True,
            }
        finally:
            a.send(signal.SIGCONT)


async def test_a_drained_node_names_no_other_drained_one(nodes: tuple[Serving, Serving]) -> None:
    a, b = nodes
    try:
        async with asyncio.timeout(WITHIN_S):
            await ask(a, "drain_node", node="b")
            assert a.url in await _goaway(b)
            await ask(b, "drain_node", node="a")
            assert await _goaway(a) == "this node is drained"
    finally:
        for node in ("a", "b"):
            await ask(a, "drain_node", node=node, undo=True)


async def _goaway(server: Serving) -> str:
    """Where a user is sent that signs in."""
    async with raw(server.url.replace("http", "ws"), V1) as newcomer:
        await newcomer.say(action="authenticate", token=server.token(49, "u49"))
        await newcomer.closed()
        return next(str(message["reason"]) for message in newcomer.seen if message["type"] == "goaway")


def test_the_status_of_nodes_has_tabs_and_the_names_of_its_columns_in_a_pipe(
    nodes: tuple[Serving, Serving],
) -> None:
    a, _ = nodes
    told = subprocess.run(
        [sys.executable, "-m", "huahuo", "cluster", "status", "--data", str(a.data)],
        env=a.environ, capture_output=True, text=True, timeout=WITHIN_S, check=True,
    )  # fmt: skip
    names, *rows = (line.split("\t") for line in told.stdout.splitlines())
    assert names == ["node", "URL", "applied", "behind", "clients", "load", "state"]
    assert [row[0] for row in rows] == ["a", "b"]
    assert {len(row) for row in rows} == {len(names)}
