"""The mail domain as a service runs it, without the transport: log, entities, checks, restarts.

    @mail_world()                   on a virtual loop; checks are scripted by the test
    async with real_world() as world:    on a real loop; checks go over IMAP

A test gets a `MailWorld`. `restart()` closes and opens it again over the same disk, `crash()` takes
everything away but the disk.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from inspect import Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec

from huahuo.actors.actor.runtime import Runtime
from huahuo.actors.entities.directory import Directory
from huahuo.actors.entities.rendezvous_hash import Share
from huahuo.actors.plugins.calls import Call, Principal, Reply, UserId
from huahuo.actors.plugins.plugin import Host, JobDoor, Projection
from huahuo.eventstore.ambient import Ambient, FakeAmbient, SystemAmbient
from huahuo.eventstore.executor import Executor, InlineExecutor
from huahuo.eventstore.memory import ModelDisk
from huahuo.eventstore.model import CommandKey, StoredEvent
from huahuo.mailcheck.api.mail_index import MailIndex
from huahuo.mailcheck.checks.check_effect import CheckFailed, CheckLimits, GraphTarget, Ok, Sink, Target
from huahuo.mailcheck.events import FetchedMail, UidCursor
from huahuo.mailcheck.plugin.domain import MailDomain, MailSettings
from huahuo.mailcheck.records import CHECKS, MAIL, MAILS, PURGES
from huahuo.mailcheck.servers.faults import Outcome
from huahuo.mailcheck.servers.network import Network
from huahuo.replay.feed import Feed
from huahuo.testing.world import run_virtual
from huahuo.transport.commands.gate import answer_of
from huahuo.transport.load.metrics import Metrics
from tests.support.drivers.checks import QUICK
from tests.support.models.faulty_log import FaultyLog, StepExecutor
from tests.support.models.follower import follow
from tests.support.models.mail_book import USER, cursor
from tests.support.models.mail_rules import TERMINAL, broken_checks, broken_deletions, broken_mails
from tests.support.models.memory_sequencer import MemoryOrder
from tests.support.patience import ALL_WITHIN_S
from tests.support.worlds.node_logs import opened_log

if TYPE_CHECKING:
    from huahuo.actors.entities.entity import Fairness


class ScriptedCheck:
    """A check that the test performs: it reports to `sink`, and ends by `finish` or `fail`."""

    def __init__(self, target: Target, since: UidCursor | None, sink: Sink) -> None:
        self.target = target
        self.since = since
        self.sink = sink
        self.cancelled = asyncio.Event()
        self._end: asyncio.Future[Ok] = asyncio.get_running_loop().create_future()

    async def mails(self, *batch: FetchedMail) -> None:
        """Hand mails over, with the cursor behind the last one."""
        await self.sink.mails(list(batch), cursor(batch[-1].uid, batch[-1].uidvalidity))

    def finish(self, uid: int = 0) -> None:
        """All went well up to this UID."""
        self._end.set_result(Ok(0, cursor(uid), resynced=False))

    def fail(self, error: Exception) -> None:
        """It ends with this error."""
        self._end.set_exception(error)

    async def wait(self) -> Ok:
        """Run until the test says how it ends."""
        try:
            return await self._end
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


class Script:
    """Stands in for the mail servers of a whole world."""

    def __init__(self) -> None:
        self._begun: asyncio.Queue[ScriptedCheck] = asyncio.Queue()
        self.running = 0
        self.running_peak = 0

    async def __call__(self, target: Target | GraphTarget, since: UidCursor | None, sink: Sink) -> Ok:
        assert isinstance(target, Target), "scripted checks go over IMAP"
        check = ScriptedCheck(target, since, sink)
        self.running += 1
        self.running_peak = max(self.running_peak, self.running)
        self._begun.put_nowait(check)
        try:
            return await check.wait()
        finally:
            self.running -= 1

    async def next(self) -> ScriptedCheck:
        """The next check that has begun."""
        return await self._begun.get()

    @property
    def begun(self) -> int:
        """How many checks have begun that the test has not taken yet."""
        return self._begun.qsize()


def failed(status: str = "error", message: str = "无法连接", server_text: str = "") -> CheckFailed:
    """A classified failure."""
    return CheckFailed(Outcome(status, "test", message, server_text))  # type: ignore[arg-type]


class SlowExecutor(InlineExecutor):
    """Jobs on the loop, each of which takes the same time."""

    def __init__(self, job_s: float) -> None:
        self._job_s = job_s

    async def run[T](self, job: Callable[[], T]) -> T:
        """See `Executor`."""
        await asyncio.sleep(self._job_s)
        return job()


class MailWorld:
    """One life of the domain after another over the same disk."""

    log: FaultyLog
    feed: Feed
    directory: Directory
    mail: MailDomain
    script: Script

    def __init__(
        self, ambient: Ambient, settings: MailSettings, executor: Executor, *, searching: bool = False
    ) -> None:
        self.ambient = ambient
        self._executor = executor
        self.settings = settings
        self._scripted = isinstance(ambient, FakeAmbient)
        self._disk = ModelDisk()
        self.searching = searching
        """Whether mails are put into an index."""
        self.order: MemoryOrder | None = None
        """Of several nodes; `node` is the name of this one."""
        self.node = "one"
        self.jobs: JobDoor | None = None
        """What shows long imports, from the next life on."""
        self.files: Path | None = None
        """Where that is kept; None: in memory."""
        self.owed_until_s: dict[UserId, float] = {}
        """Until when checks of a user have to wait for those of others, on the loop's clock."""

    def _wait_s(self, user: UserId) -> float:
        return self.owed_until_s.get(user, 0.0) - asyncio.get_running_loop().time()

    async def open(self) -> None:
        """Begin a life; `start` then picks up what the last one left."""
        self.log = await opened_log(self._disk, self.ambient, self.order, self.node, self._executor)
        self.script = Script()
        self.feed = Feed(self.log)
        self.runtime = Runtime(asyncio.get_running_loop(), ambient=self.ambient)
        self.directory = Directory(self.runtime, self.log, self.feed, self.ambient)
        self.projections: dict[str, Projection] = {}
        host = Host(
            log=self.log,
            directory=self.directory,
            feed=self.feed,
            ambient=self.ambient,
            executor=InlineExecutor(),
            fairness=cast("Fairness", None),  # mail charges nothing by itself
            wait_s=self._wait_s,
            metrics=Metrics(),
            projections=self.projections,
            files=self.files,
            jobs=self.jobs or JobDoor(),
            shared=self.order is not None,
        )
        self.index = MailIndex(host) if self.searching else None
        self.mail = MailDomain(
            host, self.settings, check_mail=self.script if self._scripted else None, index=self.index
        )
        for kind in self.mail.kinds:
            self.directory.register(
                kind.name, kind.decider, kind.effects, stream_prefix=kind.stream_prefix, weigh=kind.weigh
            )
        self._specs = {spec.action: spec for spec in self.mail.actions}

    async def start(self) -> None:
        """See `MailDomain.start`. A node has no work yet."""
        await self.mail.start()
        if self.order is None:
            await self.mail.work()

    async def divide(self, *nodes: str) -> None:
        """Do the part of this node, of what these divide."""
        await self.mail.divide(Share(self.node, nodes))

    async def close(self, drain_s: float = 0.0) -> None:
        """End a life in good order."""
        await self.mail.drain(drain_s)
        await self.mail.close()
        await self.directory.close()
        await self.runtime.stop()
        self.feed.close()
        await self.log.close()

    async def restart(self, drain_s: float = 0.0) -> None:
        """A new life after an orderly end."""
        await self.close(drain_s)
        await self.open()
        await self.start()

    async def crash(self) -> None:
        """A new life after `kill -9`: of what was not durable, chance decides."""
        self._disk.crash(random.Random(1))
        # What is left of the old life runs into a disk that is not its own any more.
        await self.mail.close()
        await self.runtime.stop()
        self.feed.close()
        await self.open()
        await self.start()

    async def reply(
        self,
        action: str,
        user_id: UserId = USER,
        *,
        command_id: str = "",
        who: Principal | None = None,
        **fields: Any,
    ) -> Reply:
        """Call an action as the transport does; a `command_id` makes it recorded."""
        spec = self._specs[action]
        key = CommandKey(f"user/{user_id}", "dev", command_id) if command_id else None
        content = msgspec.json.encode([action, fields])
        params: object = msgspec.convert(fields, spec.params)
        who = who or Principal(user_id, f"user {user_id}")
        return await answer_of(spec.handler(Call(who, "session", action, params, command_id, key, content)))

    async def do(self, action: str, user_id: UserId = USER, **fields: Any) -> dict[str, Any]:
        """The JSON object that an action answers."""
        reply = await self.reply(action, user_id, **fields)
        whole = reply.body if reply.parted is None else b"".join(reply.parted.pieces())
        body: dict[str, Any] = msgspec.json.decode(whole)
        return body

    async def add(self, email: str = "a@example.com", user_id: UserId = USER, **fields: Any) -> int:
        """Add a mailbox; gives its id."""
        given = {"email": email, "password": "canary-password", "mail_type": "imap"} | fields
        body = await self.do("add_email", user_id, **given)
        assert body["type"] == "success", body
        number: int = body["email_id"]
        return number

    async def rows(self, user_id: UserId = USER) -> dict[int, dict[str, Any]]:
        """The user's rows by id."""
        body = await self.do("get_all_emails", user_id)
        return {row["id"]: row for row in body["data"]}

    async def until(
        self, stream: str, seen: Callable[[dict[str, Any]], bool], after: int = 0
    ) -> dict[str, Any]:
        """The first event behind `after` that `seen` says yes to; waits for it."""
        async with aclosing(follow(self.feed, stream, after)) as runs:
            async for run in runs:
                for event in run.events:
                    body: dict[str, Any] = msgspec.json.decode(event.body)
                    if seen(body):
                        return body
        raise AssertionError("a feed never ends")

    async def ended(self, email_id: int, user_id: UserId = USER, *, after: int = 0) -> dict[str, Any]:
        """The terminal status of the mailbox's next check behind `after`."""
        return await self.until(
            f"user/{user_id}",
            lambda body: body.get("email_id") == email_id and body.get("status") in TERMINAL,
            after,
        )

    async def checked(self, email_id: int, user_id: UserId = USER) -> dict[str, Any]:
        """Check a mailbox and wait for the end; gives the terminal status."""
        head = self.log.head(f"user/{user_id}").seq
        body = await self.do("check_emails", user_id, email_ids=[email_id])
        assert body["type"] == "success", body
        return await self.ended(email_id, user_id, after=head)

    def disk_bytes(self) -> bytes:
        """Everything that is stored, as it is stored."""
        return self._disk.read()

    async def events(self) -> list[StoredEvent]:
        """The whole log."""
        return await self.log.read("log", 0, events_max=100_000, bytes_max=1 << 30)

    async def said(self, user_id: UserId = USER, after: int = 0) -> list[dict[str, Any]]:
        """What the user was told behind `after`."""
        events = await self.log.read(f"user/{user_id}", after, events_max=100_000, bytes_max=1 << 30)
        return [msgspec.json.decode(event.body) for event in events]

    async def sound(self) -> None:
        """The rules hold over the whole history."""
        events = await self.events()
        assert broken_checks(events) == []
        assert broken_deletions(events) == []
        assert broken_mails(events) == []


