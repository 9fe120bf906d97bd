"""`app.asgi(other, path="/live")`: lifespan events reach the service and the other application."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from huahuo import Huahuo
from huahuo.app.wiring import App
from huahuo.errors import HuahuoError
from tests.support.patience import WITHIN_S

type Message = MutableMapping[str, Any]
type Receive = Callable[[], Awaitable[Message]]
type Send = Callable[[Message], Awaitable[None]]


class Server:
    """The part of an ASGI server that says when it starts and stops."""

    def __init__(self, application: Any) -> None:
        self._asked: asyncio.Queue[Message] = asyncio.Queue()
        self._said: asyncio.Queue[Message] = asyncio.Queue()
        scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
        self.serving = asyncio.ensure_future(application(scope, self._asked.get, self._said.put))

    async def say(self, what: str) -> Message:
        """Say `startup` or `shutdown`; the answer."""
        await self._asked.put({"type": f"lifespan.{what}"})
        async with asyncio.timeout(WITHIN_S):
            return await self._said.get()


@pytest.fixture
def app(tmp_path: Path) -> Huahuo:
    return Huahuo(data=tmp_path / "data")


def runs(app: Huahuo) -> bool:
    return app.app is not None


async def raising(scope: Message, _receive: Receive, _send: Send) -> None:
    raise ValueError(f"Django can only handle ASGI/HTTP connections, not {scope['type']}")


async def returning(_scope: Message, _receive: Receive, _send: Send) -> None:
    return


async def answering(_scope: Message, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})


async def reading_and_raising(_scope: Message, receive: Receive, _send: Send) -> None:
    raise ValueError(f"no method in {await receive()}")


async def reading_and_returning(_scope: Message, receive: Receive, _send: Send) -> None:
    await receive()


async def reading_and_answering(_scope: Message, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})


async def returning_when_started(_scope: Message, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})


async def ending_without_a_word(_scope: Message, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()


_KNOWING_LITTLE = (
    raising, returning, answering, reading_and_raising, reading_and_returning, reading_and_answering,
    returning_when_started, ending_without_a_word,
)  # fmt: skip


async def test_the_other_application_starts_after_the_service_and_stops_before_it(app: Huahuo) -> None:
    at: list[bool] = []

    @asynccontextmanager
    async def lifespan(_host: FastAPI) -> AsyncIterator[None]:
        at.append(runs(app))
        await app.publish("user/1", "begun", {})
        yield
        await app.publish("user/1", "ended", {})
        at.append(runs(app))

    server = Server(app.asgi(FastAPI(lifespan=lifespan), path="/live"))
    assert (await server.say("startup"))["type"] == "lifespan.startup.complete"
    assert at == [True]
    assert (await server.say("shutdown"))["type"] == "lifespan.shutdown.complete"
    assert (at, runs(app)) == ([True, True], False)
    await server.serving


@pytest.mark.parametrize("other", _KNOWING_LITTLE)
async def test_an_application_that_knows_little_of_lifespans_lives_with_the_service(
    app: Huahuo, other: Any
) -> None:
    server = Server(app.asgi(other, path="/live"))
    assert (await server.say("startup"))["type"] == "lifespan.startup.complete"
    await asyncio.wait([server.serving], timeout=0)  # a turn of the loop, in which it might end
    assert runs(app)
    assert (await server.say("shutdown"))["type"] == "lifespan.shutdown.complete"
    assert not runs(app)
    await server.serving


async def test_an_application_that_has_the_services_lifespan_too_starts_it_once(app: Huahuo) -> None:
    server = Server(app.asgi(FastAPI(lifespan=app.lifespan), path="/live"))
    assert (await server.say("startup"))["type"] == "lifespan.startup.complete"
    assert runs(app)
    assert (await server.say("shutdown"))["type"] == "lifespan.shutdown.complete"
    assert not runs(app)
    await server.serving


async def test_of_two_hosts_the_first_that_ends_leaves_the_service_to_the_other(app: Huahuo) -> None:
    shop, office = (Server(FastAPI(lifespan=app.lifespan)) for _ in range(2))
    started = await asyncio.gather(shop.say("startup"), office.say("startup"))
    assert [message["type"] for message in started] == ["lifespan.startup.complete"] * 2
    assert (await shop.say("shutdown"))["type"] == "lifespan.shutdown.complete"
    assert runs(app)
    assert (await app.publish("user/1", "still_here", {})).seq == 1
    assert (await office.say("shutdown"))["type"] == "lifespan.shutdown.complete"
    assert not runs(app)


async def test_a_host_that_comes_while_the_last_one_goes_has_a_service_of_its_own(app: Huahuo) -> None:
    shop, office = (Server(FastAPI(lifespan=app.lifespan)) for _ in range(2))
    await shop.say("startup")
    said = await asyncio.gather(shop.say("shutdown"), office.say("startup"))
    assert [message["type"] for message in said] == [
        "lifespan.shutdown.complete", "lifespan.startup.complete",
    ]  # fmt: skip
    assert (await app.publish("user/1", "begun", {})).seq == 1
    await office.say("shutdown")
    assert not runs(app)


async def test_a_request_that_comes_while_another_host_starts_waits_for_that_start(app: Huahuo) -> None:
    shop = Server(FastAPI(lifespan=app.lifespan))
    asked = asyncio.ensure_future(app.asgi.running())
    assert (await shop.say("startup"))["type"] == "lifespan.startup.complete"
    assert await asked is app.app
    await shop.say("shutdown")
    assert not runs(app)


async def test_a_host_within_async_with_leaves_the_service_running_at_its_end(app: Huahuo) -> None:
    async with app:
        server = Server(FastAPI(lifespan=app.lifespan))
        assert (await server.say("startup"))["type"] == "lifespan.startup.complete"
        await server.say("shutdown")
        assert runs(app)
    assert not runs(app)


async def test_a_host_leaves_a_service_running_that_the_program_started_in_place_of_the_hosts(
    app: Huahuo,
) -> None:
    server = Server(FastAPI(lifespan=app.lifespan))
    assert (await server.say("startup"))["type"] == "lifespan.startup.complete"
    await app.stop()
    async with app:
        await server.say("shutdown")
        assert runs(app)
    assert not runs(app)


async def test_a_host_that_is_cancelled_while_another_one_starts_counts_no_more(
    app: Huahuo, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, may_end = asyncio.Event(), asyncio.Event()
    start_inside = app.start_inside

    async def slow_start() -> App:
        begun.set()
        await may_end.wait()
        return await start_inside()

    entered, leave = asyncio.Event(), asyncio.Event()

    async def host() -> None:
        async with app.lifespan():
            entered.set()
            await leave.wait()

    shop = asyncio.ensure_future(host())
    await entered.wait()
    await app.stop()
    monkeypatch.setattr(app, "start_inside", slow_start)
    office = Server(FastAPI(lifespan=app.lifespan))
    starting = asyncio.ensure_future(office.say("startup"))
    await begun.wait()
    leave.set()
    await asyncio.sleep(0)  # it waits for the start of the other one
    shop.cancel()
    await asyncio.wait([shop])
    may_end.set()
    assert (await starting)["type"] == "lifespan.startup.complete"
    await office.say("shutdown")
    assert not runs(app)


async def test_a_second_async_with_is_told_to_use_the_service_that_runs(app: Huahuo) -> None:
    async with app:
        with pytest.raises(HuahuoError, match="one `async with app:` around all"):
            await app.start()
        assert runs(app)


async def test_a_host_on_the_loop_of_another_thread_is_refused(app: Huahuo) -> None:
    async def elsewhere() -> str:
        refused = await Server(FastAPI(lifespan=app.lifespan)).say("startup")
        return str(refused)

    async with app.lifespan():
        said = await asyncio.to_thread(lambda: asyncio.run(elsewhere()))
        assert runs(app)
    assert "event loop of another thread" in said


async def test_an_application_that_cannot_start_stops_the_service_again(app: Huahuo, tmp_path: Path) -> None:
    @asynccontextmanager
    async def lifespan(_host: FastAPI) -> AsyncIterator[None]:
        if not (tmp_path / "database").exists():
            raise RuntimeError("no database")
        yield

    server = Server(app.asgi(FastAPI(lifespan=lifespan), path="/live"))
    failed = await server.say("startup")
    assert failed["type"] == "lifespan.startup.failed"
    assert "no database" in failed["message"]
    with pytest.raises(RuntimeError):
        await server.serving
    assert not runs(app)


async def test_a_service_that_cannot_start_says_so_and_the_other_application_is_not_begun(
    app: Huahuo, tmp_path: Path
) -> None:
    begun: list[str] = []

    async def other(_scope: Message, _receive: Receive, _send: Send) -> None:
        begun.append("begun")

    async with Huahuo(data=tmp_path / "data", port=0):
        failed = await Server(app.asgi(other, path="/live")).say("startup")
        assert (failed["type"], begun) == ("lifespan.startup.failed", [])
        assert "in use by process" in failed["message"]
