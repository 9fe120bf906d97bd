"""Webhooks over a disk that outlives the service, in virtual time; a receiver that answers as it is told."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import msgspec

from huahuo.actors.entities.rendezvous_hash import Share
from huahuo.actors.plugins.actions import Registry
from huahuo.actors.plugins.calls import Call, Principal
from huahuo.actors.plugins.plugin import Host
from huahuo.eventstore.ambient import json_bytes
from huahuo.eventstore.executor import InlineExecutor
from huahuo.eventstore.memory import ModelDisk
from huahuo.eventstore.model import Append, CommandKey, NewEvent
from huahuo.replay.feed import Feed
from huahuo.testing.world import VirtualAmbient, VirtualLoop
from huahuo.transport.load.metrics import Metrics
from huahuo.users.book import UserBook
from huahuo.webhooks.deliveries import PostFailed
from huahuo.webhooks.webhooks import Webhooks
from tests.support.models.faulty_log import FaultyLog
from tests.support.models.memory_sequencer import MemoryOrder
from tests.support.worlds.node_logs import opened_log
from tests.support.worlds.people import ALICE

TIMEOUT_S = 10_000_000
URL = "https://receiver.example/hook"


class Receiver:
    """Outlives every crash. `answer`: the status to give, or why there is none."""

    def __init__(self) -> None:
        self.answer: Callable[[str], int | str] = lambda _url: 204
        self.hold: Callable[[str], asyncio.Event | None] = lambda _url: None
        """What requests to an address wait for."""
        self.requests: list[tuple[float, str, dict[str, str], dict[str, Any]]] = []
        """Time, URL, headers and body of each."""

    async def post(self, url: str, headers: Sequence[tuple[str, str]], body: bytes) -> int:
        await asyncio.sleep(0.01)
        if (hold := self.hold(url)) is not None:
            await hold.wait()
        answer = self.answer(url)
        now_s = asyncio.get_running_loop().time()
        self.requests.append((now_s, url, dict(headers), msgspec.json.decode(body)))
        if isinstance(answer, str):
            raise PostFailed(answer)
        return answer

    @property
    def got(self) -> list[str]:
        """The events in the order in which they came: `user/42#3`."""
        return [f"{body['data']['stream']}#{body['data']['seq']}" for _, _, _, body in self.requests]


class HookWorld:
    """One user of webhooks after the other. `crash` takes everything but the disk and the receiver."""

    log: FaultyLog
    hooks: Webhooks

    def __init__(self, seed: int = 1) -> None:
        self.disk = ModelDisk()
        self.receiver = Receiver()
        self.order: MemoryOrder | None = None
        """Of several nodes; `node` is the name of this one."""
        self.node = "one"
        self.judged: dict[str, bool] = {}
        """Streams `job/…` and whether users may read them."""
        self.lives = 0
        self._chance = Random(seed)
        self._said = 0

    async def open(self) -> None:
        """Begin a life."""
        self.lives += 1
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        ambient = VirtualAmbient(loop, self.lives)
        self.log = await opened_log(self.disk, ambient, self.order, self.node)
        feed = Feed(self.log, tail_events_max=64, tail_bytes_max=1 << 16)
        self.registry = Registry()
        self.registry.judges["job"] = self._judge
        self.users = UserBook(self.log, ambient, InlineExecutor())
        await self.users.start()
        host = SimpleNamespace(
            log=self.log,
            feed=feed,
            ambient=ambient,
            metrics=Metrics(),
            wait_s=lambda _user: 0.0,
            shared=self.order is not None,
        )
        self.hooks = Webhooks(
            cast("Host", host), self.registry, self.users, self.receiver, allow_private=False
        )
        await self.hooks.book.start()
        await self.hooks.work()

    async def divide(self, *nodes: str) -> None:
        """Do the part of this node, of what these divide."""
        await self.hooks.divide(Share(self.node, nodes))

    async def _judge(self, stream: str, _who: Principal) -> bool:
        return self.judged.get(stream, False)

    async def close(self) -> None:
        """An orderly end."""
        await self.hooks.drain(5.0)
        await self.hooks.close()
        self.users.stop()
        await self.log.close()

    async def crash(self) -> None:
        """End without a word, and start again."""
        self.disk.crash(self._chance)
        await self.hooks.close()
        await self.open()

    async def ask(self, action: str, who: Principal = ALICE, key: str = "", **fields: Any) -> dict[str, Any]:
        """The answer to an action."""
        self._said += 1
        spec = self.registry.commands[action]
        params: Any = msgspec.convert(fields, spec.params)
        command = CommandKey(who.name, "tab", key) if key else None
        call = Call(who, "s", action, params, f"c{self._said}", command, b"f")
        reply: Any = spec.handler(call)
        answer: dict[str, Any] = msgspec.json.decode((await reply).body)
        return answer

    async def add(self, *types: str, who: Principal = ALICE, **fields: Any) -> dict[str, Any]:
        """A new webhook, as its user is told of it."""
        made = await self.ask("add_webhook", who, url=URL, types=types, **fields)
        assert made["type"] == "webhook_added", made
        return made

    async def write(self, stream: str, type_: str = "t", **fields: Any) -> None:
        """One event."""
        body = json_bytes({"type": type_, "timestamp": "2026-11-24T10:00:00.000Z", **fields})
        await self.log.append_soundly(Append(ts_ms=1, events=(NewEvent(stream, type_, body),)))

    async def pass_s(self, seconds: float) -> None:
        """Let time go by."""
        await asyncio.sleep(seconds)


@asynccontextmanager
async def hook_world() -> AsyncIterator[HookWorld]:
    """A world that begins, and ends in order."""
    world = HookWorld()
    await world.open()
    try:
        yield world
    finally:
        await world.close()
