"""The golden transcripts over the WebSockets of uvicorn: what the session says arrives as it was said."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from huahuo.transport.wire.ports import Socket
from tests.support.drivers.rawclient import RawClient
from tests.support.drivers.session import Driver
from tests.support.drivers.transcripts import FOLDER, Stage, Step, read
from tests.support.patience import WITHIN_S
from tests.support.worlds.wire import PLACE, World, world

CLOSE_TIMEOUT_S = 5.0


@pytest.fixture(autouse=True)
def inside_an_asgi_server() -> Iterator[None]:
    token = PLACE.set("asgi")
    yield
    PLACE.reset(token)


class Framing(Driver):
    """Keeps what it would write, as it would write it."""

    def __init__(self, *args: object, **more: object) -> None:
        self.frames: list[bytes] = []
        super().__init__(*args, **more)  # type: ignore[arg-type]

    def write(self, data: bytes) -> None:
        self.frames.append(data)
        super().write(data)


class Wire:
    """The sockets between the session of a stage and a client: opened, cut and closed as its steps say."""

    def __init__(self, w: World, stage: Stage, patch: pytest.MonkeyPatch) -> None:
        self._w = w
        self._stage = stage
        self._opened: asyncio.Queue[Socket] = asyncio.Queue()
        self._heard: asyncio.Queue[str | bytes] = asyncio.Queue()
        self._ends = contextlib.AsyncExitStack()
        self.client: RawClient
        self.socket: Socket
        patch.setattr(w.server, "attend", self._attend)

    async def _attend(self, ws: Socket, _dialect: object, *, over_limit: bool) -> None:
        assert not over_limit
        await self._opened.put(ws)
        while (message := await ws.recv()) is not None:
            await self._heard.put(message)

    async def play(self, step: Step) -> None:
        match step.origin, step.frame.get("event"):
            case "network", "open":
                offered = [Subprotocol(step.frame["subprotocol"])] if step.frame["subprotocol"] else None
                made = connect(self._w.url, subprotocols=offered, compression=None, open_timeout=WITHIN_S)
                self.client = RawClient(await self._ends.enter_async_context(made))
                self.socket = await self._opened.get()
            case "network", "cut":
                self.client.ws.transport.abort()
            case "client", _:
                await self.client.say(**step.frame)
                step = msgspec.structs.replace(step, frame=msgspec.json.decode(await self._heard.get()))
        self._stage.play(step)
        self._write()
        match step.origin, step.frame.get("event"):
            case "network", "close":
                assert await self.client.closed() == step.frame["code"]
            case "server", _:
                assert await self.client.next() == step.frame

    def _write(self) -> None:
        driver = self._stage.driver
        assert driver is None or isinstance(driver, Framing)
        if driver is None:
            return
        frames, driver.frames = driver.frames, []
        for frame in frames:
            self.socket.write(frame)
        if driver.closed is not None:
            self.socket.end(driver.closed.code, driver.closed.reason, CLOSE_TIMEOUT_S)

    async def end(self) -> None:
        await self._ends.aclose()


@contextlib.asynccontextmanager
async def wired(patch: pytest.MonkeyPatch) -> AsyncIterator[Wire]:
    async with world() as w:
        wire = Wire(w, Stage(Framing), patch)
        try:
            yield wire
        finally:
            await wire.end()


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.jsonl")), ids=lambda path: path.stem)
async def test_a_golden_conversation_goes_over_the_sockets_of_an_asgi_server(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with wired(monkeypatch) as wire:
        for step in read(path)[1]:
            await wire.play(step)
