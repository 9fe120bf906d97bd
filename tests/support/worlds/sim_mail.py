"""What simulated nodes divide: mailboxes with servers that outlive every fault, and crates.

Crates are entities with effects, timers and followers. What happens outside is noted.
"""

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from huahuo import (
    After,
    Command,
    Context,
    Decision,
    Effect,
    EffectRun,
    Entity,
    Event,
    Every,
    Followed,
    Outcome,
)
from huahuo.actors.domain.plugin import Entities
from huahuo.actors.plugins.calls import Call, Principal
from huahuo.actors.plugins.plugin import Host
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.executor import InlineExecutor
from huahuo.mailcheck.checks.backoff import Pace
from huahuo.mailcheck.checks.check_effect import GraphTarget, Ok, Sink, Target
from huahuo.mailcheck.events import UidCursor
from huahuo.mailcheck.plugin.domain import MailDomain, MailSettings
from huahuo.transport.commands.gate import answer_of
from huahuo.transport.load.metrics import Metrics
from tests.support.models.mail_book import cursor, mail
from tests.support.worlds.orders import Engine

if TYPE_CHECKING:
    from huahuo.actors.entities.entity import Fairness

USER: Final = 7
MAILBOXES: Final = 6
POLL_S: Final = 8.0


class Servers:
    """The mail servers of all mailboxes: how many mails lie in each, and who read it."""

    def __init__(self) -> None:
        self.mails: dict[str, int] = {f"{n}@x.example": 0 for n in range(MAILBOXES)}
        self.readers: dict[str, set[str]] = {address: set() for address in self.mails}
        """By address: the nodes that read it since this was cleared."""
        self.full = False
        """Whether no more mails come."""


class SimMail:
    """The mail domain of one life of a node."""

    def __init__(self, engine: Engine, ambient: Ambient, servers: Servers, node: str, seed: str) -> None:
        self._servers = servers
        self._node = node
        self._chance = random.Random(seed)
        self._commands = 0
        host = Host(
            log=engine.log,
            directory=engine.directory,
            feed=engine.feed,
            ambient=ambient,
            executor=InlineExecutor(),
            fairness=cast("Fairness", None),  # mail charges nothing by itself
            wait_s=lambda _user_id: 0.0,
            metrics=Metrics(),
            shared=True,
        )
        settings = MailSettings(watch=Pace(poll_s=POLL_S), checks_per_host_max=4)
        self.domain = MailDomain(host, settings, check_mail=self._read)
        for kind in self.domain.kinds:
            engine.directory.register(
                kind.name, kind.decider, kind.effects, stream_prefix=kind.stream_prefix, weigh=kind.weigh
            )
        self._actions = {spec.action: spec for spec in self.domain.actions}

    async def ask(self, action: str, **fields: Any) -> dict[str, Any]:
        """The answer to a command of the user's."""
        self._commands += 1
        spec = self._actions[action]
        params: Any = msgspec.convert(fields, spec.params)
        who = Principal(USER, "carol")
        reply = await answer_of(spec.handler(Call(who, "s", action, params, f"m{self._commands}", None, b"")))
        body = reply.body if reply.parted is None else b"".join(reply.parted.pieces())
        found: dict[str, Any] = msgspec.json.decode(body)
        return found

    async def add_all(self) -> None:
        """Add every mailbox; every second one is watched."""
        for address in self._servers.mails:
            await self.ask(
                "add_email", email=address, password="p", mail_type="imap", server="imap.x.example"
            )
        rows = (await self.ask("get_all_emails"))["data"]
        await self.ask("watch_emails", email_ids=[row["id"] for row in rows][::2], on=True)

    async def check_some(self) -> None:
        """Ask for checks of a few mailboxes; some are cancelled, and watching changes."""
        rows = (await self.ask("get_all_emails"))["data"]
        if not rows:
            return
        some = [row["id"] for row in self._chance.sample(rows, min(len(rows), 2))]
        match self._chance.randint(0, 9):
            case 0:
                await self.ask("cancel_check", email_ids=some)
            case 1:
                await self.ask("watch_emails", email_ids=some, on=self._chance.random() < 0.5)
            case _:
                await self.ask("check_emails", email_ids=some)

    async def _read(self, target: Target | GraphTarget, since: UidCursor | None, sink: Sink) -> Ok:
        assert isinstance(target, Target)
        servers, address = self._servers, target.user
        servers.readers[address].add(self._node)
        if not servers.full and self._chance.random() < 0.5:
            servers.mails[address] += 1
        last = since.uid if since is not None else 0
        there = servers.mails[address]
        for uid in range(last + 1, there + 1):
            await asyncio.sleep(self._chance.random() * 0.5)
            await sink.mails([mail(uid)], cursor(uid))
        return Ok(0, cursor(there), resynced=False)


