"""A shop's orders as an application writes them, and an engine that runs any entities, for tests of both."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from huahuo import After, Command, Context, Decision, Effect, Entity, Event, Outcome, Principal, Refused, to
from huahuo.actors.actor.runtime import Runtime
from huahuo.actors.domain.plugin import Entities, EntityApi, EntitySettings
from huahuo.actors.entities.directory import Directory, DirectoryLimits
from huahuo.actors.entities.entity import Query
from huahuo.actors.plugins.actions import Registry
from huahuo.actors.plugins.calls import Call, Reply
from huahuo.actors.plugins.plugin import Host
from huahuo.app.foundation import Fairness
from huahuo.eventstore.ambient import Ambient, FakeAmbient
from huahuo.eventstore.executor import InlineExecutor
from huahuo.eventstore.model import CommandKey
from huahuo.replay.feed import Feed
from huahuo.testing.world import run_virtual
from huahuo.transport.commands.gate import answer_of
from huahuo.transport.load.fair_queueing import Turns
from huahuo.transport.load.shares import Shares
from huahuo.transport.protocol import incoming
from tests.support.models.faulty_log import FaultyLog, faulty_log


class Placed(Event, type="order_placed"):
    owner: int | str
    item: str


class Packed(Event, type="order_progress", prunable=True):
    percent: int


class Given(Event, type="order_given", rights=True):
    to: int | str


class Noted(Event, type="order_noted"):
    order_id: int


class Order(Struct, frozen=True):
    owner: int | str = 0
    item: str = ""
    percent: int = 0
    status: str = "new"


class Place(Command, action="place_order", creates=True):
    item: Annotated[str, Meta(max_length=20)]


class Cancel(Command, action="cancel_order"):
    reason: str = ""


class Give(Command, action="give_order"):
    to: int


class Report(Command, action="report_order", open=True):
    percent: int


class Expire(Command): ...


class Pack(Effect):
    item: str


def orders() -> Entity[Order]:
    """The kind `order`, declared anew."""
    order = Entity("order", Order)

    @order.evolve
    def placed(state: Order, event: Placed) -> Order:
        return replace(state, owner=event.owner, item=event.item, status="placed")

    @order.evolve
    def packed(state: Order, event: Packed) -> Order:
        return replace(state, percent=event.percent)

    @order.evolve
    def given(state: Order, event: Given) -> Order:
        return replace(state, owner=event.to)

    @order.decide
    def place(state: Order, command: Place, ctx: Context) -> Outcome:
        if not command.item:
            return Refused("invalid_field", "item must not be empty")
        return Decision(
            [
                Placed(owner=ctx.user_id or 0, item=command.item),
                to(f"user/{ctx.user_id}", Noted(int(ctx.id))),
            ],
            effects=[Pack(command.item), After(3600, Expire())],
        )

    @order.decide
    def cancel(state: Order, command: Cancel, ctx: Context) -> Outcome:
        return Refused("conflict", "already on its way")

    @order.decide
    def give(state: Order, command: Give, ctx: Context) -> Outcome:
        return [Given(command.to)]

    @order.decide
    def report(state: Order, command: Report, ctx: Context) -> Outcome:
        return [Packed(command.percent)]

    @order.decide
    def expire(state: Order, command: Expire, ctx: Context) -> Outcome:
        return []

    @order.effect
    async def pack(job: Pack, run: Any) -> None: ...

    @order.readers
    def may_read(state: Order, who: Principal) -> bool:
        return who.user_id == state.owner

    @order.query("get_order")
    def get_order(state: Order, who: Principal) -> object:
        return state

    return order


ALICE = Principal(42, "alice")
BOB = Principal(7, "bob")
ADMIN = Principal(1, "root", is_admin=True)


class Nothing:
    """Metrics that nobody reads."""

    def gauge(self, name: str, text: str, value: Callable[[], float]) -> None: ...
    def total(self, name: str, text: str, value: Callable[[], float]) -> None: ...


class Engine:
    """A directory that runs an application's entities over a log that can misbehave."""

    def __init__(
        self,
        log: FaultyLog,
        entities: list[Entity[Any]],
        settings: EntitySettings | None = None,
        ambient: Ambient | None = None,
        declare: Callable[[Entities], None] | None = None,
        *,
        shared: bool = False,
    ) -> None:
        loop, ambient = asyncio.get_running_loop(), ambient or FakeAmbient()
        self.log = log
        self.runtime = Runtime(loop, ambient=ambient)
        self.feed = feed = Feed(log)
        fairness = Fairness(Turns(Shares(), loop.time))
        self.directory = Directory(
            self.runtime, log, feed, ambient, limits=DirectoryLimits(), fairness=fairness
        )
        self.plugin = Entities(entities)
        if declare is not None:
            declare(self.plugin)
        self.brought = brought = self.plugin.bring(
            Host(
                log=log,
                directory=self.directory,
                feed=feed,
                ambient=ambient,
                executor=InlineExecutor(),
                fairness=fairness,
                wait_s=lambda _user: 0.0,
                metrics=Nothing(),
                settings=settings,
                shared=shared,
            )
        )
        for kind in brought.kinds:
            self.directory.register(kind.name, kind.decider, kind.effects, weigh=kind.weigh)
        self.registry = Registry()
        for action in brought.actions:
            self.registry.command(action)
        assert isinstance(brought.api, EntityApi)
        self.api = brought.api

    async def send(
        self, action: str, who: Principal = ALICE, *, as_id: str | None = None, **fields: Any
    ) -> Any:
        """Send a message as the transport does, and return the reply as it would be shown."""
        spec = self.registry.commands[action]
        params: Any = incoming.convert(incoming.Parsed(action, as_id, fields), spec.params)
        if isinstance(params, incoming.Invalid):
            return {"type": "error", "code": str(params.code), "details": params.details}
        key = None if as_id is None else CommandKey(who.name, "dev", as_id)
        call: Call[Any] = Call(who, "s", action, params, as_id or "x", key, b"content" if key else b"")
        return shown(await answer_of(spec.handler(call)))

    async def may_read(self, kind: str, key: int | str, who: Principal) -> bool:
        """Whether `who` may read this entity now, as the service asks it."""
        readers = next(one.readers for one in self.brought.kinds if one.name == kind)
        asked: Query[Any, bool] = Query(lambda _seq, held: readers is not None and readers(held, who))
        return bool(await self.directory.ask(kind, key, asked))

    async def bodies(self, stream: str) -> list[dict[str, Any]]:
        """The events of a stream, without their time."""
        events = await self.log.read(stream, 0, events_max=100)
        found = [msgspec.json.decode(event.body, type=dict[str, Any]) for event in events]
        return [{name: value for name, value in body.items() if name != "timestamp"} for body in found]


def shown(reply: Reply) -> dict[str, Any]:
    """A reply with its `at` and `duplicate`, as a client gets it."""
    said = msgspec.json.decode(reply.body, type=dict[str, Any])
    if reply.at is not None:
        said["at"] = {"stream": reply.at[0], "seq": reply.at[1]}
    return said | ({"duplicate": True} if reply.duplicate else {})


def in_engine(
    test: Callable[[Engine], Awaitable[None]],
    entities: list[Entity[Any]] | None = None,
    settings: EntitySettings | None = None,
) -> None:
    """Run `test` with an engine of these entities (default: orders), in virtual time."""

    async def main() -> None:
        engine = Engine(await faulty_log(), [orders()] if entities is None else entities, settings)
        async with asyncio.timeout(100_000):
            await test(engine)
            await engine.directory.close()
            await engine.runtime.stop()

    run_virtual(main())