def in_mail_world(
    test: Callable[[MailWorld], Awaitable[None]],
    *,
    commit_s: float = 0.0,
    searching: bool = False,
    **settings: Any,
) -> None:
    """Run `test` in virtual time with scripted checks; its history must be sound at the end."""

    async def main() -> None:
        executor = SlowExecutor(commit_s) if commit_s else StepExecutor()
        world = MailWorld(FakeAmbient(), MailSettings(**settings), executor, searching=searching)
        async with _life(world):
            await test(world)

    run_virtual(main())


def mail_world(**options: Any) -> Callable[[Callable[..., Awaitable[None]]], Callable[..., None]]:
    """A test that runs in a world of its own, its first argument: see `in_mail_world`."""

    def decorated(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
        def run(*args: Any, **given: Any) -> None:
            in_mail_world(lambda world: test(world, *args, **given), **options)

        _, *others = signature(test).parameters.values()
        run.__name__, run.__doc__, run.__module__ = test.__name__, test.__doc__, test.__module__
        run.__signature__ = Signature(others)  # type: ignore[attr-defined]
        return run

    return decorated


@asynccontextmanager
async def real_world(check: CheckLimits = QUICK, **settings: Any) -> AsyncIterator[MailWorld]:
    """In real time with checks over IMAP; its history must be sound at the end."""
    bounds = MailSettings(**{"network": Network(allow_private=True), "check": check, **settings})
    async with _life(MailWorld(SystemAmbient(), bounds, StepExecutor())) as world:
        yield world


def in_real_world(
    test: Callable[[MailWorld], Awaitable[None]], check: CheckLimits = QUICK, **settings: Any
) -> None:
    """Run `test` in a `real_world`."""

    async def main() -> None:
        async with real_world(check, **settings) as world:
            await test(world)

    asyncio.run(main())


@asynccontextmanager
async def _life(world: MailWorld) -> AsyncIterator[MailWorld]:
    async with asyncio.timeout(ALL_WITHIN_S if not isinstance(world.ambient, FakeAmbient) else 100_000):
        await world.open()
        await world.start()
        try:
            yield world
            await world.sound()
        finally:
            await world.close()


async def tables(world: MailWorld, email_id: int = 1) -> dict[str, int]:
    """How many rows each projection has."""
    parts = {MAILS: str(email_id), MAIL: "", CHECKS: "", PURGES: ""}
    return {name: len(await world.log.rows(name, part, limit=1000)) for name, part in parts.items()}