FOLLOWERS: Final = tuple(f"crm-{number}" for number in range(4))
WEIGHED_AT_ONCE: Final = 4
RETRIES: Final = 1000


class Packed(Event, type="crate_packed"): ...


class Carried(Event, type="crate_carried"): ...


class Weighed(Event, type="crate_weighed"): ...


class Rang(Event, type="crate_rang"): ...


class Crate(Struct, frozen=True):
    carried: int = 0
    weighed: int = 0
    rings: int = 0


class Pack(Command, action="pack_crate", creates=True):
    seconds: float
    again: bool = False


class Ring(Command): ...


class RingAgain(Command): ...


class Carry(Effect): ...


class Weigh(Effect): ...


@dataclass
class Outside:
    """What was done outside of the log, by all nodes."""

    seconds: float = 1.0
    """How long an effect takes at most."""
    fails: float = 0.1
    """The share of its runs that fail."""
    begun: defaultdict[str, list[tuple[str, float]]] = field(default_factory=lambda: defaultdict(list))
    """By class and crate: the node and time of each run."""
    running: Counter[str] = field(default_factory=Counter)
    """By node: runs of the class that has a bound."""
    delivered: defaultdict[str, list[tuple[str, int]]] = field(default_factory=lambda: defaultdict(list))
    """By follower: (node, position) of each event that it was given."""


def crates(outside: Outside, node: str, chance: random.Random) -> Entity[Crate]:
    """The kind `crate` on this node."""
    crate = Entity("crate", Crate)

    @crate.evolve
    def packed(state: Crate, event: Packed) -> Crate:
        return state

    @crate.evolve
    def carried(state: Crate, event: Carried) -> Crate:
        return replace(state, carried=state.carried + 1)

    @crate.evolve
    def weighed(state: Crate, event: Weighed) -> Crate:
        return replace(state, weighed=state.weighed + 1)

    @crate.evolve
    def rang(state: Crate, event: Rang) -> Crate:
        return replace(state, rings=state.rings + 1)

    @crate.decide
    def pack(state: Crate, command: Pack, ctx: Context) -> Outcome:
        bells: list[Any] = [After(command.seconds, Ring())]
        if command.again:
            bells.append(Every(command.seconds, RingAgain()))
        return Decision([Packed()], effects=[Carry(), Weigh(), *bells])

    @crate.decide
    def ring(state: Crate, command: Ring, ctx: Context) -> Outcome:
        return [Rang()]

    @crate.decide
    def ring_again(state: Crate, command: RingAgain, ctx: Context) -> Outcome:
        return []

    async def work(name: str, run: EffectRun) -> None:
        outside.begun[f"{name} crate/{run.id}"].append((node, asyncio.get_running_loop().time()))
        await asyncio.sleep(chance.random() * outside.seconds)
        if chance.random() < outside.fails:
            raise ConnectionError

    @crate.effect(retries=RETRIES, backoff_s=0.2)
    async def carry(job: Carry, run: EffectRun) -> None:
        await work("carry", run)
        await run.finish(Carried())

    @crate.effect(retries=RETRIES, backoff_s=0.2, at_once=WEIGHED_AT_ONCE)
    async def weigh(job: Weigh, run: EffectRun) -> None:
        outside.running[node] += 1
        try:
            await work("weigh", run)
        finally:
            outside.running[node] -= 1
        if not run.state.weighed:
            await run.emit(Weighed())

    @crate.readers
    def may_read(state: Crate, who: Principal) -> bool:
        return True

    return crate


def follow(outside: Outside, node: str, entities: Entities) -> None:
    """The followers on this node."""

    def declare(name: str) -> None:
        @entities.following.follower(name, kinds=["crate"])
        async def take(events: Sequence[Followed]) -> None:
            outside.delivered[name] += [(node, event.position) for event in events]

    for name in FOLLOWERS:
        declare(name)
