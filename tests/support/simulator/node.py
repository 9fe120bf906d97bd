"""The simulated service: its lives, its disk and its wall clock. A crash takes everything but the disk."""

import asyncio
import contextlib
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator, Sequence
from contextvars import Context
from functools import cache
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import msgspec

from huahuo.actors.plugins.calls import Principal
from huahuo.app import wiring
from huahuo.app.application import Application
from huahuo.app.config import Settings
from huahuo.app.credentials import Keys
from huahuo.app.foundation import World
from huahuo.app.service_port import WaitingRoom
from huahuo.app.wiring import App
from huahuo.errors import HuahuoError
from huahuo.eventstore.ambient import Ambient, FakeAmbient
from huahuo.eventstore.core.log import StoreLog
from huahuo.eventstore.errors import EventStoreError, InUse, Unavailable
from huahuo.eventstore.executor import InlineExecutor
from huahuo.eventstore.memory import MemoryLog, ModelDisk
from huahuo.eventstore.port import Log
from huahuo.eventstore.sqlite.log import SqliteLog
from huahuo.eventstore.verdict import Verdict
from huahuo.mailcheck.plugin import mail as mail_settings
from huahuo.mailcheck.plugin.mail import MailOptions
from huahuo.pages import site
from huahuo.transport.access.tokens import Authenticator
from tests.support.checkers.history import History
from tests.support.simulator.loop import Loop
from tests.support.simulator.marks import Marks
from tests.support.simulator.names import simulated_names
from tests.support.simulator.shop import Outside, shop

EPOCH_MS = 1_790_000_000_000
HOST, PORT = "server", 8765
SECRET = "jwt-secret-canary-0123456789-abcdefghij"
MASTER_KEY = "5a" * 32
_SWEEP_S = 0.01


class SimClock(FakeAmbient):
    """The simulated clock and chance from a seed. The wall clock of the service may be moved."""

    def __init__(self, loop: Loop, seed: str, offset_ms: Callable[[], int] = lambda: 0) -> None:
        super().__init__(seed)
        self._loop = loop
        self._offset_ms = offset_ms

    def now_ms(self) -> int:
        return EPOCH_MS + round(self._loop.time() * 1000) + self._offset_ms()

    def monotonic_s(self) -> float:
        return self._loop.time()


class SimDisk(ModelDisk):
    """Tells when the power fails at a sync: `at_cut`. `cut_after_sync`: right behind one that worked."""

    def __init__(self, at_cut: Callable[[], None], marks: Marks) -> None:
        super().__init__()
        self._at_cut = at_cut
        self._marks = marks
        self.cut_after_sync = False

    def sync(self, ticket: int) -> None:
        if self.cut_in_sync:
            self._marks.sometimes("crash in a sync")
            self._at_cut()
        super().sync(ticket)
        if self.cut_after_sync:
            self.cut_after_sync = False
            self._marks.sometimes("crash between commit and reply")
            self._at_cut()
            self.fence_off()
            raise OSError("the power failed behind the sync")


class LateExecutor(InlineExecutor):
    """Runs each job after a moment, as a disk does that takes its time."""

    def __init__(self, chance: Random, most_s: float, up: asyncio.Event) -> None:
        """`up`: before it is set, the disk takes no time."""
        super().__init__()
        self._chance = chance
        self._most_s = most_s
        self._up = up

    async def run[T](self, job: Callable[[], T]) -> T:
        if self._up.is_set():
            await asyncio.sleep(self._chance.uniform(0.0, self._most_s))
        return await super().run(job)


