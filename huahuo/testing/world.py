"""A whole service in virtual time: on a log in memory, with clients over loopback. All calls block.

Time stands still between two calls, so a test says when it goes on (`advance`).
"""

import asyncio
import contextlib
from collections.abc import Coroutine, Mapping
from contextvars import ContextVar
from inspect import CORO_CREATED, getcoroutinelocals, getcoroutinestate
from pathlib import Path
from types import CoroutineType
from typing import Any
from zlib import crc32

from huahuo.actors.domain.entity import Entity
from huahuo.actors.domain.structs import Command
from huahuo.actors.plugins.principal import Principal, UserId
from huahuo.app import config
from huahuo.app.application import Application
from huahuo.app.fields import SECONDS_MAX
from huahuo.app.keys import Keys
from huahuo.app.table import Table
from huahuo.app.tokens import mint
from huahuo.app.waiting_room import WaitingRoom
from huahuo.app.wiring import App
from huahuo.app.world import World
from huahuo.at import At
from huahuo.embedding import calls, sending
from huahuo.eventstore.ambient import Ambient, FakeAmbient
from huahuo.eventstore.executor import InlineExecutor
from huahuo.eventstore.memory.log import MemoryLog
from huahuo.eventstore.memory.model_disk import ModelDisk
from huahuo.eventstore.port import Log
from huahuo.testing.client import TestClient
from huahuo.testing.virtual_ambient import VirtualAmbient
from huahuo.testing.virtual_loop import VirtualLoop
from huahuo.transport.client import Client

_SECRET = "a secret of tests, of no worth elsewhere"  # noqa: S105  as it says
_CALL_TIMEOUT_S = 120.0
_TOKEN_S = 10 * 365 * 86_400.0
_life: ContextVar[int] = ContextVar("life", default=0)
"""In which life of the service a task was started; 0: it is the test's own."""


_LONG_S = 86_400.0
"""From this length of an `advance` on, sweeps and looks are rarer in its midst."""
_HEARTBEAT_S = SECONDS_MAX
"""A client of a test is never silent for so long: its connection is there, or was dropped."""


