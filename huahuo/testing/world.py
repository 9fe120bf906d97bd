"""A whole service in virtual time: on a log in memory, with clients over loopback. All calls block.

Time stands still between two calls, so a test says when it goes on (`advance`). The loop's clock jumps to
the next timer when nothing else can run: hours of timers pass in milliseconds. Nothing runnable and no
timer is a deadlock, an error. Other threads would need real time. Sockets between two ends on the same
loop work, because the system moves their bytes within the call that sends them.
"""

import asyncio
import contextlib
import selectors
from collections.abc import Coroutine, Mapping
from contextvars import ContextVar
from inspect import CORO_CREATED, getcoroutinelocals, getcoroutinestate
from pathlib import Path
from types import CoroutineType
from typing import Any
from zlib import crc32

from huahuo.actors.domain.entity import Entity
from huahuo.actors.domain.structs import Command
from huahuo.actors.plugins.calls import Principal, UserId
from huahuo.app import config
from huahuo.app.application import Application
from huahuo.app.config import SECONDS_MAX, Table
from huahuo.app.credentials import Keys, mint
from huahuo.app.foundation import World
from huahuo.app.service_port import WaitingRoom
from huahuo.app.wiring import App
from huahuo.at import At
from huahuo.embedding import calls
from huahuo.eventstore.ambient import Ambient, FakeAmbient
from huahuo.eventstore.executor import InlineExecutor
from huahuo.eventstore.memory import MemoryLog, ModelDisk
from huahuo.eventstore.port import Log
from huahuo.transport.client import Client


class TestClient:
    """A signed-in client that follows streams."""

    __test__ = False  # the name is no test of pytest

    def __init__(self, world: "AppWorld", client: Client) -> None:
        self._world = world
        self.client = client
        """The Python client underneath."""
        self._seen: dict[str, list[dict[str, Any]]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def send(self, action: str, **fields: Any) -> dict[str, Any]:
        """Send a command or query and return its reply. Raises CommandError: it was refused."""
        return self._world.run(self.client.send(action, **fields))

    def follow(self, stream: str) -> None:
        """Collect the events of `stream` from its beginning. Raises StreamDenied: it may not be read."""
        self._world.run(self._follow(stream))

    def events(self, stream: str) -> list[dict[str, Any]]:
        """The events that came so far, after everything that is under way has come."""
        if stream not in self._seen:
            raise LookupError(f"{stream} is not followed by this client: write .follow({stream!r}) first")
        self._world.advance(seconds=1)
        return list(self._seen[stream])

    def drop_connection(self) -> None:
        """Lose the connection. The client comes back by itself as time goes on."""
        socket = self.client._socket  # noqa: SLF001  an application has no reason to cut its own connection
        if socket is not None:
            socket.transport.abort()

    async def close(self) -> None:
        """Leave."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.client.close()

    async def _follow(self, stream: str) -> None:
        seen = self._seen.setdefault(stream, [])
        events = self.client.events(stream, first="start")
        await events.ready()

        async def collect() -> None:
            async with events:
                async for event in events:
                    seen.append({**event.data, "stream": event.stream, "seq": event.seq})

        self._tasks.append(asyncio.get_running_loop().create_task(collect()))


_RESOLUTION_S = 1e-7
"""After 97 days a time has steps of 2 ns, and a jump to a timer may end one step before it."""


class DeadlockError(RuntimeError):
    """Nothing can ever run again, and the program still waits."""


class _JumpingSelector(selectors.BaseSelector):
    """Never waits: it asks the real selector without patience and lets the clock jump instead."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._real = selectors.DefaultSelector()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = self._real.select(0)
        if not ready:
            if timeout is None:
                raise DeadlockError("deadlock: nothing runnable and no timer")
            self.now_s += max(timeout, 0.0)
        return ready

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps: hours of timers pass in milliseconds, and a deadlock is an error.

    Starts at 0 s.
    """

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)
        self._clock_resolution = _RESOLUTION_S
        self.skips_to_s = 0.0
        """Until then no test can observe anything: what recurs may be rarer (`Ambient.routine_s`)."""

    def time(self) -> float:
        """Seconds since the loop was made."""
        return self._jumping.now_s

    def sleep_through(self, seconds: float) -> None:
        """As after SIGSTOP and SIGCONT: time has gone by, and nothing has run meanwhile."""
        self._jumping.now_s += seconds


def run_virtual[T](main: Coroutine[Any, Any, T]) -> T:
    """As `asyncio.run`, on a virtual loop.

    Raises:
        DeadlockError: `main` waits for what can never happen.
    """
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


def virtual_loop() -> VirtualLoop:
    """The running loop, within `run_virtual`."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop


_ROUTINE_S_MAX = 3_600.0
_ROUTINE_SHARE = 64
"""A look waits for at most this part of what is left, so that at the end of an `advance` all are as ever."""


class VirtualAmbient(FakeAmbient):
    """The loop's clock, and chance from a seed."""

    def __init__(self, loop: VirtualLoop, seed: int) -> None:
        super().__init__(seed)
        self._loop = loop

    def now_ms(self) -> int:
        """See `Ambient`."""
        return super().now_ms() + round(self._loop.time() * 1000)

    def monotonic_s(self) -> float:
        """See `Ambient`."""
        return self._loop.time()

    def routine_s(self, seconds: float) -> float:
        """See `Ambient`."""
        left_s = self._loop.skips_to_s - self._loop.time()
        return max(seconds, min(_ROUTINE_S_MAX, left_s / _ROUTINE_SHARE))


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
        return self.run(calls.send(self.running, command, as_user=as_user, **fields))

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