class CutExecutor(InlineExecutor):
    """Runs the jobs of a SQLite log's writer; `cut` lets the power fail `before` or `after` the next one."""

    def __init__(self, at_cut: Callable[[], None], jobs: InlineExecutor | None = None) -> None:
        """`jobs`: what runs them; None: at once."""
        super().__init__()
        self._at_cut = at_cut
        self.failures: list[list[int]] = []
        """Queues of errno values for the next jobs."""
        self._jobs = jobs or InlineExecutor()
        self._turn = asyncio.Lock()
        self.cut = ""
        self.dead = False

    async def run[T](self, job: Callable[[], T]) -> T:
        if self.dead:
            raise Unavailable("the power is off")
        cut, self.cut = self.cut, ""
        if cut == "before":
            self.dead = True
            self._at_cut()
            raise Unavailable("the power failed before the commit")
        if planned := next(filter(None, self.failures), None):
            raise OSError(planned.pop(0), "the disk fails as planned")
        async with self._turn:  # as a thread runs them
            result = await self._jobs.run(job)
        if cut == "after":
            self.dead = True
            self._at_cut()
            raise Unavailable("the power failed behind the commit")
        return result


_assets = cache(site.assets)
_tls = cache(mail_settings._tls)  # noqa: SLF001  reading the system's certificates
_schema = cache(msgspec.json.schema)
_describe = wiring._described  # noqa: SLF001  it costs half of a start
_described: dict[str, Any] = {}


def _kept_description(registry: Any, settings: Settings) -> Any:
    if not _described:
        _described.update(_describe(registry, settings))
    return dict(_described)


@contextlib.contextmanager
def quick_starts() -> Iterator[None]:
    """Make once in this process what every start would make in the same way, such as compressed pages."""
    with (
        patch.object(msgspec.json, "schema", _schema),
        patch.dict(sys.modules, {"sniffio": None}),  # httpcore looks for it at each request, in each folder
        patch.object(site, "assets", _assets),
        patch.object(wiring, "_described", _kept_description),
        patch.object(mail_settings, "_tls", _tls),
    ):
        yield