class AppWorld:
    """See the module. `folder` is for the service's keys."""

    def __init__(self, application: Application, folder: Path, *, seed: int = 0) -> None:
        self._application = application
        self._folder = folder
        self._chance = FakeAmbient(seed)
        self._loop = VirtualLoop()
        self._disk = ModelDisk()
        self._lives = 0
        self._clients: list[TestClient] = []
        self._clients_of: dict[int | str, int] = {}
        self._app: App | None = None
        self.run(self._start())

    def run[T](self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the world's loop, within two minutes of its time."""

        async def timed() -> T:
            async with asyncio.timeout(_CALL_TIMEOUT_S):
                return await work

        return self._loop.run_until_complete(timed())

    def begin[T](self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin a coroutine that goes on while time goes by."""
        return self._loop.create_task(work)

    @property
    def running(self) -> App:
        """The service of this life."""
        assert self._app is not None, "the service runs from its start to close()"
        return self._app

    def advance(self, *, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0) -> None:
        """Let time go by, with everything that happens in it."""
        hours += 24 * days
        length_s = hours * 3600 + minutes * 60 + seconds
        if length_s >= _LONG_S and "heartbeat_s" not in self._application.settings:
            self._loop.skips_to_s = self._loop.time() + length_s
        self._loop.run_until_complete(asyncio.sleep(length_s))

    def client(
        self, user: UserId, *, username: str = "", admin: bool = False, groups: tuple[str, ...] = ()
    ) -> TestClient:
        """A client of this user, connected. It has a token of the service itself."""
        token = mint(
            _SECRET.encode(),
            self._ambient(),
            user_id=user,
            username=username or str(user),
            admin=admin,
            groups=groups,
            ttl_s=_TOKEN_S,
        )
        return self._connected(token, user)

    def client_with(self, token: str) -> TestClient:
        """A client with a token of the application's own, which `authenticate` judges.

        Raises ClientStopped: it is refused.
        """
        return self._connected(token, token)

    def rights_changed(self, stream: str | None = None, *, user: UserId | None = None) -> None:
        """See `Huahuo.rights_changed`."""

        async def told() -> None:  # on the loop, where those who follow are judged again
            calls.rights_changed(self.running, stream, user)

        self.run(told())

    def _connected(self, token: str, name: int | str) -> TestClient:
        count = self._clients_of[name] = self._clients_of.get(name, 0) + 1
        seed = name if isinstance(name, int) else crc32(name.encode())
        if count > 1:  # another installation, whose command ids are others
            seed = crc32(f"{name} {count}".encode())

        async def connected() -> TestClient:
            ambient = VirtualAmbient(self._loop, seed)
            client = Client(self.running.url, token=token, client=f"test-{seed}", ambient=ambient)
            await client.__aenter__()
            await client.wait_online()
            return TestClient(self, client)

        made = self.run(connected())
        self._clients.append(made)
        return made

    def drop_connection(self) -> None:
        """Lose the connections of all clients."""
        for client in self._clients:
            client.drop_connection()

    def crash(self, application: Application | None = None) -> None:
        """End the service without a word, as `kill -9` and a power cut do, and start it again.

        `application`: what it then serves, such as the next version.
        """
        if application is not None:
            self._application = application
        self.drop_connection()
        self._disk.crash(self._chance)
        self._loop.run_until_complete(self._end_life())
        self.run(self._start())

    def send(
        self, command: str | Command, *, as_user: UserId | Principal | None = None, **fields: Any
    ) -> dict[str, Any]:
        """See `Huahuo.send`."""
        return self.run(sending.send(self.running, command, as_user=as_user, **fields))

    def publish(self, stream: str, type: str, fields: Mapping[str, Any] | None = None) -> At:  # noqa: A002
        """See `Huahuo.publish`."""
        return self.run(calls.publish(self.running, stream, type, fields))

    def state(self, entity: Entity[Any] | str, key: int | str) -> tuple[Any, int]:
        """See `Huahuo.state`."""
        return self.run(calls.state(self.running, entity, key))

    def close(self) -> None:
        """End everything."""
        for client in self._clients:
            self.run(client.close())
        self.run(self.running.stop())
        self._application.runs_as(None)
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    def _ambient(self) -> Ambient:
        return VirtualAmbient(self._loop, 1_000_000 + self._lives)

    async def _start(self) -> None:
        port = 0 if self._app is None else self._app.port
        self._lives += 1
        _life.set(self._lives)  # this task's copy of the context: what it starts is of this life
        table = Table(self._application.plugins())
        given = {
            "heartbeat_s": _HEARTBEAT_S,
            **self._application.settings,
            "data": self._folder,
            "host": "127.0.0.1",
            "port": port,
        }
        settings = table.load(environ={}, flags={**given, "jwt_secret": _SECRET, "master_key": "5a" * 32})
        world = World(open_log=self._open_log, make_executor=InlineExecutor, publish_address=False)
        self._app = App(
            settings,
            self._ambient(),
            world,
            plugins=self._application.plugins(),
            asked=self._application.asked,
        )
        self._application.runs_as(self._app)
        await self._app.start()

    async def _open_log(
        self, _settings: config.Settings, secrets: Keys, ambient: Ambient, _room: WaitingRoom
    ) -> Log:
        return await MemoryLog.open(
            self._disk,
            ambient=ambient,
            master_key=secrets.master_key,
            build="test",
            executor=InlineExecutor(),
        )

    async def _end_life(self) -> None:
        mine = [
            task
            for task in asyncio.all_tasks()
            if task is not asyncio.current_task() and task.get_context().get(_life) == self._lives
        ]
        for task in mine:
            _close_what_never_began(task)
            task.cancel()
        await asyncio.gather(*mine, return_exceptions=True)
        with contextlib.suppress(Exception):
            await self.running.stop()


def _close_what_never_began(task: asyncio.Task[Any]) -> None:
    """Close the coroutines that a task was given and, cancelled before its first step, will never await."""
    work = task.get_coro()
    if isinstance(work, CoroutineType) and getcoroutinestate(work) == CORO_CREATED:
        for given in getcoroutinelocals(work).values():
            if isinstance(given, CoroutineType) and getcoroutinestate(given) == CORO_CREATED:
                given.close()
