"""The event store with the real server and client of the MCP SDK."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import ClientSession, types
from mcp.client.streamable_http import streamable_http_client
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.streamable_http import EventMessage

from huahuo import Huahuo, HuahuoError
from huahuo.integrations.mcp import HuahuoEventStore, session_stream
from tests.support.drivers.snippets import run, snippet
from tests.support.patience import WITHIN_S
from tests.support.worlds.wire import in_uvicorn, until

pytestmark = pytest.mark.filterwarnings("ignore")


def message(number: int, **params: Any) -> types.JSONRPCMessage:
    return types.JSONRPCNotification(jsonrpc="2.0", method="notifications/x", params={"n": number, **params})


@pytest.fixture
def app(tmp_path: Path) -> Huahuo:
    return Huahuo(data=tmp_path / "data", port=0)


async def replayed(store: HuahuoEventStore, last: str) -> tuple[str | None, list[EventMessage]]:
    got: list[EventMessage] = []

    async def send(event: EventMessage) -> None:
        got.append(event)

    return await store.replay_events_after(last, send), got


def numbers(events: list[EventMessage]) -> list[int]:
    return [event.message.params["n"] for event in events]  # type: ignore[union-attr, index]


async def test_what_followed_an_event_is_replayed_also_after_a_restart(app: Huahuo, tmp_path: Path) -> None:
    session_stream.set("mcp/aa")
    async with app:
        store = HuahuoEventStore(app)
        first = await store.store_event("1", None)
        ids = [await store.store_event("1", message(number)) for number in range(3)]
        await store.store_event("2", message(9))
        assert numbers((await replayed(store, first))[1]) == [0, 1, 2]
    again = Huahuo(data=tmp_path / "data", port=0)
    async with again:
        of, events = await replayed(HuahuoEventStore(again), ids[0])
        assert (of, numbers(events), events[-1].event_id) == ("1", [1, 2], ids[2])


async def test_the_recipe_of_the_page_keeps_what_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HUAHUO_PORT", "0")
    names: dict[str, Any] = {}
    await run(snippet("docs/recipes.md", "mcp"), names)
    session_stream.set("mcp/aa")
    async with names["app"]:
        first = await names["store"].store_event("1", None)
        await names["store"].store_event("1", message(5))
        assert numbers((await replayed(names["store"], first))[1]) == [5]
    assert callable(names["api"])


async def test_sessions_are_never_replayed_what_is_anothers(app: Huahuo) -> None:
    async with app:
        store = HuahuoEventStore(app)
        session_stream.set("mcp/aa")
        first = await store.store_event("1", None)
        session_stream.set("mcp/bb")
        await store.store_event("1", message(7))
        assert await replayed(store, first) == ("1", [])


@pytest.mark.parametrize("last", ["", "x", ":1", "aa:", "aa:0", "aa:99", "../user/42:1", "aa:١", "aa:1:1"])
async def test_what_is_no_id_has_no_events(app: Huahuo, last: str) -> None:
    async with app:
        assert await replayed(HuahuoEventStore(app), last) == (None, [])


async def test_a_message_larger_than_an_event_comes_back_whole(app: Huahuo) -> None:
    session_stream.set("mcp/aa")
    async with app:
        store = HuahuoEventStore(app)
        first = await store.store_event("1", None)
        large = message(1, text="花" * 200_000)
        last = await store.store_event("1", large)
        _, [event] = await replayed(store, first)
        assert (event.message, event.event_id) == (large, last)


async def test_a_store_that_cannot_tell_sessions_apart_refuses_to_store(app: Huahuo) -> None:
    async with app:
        with pytest.raises(HuahuoError, match="write store"):
            await asyncio.create_task(HuahuoEventStore(app).store_event("1", None))


@asynccontextmanager
async def serving(app: Huahuo, server: MCPServer) -> AsyncIterator[str]:
    store = HuahuoEventStore(app)
    # The SDK misses what a tool says between the replay and the new stream, so clients come back later.
    inner = server.streamable_http_app(event_store=store, retry_interval=2_000)
    outer = store.around(inner)
    async with in_uvicorn(outer, lifespan="on") as port:
        yield f"http://127.0.0.1:{port}/mcp"


@pytest.mark.slow
async def test_the_application_of_the_sdk_starts_and_stops_the_service(app: Huahuo) -> None:
    server = MCPServer("tests")

    @server.tool()
    async def work() -> str:
        return "done"

    async with serving(app, server) as url, asyncio.timeout(WITHIN_S):
        async with (
            streamable_http_client(url) as (reading, writing, *_),
            ClientSession(reading, writing) as client,
        ):
            await client.initialize()
            result = await client.call_tool("work")
            assert result.content[0].text == "done"  # type: ignore[union-attr]
        assert app.app is not None
    assert app.app is None


@pytest.mark.slow
async def test_a_client_of_the_sdk_loses_nothing_when_its_stream_is_closed_under_it(app: Huahuo) -> None:
    server = MCPServer("tests")
    told: list[str] = []

    @server.tool()
    async def work(name: str, ctx: Context) -> str:
        await ctx.info(f"{name} begins")
        await ctx.close_sse_stream()
        await ctx.info(f"{name} while nobody listened")
        return f"{name} is done"

    async def log(params: Any) -> None:
        told.append(params.data)

    async with (
        app,
        serving(app, server) as url,
        asyncio.timeout(WITHIN_S),
        streamable_http_client(url) as (first_in, first_out, *_),
        ClientSession(first_in, first_out, logging_callback=log) as first,
        streamable_http_client(url) as (second_in, second_out, *_),
        ClientSession(second_in, second_out) as second,
    ):
        await first.initialize()
        await second.initialize()
        results = await asyncio.gather(
            first.call_tool("work", {"name": "one"}), second.call_tool("work", {"name": "two"})
        )
        assert [result.content[0].text for result in results] == ["one is done", "two is done"]  # type: ignore[union-attr]
        await until(lambda: len(told) == 2)
        assert told == ["one begins", "one while nobody listened"]