class Node:
    """See the module."""

    def __init__(
        self, loop: Loop, folder: Path, engine: str, history: History, marks: Marks, outside: Outside,
        name: str = HOST,
    ) -> None:  # fmt: skip
        """`name`: of its machine."""
        self.loop = loop
        self.name = name
        self.host = loop.net.host(name)
        self.marks = marks
        self.outside = outside
        self.offset_ms = 0
        self.jobs_running = 0
        self.life = 0
        self.verdicts: list[Verdict] = []
        """What was judged of it beside its history."""
        self._app: App | None = None
        self.up = asyncio.Event()
        self.gone = asyncio.Event()
        """Set when the service is down and nobody has begun to start it again."""
        self.disk = SimDisk(self._power_fails, marks)
        self.engine = engine
        self.settings_more: dict[str, Any] = {}
        self.mail_more: dict[str, Any] = {}
        self.sync_s = 0.0
        """How long a commit of the memory engine takes at most."""
        self._writer = CutExecutor(self._power_fails)
        self._folder = folder
        self._history = history
        self._chance = Random(f"node {loop.seed}" if name == HOST else f"{name} {loop.seed}")
        self._alive = False
        self.keyframe_every: int | None = None
        """How often the state of a parcel is stored; None: as by default."""
        self._applications: dict[bool, Application] = {}
        self.newer = False
        """Whether the next life runs newer code."""
        self._runs_newer = False
        self.had_newer = False
        """Whether a life of before ran newer code."""
        self.follows = False
        """Whether the newer code has a follower more."""
        self._mint = Authenticator(SECRET.encode())

    @property
    def app(self) -> App | None:
        """The service of this life; None while there is none."""
        return self._app

    @property
    def services(self) -> "Sequence[Node]":
        """All that are a service of their own."""
        return (self,)

    @property
    def runs_newer(self) -> bool:
        """Whether this life, or the last one, runs newer code; of several nodes, whether all do."""
        return self._runs_newer

    @property
    def was_updated(self) -> bool:
        """Whether newer code has come."""
        return self.newer

    def asking(self, machine: str) -> "Node":
        """The service on a machine."""
        return self

    def is_heard_of(self) -> bool:
        """Whether it lives, and no other node can take it for dead."""
        return self._alive

    def token(self, user: int, *, admin: bool, groups: tuple[str, ...], ttl_s: float, jti: str) -> str:
        """A token by the service's own wall clock, as an issuer beside it makes one."""
        who = Principal(user, f"u{user}", is_admin=admin, groups=groups)
        now_ms = EPOCH_MS + round(self.loop.time() * 1000) + self.offset_ms
        return self._mint.mint(who, now_ms=now_ms, ttl_s=ttl_s, jti=jti)

    async def start(self) -> None:
        """Begin a life, and return when it listens. Raises HuahuoError: it could not start."""
        self.gone.clear()
        self._begin_life()
        self._alive = True
        self._writer = CutExecutor(self._power_fails, self._executor())
        self.disk.let_in()
        life = self.host.create_task(self._live(self.life))
        up = asyncio.ensure_future(self.up.wait())
        await asyncio.wait({life, up}, return_when=asyncio.FIRST_COMPLETED)
        if life.done() and not up.done():
            up.cancel()
            # Else it crashes, or has crashed, while it started, and `gone` says so.
            if not life.cancelled() and life.exception() is not None and not self._writer.dead:
                await life

    def _begin_life(self) -> None:
        self.life += 1
        self.outside.life = self.life

    async def _live(self, life: int) -> None:
        clock = SimClock(self.loop, f"{self.name} {self.loop.seed} {life}", lambda: self.offset_ms)
        world = World(
            open_log=self._open,
            make_executor=InlineExecutor,
            make_looker=InlineExecutor,
            resolver=lambda: simulated_names,
            publish_address=False,
        )
        if self.newer not in self._applications:
            made = shop(
                self.outside, newer=self.newer, keyframe_every=self.keyframe_every, follows=self.follows
            )
            self._applications[self.newer] = made
            self.marks.sometimes("newer code took over", self.newer and self.outside.opened)
        application = self._applications[self.newer]
        self.had_newer = self.had_newer or self.newer
        self._runs_newer = self.newer
        app = App(self._settings(), clock, world, plugins=application.plugins())
        application.runs_as(app)
        await app.start()
        self._app = app
        await self._note_acks(app)
        await self.look()
        self.up.set()
        await asyncio.Event().wait()

    async def _note_acks(self, app: App) -> None:
        acks = {(ack.user, ack.client, ack.stream): ack.seq for ack in await app.log.acks()}
        self._history.acks.append(acks)
        for one in self._history.followers:
            stored = acks.get((f"user/{one.user}", one.client, one.stream), 0)
            self.marks.sometimes("ack lost", one.applied and one.applied[-1].seq > stored)

    def _settings(self) -> Settings:
        return Settings(
            data=self._folder / "keys",
            host=self.name,
            port=PORT,
            jwt_secret=SECRET,
            master_key=MASTER_KEY,
            connections_per_ip=0,
            connections_per_user=0,
            unauthenticated_per_ip=0,
            webhooks_allow_private=True,
            **self.settings_more,
            plugins={"mail": MailOptions(mail_allow_private=True, mail_timeout_s=5, **self.mail_more)},
        )

    async def _open(self, _settings: Settings, secrets: Keys, ambient: Ambient, _room: WaitingRoom) -> Log:
        log: StoreLog
        if self.engine == "sqlite":
            directory = self._image(self.life)
            log = await SqliteLog.open(
                directory,
                ambient=ambient,
                master_key=secrets.master_key,
                build=f"sim-{self.life}",
                writer=self._writer,
                readers=InlineExecutor(),
            )
            self._writer.failures = [self.disk.fail_writes, self.disk.fail_syncs]
        else:
            log = await MemoryLog.open(
                self.disk,
                ambient=ambient,
                master_key=secrets.master_key,
                build=f"sim-{self.life}",
                executor=self._executor(),
            )
        self._history.writers.append(("open", str(self.life)))
        return log

    def _executor(self) -> InlineExecutor:
        if not self.sync_s:
            return InlineExecutor()
        return LateExecutor(Random(f"syncs {self.name} {self.loop.seed} {self.life}"), self.sync_s, self.up)

    def _image(self, life: int) -> Path:
        """A copy of the last life's files: its open ones still belong to the old process."""
        before = self._files(life - 1)
        directory = _copied(before, self._folder / f"life-{life}")
        if before.is_dir():
            shutil.rmtree(before)
        return directory

    def _files(self, life: int) -> Path:
        """The files of the last life until this one that came so far as to open its log."""
        lived = (self._folder / f"life-{number}" for number in range(life, 0, -1))
        return next((folder for folder in lived if folder.is_dir()), self._folder / "life-0")

    async def look(self) -> None:
        """Note where the log stands now. It must be a prefix of every later one."""
        log = None if self.app is None else self.app.log
        if not isinstance(log, StoreLog):
            return
        with contextlib.suppress(EventStoreError):
            position = log.position
            if position:
                [chain] = await log.chains(position - 1, position)
                self._history.looks.append((position, chain))

    # -- what is done to it

    def crash(self, how: str) -> None:
        """`power`: what was not synced may be lost or torn. `kill`: it is in the page cache; clients know."""
        if not self._alive:
            return
        self._alive = False
        self._history.counts["crash"] += 1
        self.marks.sometimes("crash while effects run", self.outside.running)
        self.outside.running = 0
        self._history.writers.append(("close", str(self.life)))
        self.up.clear()
        self._app = None
        if how == "kill":
            for device in sorted(self.loop.net._streams):  # noqa: SLF001  the kernel resets its sockets
                if device[1] == self.name:
                    self.loop.net._streams[device].abort()  # noqa: SLF001
        else:
            self.marks.sometimes("half-open connection")
        before = len(self.disk.read())
        self._writer.dead = True
        self.loop.crash(self.name)
        self.disk.crash(_Everything() if how == "kill" else self._chance)
        self.marks.sometimes("torn tail cut", len(self.disk.read()) < before)
        self.host.restart()
        self.loop.go_on(self.name)  # a stopped machine that loses its power is not stopped any more
        if self.sync_s:  # what waits for a slow commit cleans up in more steps, and may begin things
            self._sweep()
        self.gone.set()

    def _sweep(self) -> None:
        if not self._alive and self.loop.sweep(self.name):
            self.loop.call_later(_SWEEP_S, self._sweep, context=Context())  # of no machine

    def _power_fails(self) -> None:
        self.loop.call_soon(self.crash, "power")

    def cut_at_next_commit(self, *, after: bool) -> None:
        """Let the power fail in the next commit, or right behind it before anybody is told."""
        self._writer.cut = "after" if after else "before"
        if after:
            self.disk.cut_after_sync = True
        else:
            self.disk.cut_in_sync = True

    def disk_is_kind(self) -> None:
        """From now on each write and each commit works: no fault waits for one any more."""
        self.disk.fail_writes.clear()
        self.disk.fail_syncs.clear()
        self.disk.cut_in_sync = self.disk.cut_after_sync = False
        self._writer.cut = ""
        self.disk.let_in()

    def _awake_s(self) -> float:
        """Virtual seconds without those for which the machine was stopped."""
        return self.loop.time() - self.loop.stood_s(self.name)

    async def drain(self) -> None:
        """As SIGTERM: it stops in order, and is gone then."""
        app = self.app
        if app is None or not self._alive:
            return
        began_s = self._awake_s()
        self.up.clear()
        self.marks.sometimes("drain with clients", app.hub.joined_count)
        stopping = self.host.create_task(_quietly(app.stop()))
        while not stopping.done() and (left_s := began_s + 60 - self._awake_s()) > 0:
            await asyncio.wait({stopping}, timeout=left_s)
        if self.app is not app:
            return  # it crashed meanwhile
        self._history.drains_s.append(self._awake_s() - began_s)
        self._end_life()

    def _end_life(self) -> None:
        """The process has ended by itself."""
        self._alive = False
        self._app = None
        self._history.writers.append(("close", str(self.life)))
        self._writer.dead = True
        self.loop.crash(self.name)
        self.disk.crash(self._chance)
        self.host.restart()
        self.gone.set()

    async def second_writer(self) -> None:
        """Another process tries to open the same log: it must be refused."""
        if self.engine == "sqlite" or not self._alive or not self.up.is_set():
            return
        clock = SimClock(self.loop, "second")
        try:
            second = await MemoryLog.open(
                self.disk,
                ambient=clock,
                master_key=bytes.fromhex(MASTER_KEY),
                build="second",
                executor=InlineExecutor(),
            )
        except InUse:
            self.marks.sometimes("second writer refused")
        else:
            self._history.writers.append(("open", "second"))
            await second.close()

    async def final_log(self) -> MemoryLog | SqliteLog:
        """The log as it lies on the disk, opened by nobody else."""
        return await self.log_of(lambda data: data)

    async def log_of(self, changed: Callable[[bytes], bytes]) -> MemoryLog | SqliteLog:
        """A log over a copy of what lies on the disk, `changed` first. Raises as the engines' `open`."""
        if self.engine == "sqlite":
            self.life += 1
            directory = self._image(self.life)
            database = directory / "log.db"
            database.write_bytes(changed(database.read_bytes()))
            return await self._sqlite_log(directory)
        return await self._log_over(changed(self.disk.read()))

    async def safe_secrets(self, streams: str, name: str) -> list[str]:
        """This secret of each stream that begins so, as any crash would leave them now."""
        log: MemoryLog | SqliteLog
        if self.engine != "sqlite":
            log = await self._log_over(self.disk.read_safe())
        else:
            log = await self._sqlite_log(_copied(self._files(self.life), self._folder / "safe"))
        try:
            found = [await log.secrets(stream, (name,)) for stream in sorted(log.streams(streams))]
            return [secret.reveal() for [secret] in found if secret is not None]
        finally:
            await log.close()

    async def sealed_of(self, owner: str) -> list[bytes]:
        """The sealed secrets and the wrapped key of an owner, as they lie in the files of SQLite."""
        files = _copied(self._files(self.life), self._folder / "sealed")
        with contextlib.closing(sqlite3.connect(files / "log.db")) as database:
            rows = database.execute(
                "SELECT box FROM sealed WHERE owner = ? UNION SELECT wrapped FROM data_key WHERE owner = ?",
                (owner, owner),
            )
            return [bytes(row[0]) for row in rows]

    async def _sqlite_log(self, directory: Path) -> SqliteLog:
        return await SqliteLog.open(
            directory,
            ambient=SimClock(self.loop, "final"),
            master_key=bytes.fromhex(MASTER_KEY),
            build="sim",
            writer=InlineExecutor(),
            readers=InlineExecutor(),
        )

    async def _log_over(self, data: bytes) -> MemoryLog:
        disk = ModelDisk()
        ticket = disk.hold()
        disk.write(ticket, data)
        disk.sync(ticket)
        disk.release(ticket)
        return await MemoryLog.open(
            disk,
            ambient=SimClock(self.loop, "final"),
            master_key=bytes.fromhex(MASTER_KEY),
            build="sim",
            executor=InlineExecutor(),
        )

    def raw(self) -> bytes:
        """All bytes that lie on the disk."""
        if self.engine == "sqlite":
            files = sorted((self._folder / f"life-{self.life}").glob("log.*"))
            return b"".join(file.read_bytes() for file in files)
        return self.disk.read()


def _copied(files: Path, directory: Path) -> Path:
    """A new directory with the files of a SQLite log, as `kill -9` would leave them now."""
    if directory.is_dir():
        shutil.rmtree(directory)
    directory.mkdir(mode=0o700)
    for file in sorted(files.glob("log.*")) if files.is_dir() else ():
        if not file.name.endswith("-shm"):
            shutil.copyfile(file, directory / file.name)
    return directory


class _Everything:
    """A power cut in which everything survives: the page cache after `kill -9`."""

    def random(self) -> float:
        return 1.0 - 1e-9


async def _quietly(work: Any) -> None:
    with contextlib.suppress(HuahuoError, EventStoreError):
        await work


def body_of(raw: bytes) -> dict[str, Any]:
    """The JSON object of an event."""
    decoded: dict[str, Any] = msgspec.json.decode(raw)
    return decoded
