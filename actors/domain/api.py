"""What others ask of an application's entities: their kinds, commands, states, timers, effects and followers.

What clients may send is in `client_actions`, what happens to jobs in `own_jobs`.
"""

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from huahuo.actors.domain import event_shapes, jobs, rebuilding
from huahuo.actors.domain.bounds import Bounds
from huahuo.actors.domain.catalog import Catalog
from huahuo.actors.domain.client_actions import ClientActions
from huahuo.actors.domain.decider import EntityDecider
from huahuo.actors.domain.decision import Refused
from huahuo.actors.domain.entity import Entity
from huahuo.actors.domain.firing import SERVICE, FiredTogether, TimerCommands
from huahuo.actors.domain.fold import Held
from huahuo.actors.domain.following import reader
from huahuo.actors.domain.messages import CommandMessage
from huahuo.actors.domain.names import COUNTER, is_key, key_of
from huahuo.actors.domain.own_jobs import OwnJobs
from huahuo.actors.domain.row_versions import RowVersions
from huahuo.actors.domain.sent import Done, Sent
from huahuo.actors.domain.settings import EntitySettings
from huahuo.actors.domain.structs import holds_secret, traits
from huahuo.actors.domain.working import EntityOwners, specs_of
from huahuo.actors.effects import facts as effect_facts
from huahuo.actors.effects.book import BookDecider
from huahuo.actors.effects.book import weigh as weigh_book
from huahuo.actors.effects.bounds import Bounds as EffectBounds
from huahuo.actors.effects.facts import Cancel, Start
from huahuo.actors.effects.runner import Effects
from huahuo.actors.effects.streams import EffectStreams
from huahuo.actors.entities.decider import Answer, Origin
from huahuo.actors.entities.entity import Execute, Query
from huahuo.actors.entities.sharing import NOTHING, WHOLE, Share
from huahuo.actors.followers.followers import Followers
from huahuo.actors.followers.spec import Spec as FollowerSpec
from huahuo.actors.plugins.plugin import EntityKind, Host
from huahuo.actors.plugins.traceparent import carried
from huahuo.actors.timers.clockwork import Clockwork
from huahuo.actors.timers.timer import Timer
from huahuo.eventstore.model import StoredEvent

EFFECT_STREAMS: Final = f"{effect_facts.KIND}/"
TIMERS_IDS: Final = "timer/"
"""What the ids of commands of timers begin with."""
_ENTITY_BYTES: Final = 1_500
"""What an entity with a small state takes in memory."""


class EntityApi:
    """What others ask of the entities. All methods belong to the loop's thread."""

    def __init__(self, catalog: Catalog, host: Host, followers: Sequence[FollowerSpec] = ()) -> None:
        self.catalog = catalog
        self._host = host
        given = host.settings if isinstance(host.settings, EntitySettings) else EntitySettings()
        bounds = Bounds(given.decision_events_max, given.state_bytes_max, given.effect_bytes_max)
        versions = RowVersions(catalog, shared=host.shared)
        self._deciders = {
            kind: EntityDecider(entity, catalog, bounds, versions) for kind, entity in catalog.by_kind.items()
        }
        for decider in self._deciders.values():
            decider.look_at_code()
        waiting_max = given.effects_waiting_max
        self.effects = Effects(
            log=host.log,
            ambient=host.ambient,
            books=EffectStreams(
                host.log,
                host.directory,
                host.ambient,
                EntityOwners(catalog, host.directory),
                running=self._running,
            ),
            specs=specs_of(catalog),
            wait_s=host.wait_s,
            shared=host.shared,
            bounds=EffectBounds(
                at_once=given.effects_at_once,
                waiting_max=waiting_max,
                waiting_per_user_max=waiting_max // 2,
            ),
        )
        self.followers = Followers(
            followers, log=host.log, feed=host.feed, ambient=host.ambient, read=reader(catalog)
        )
        self.jobs = OwnJobs(self, catalog.by_kind[jobs.KIND], host.log, host.feed)
        self.messages = {
            action: CommandMessage(entity, cls) for action, (entity, cls) in catalog.by_action.items()
        }
        self.clients = ClientActions(catalog, host, self._deciders, self.messages, self.execute)
        """What clients may send."""
        self.timer_commands: TimerCommands = {
            f"{kind}/{traits(cls).name}": (entity, msgspec.json.Decoder(cls))
            for kind, entity in catalog.by_kind.items()
            for cls in entity.decides
            if not holds_secret(cls)
        }
        self.timers = Clockwork(host.log, host.ambient, self)
        self._share: Share = NOTHING if host.shared else WHOLE
        self._untap = _nothing

    async def start(self) -> None:
        """Compare today's events with those of the log.

        Raises:
            ValueError: today's classes cannot read some of them. The text says which, and what to write.
        """
        entities, log = self.catalog.by_kind.values(), self._host.log
        for said in await event_shapes.differences(log, entities, shared=self._host.shared):
            raise ValueError(said)
        for entity in entities:
            self._deciders[entity.kind].kept = await event_shapes.kept(log, entity)

    async def work(self) -> None:
        """Go on with the timers, effects and followers of an earlier process, and end its jobs.

        Where nodes share the log, `divide` says which of them.

        Raises:
            ValueError: one of them has a name that today's code does not know.
        """
        now_ms = self._host.ambient.now_ms()
        await rebuilding.finish(self._host.log, self.catalog, now_ms=now_ms)
        await rebuilding.notice_new(self._host.log, self.catalog, now_ms=now_ms, shared=self._host.shared)
        await self.timers.finish_rebuilding()
        if self._host.shared:
            return
        await self.timers.start(frozenset(self.timer_commands))
        await self.effects.start()
        await self.jobs.end_left()
        await self.followers.start()

    async def known(self) -> None:
        """Whether today's code knows all timers and effects that are open now. Raises as `work`."""
        await self.timers.known(frozenset(self.timer_commands))
        await self.effects.known()

    async def finalize(self, by: str) -> None:
        """See `Brought`."""
        await rebuilding.finalize(self._host.log, self.catalog, now_ms=self._host.ambient.now_ms(), by=by)

    async def divide(self, share: Share) -> None:
        """Do this part of what nodes divide, and no other. Raises as `work`."""
        before, self._share = self._share, share
        self.timers.divide(share)
        self.effects.divide(share)
        await self.jobs.divide(share)
        if not share.is_nothing and before.is_nothing:
            self._untap = self._host.feed.tap(self._heard)
            await self.timers.start(frozenset(self.timer_commands))
            await self.effects.start()
            await self.followers.start(share)
        elif not share.is_nothing:
            await self.followers.divide(share)
        elif not before.is_nothing:
            self._untap()
            await self.timers.close()
            await self.effects.rest()
            await self.followers.close()

    def _running(self, living: frozenset[str]) -> frozenset[str]:
        return self._share.running(living)

    def _heard(self, by_stream: Mapping[str, Sequence[StoredEvent]] | None) -> None:
        """What decisions of other nodes ask for. What is missed here is found in the table of effects."""
        for stream, events in (by_stream or {}).items():
            if stream.startswith(EFFECT_STREAMS):
                for event in events:
                    self._asked(event)

    def _asked(self, event: StoredEvent) -> None:
        if event.type == effect_facts.CANCEL_ASKED:
            self.effects.committed(Cancel(effect_facts.cancelled_in(event)), event.entity)
        elif event.type == effect_facts.REQUESTED and not event.command_id.startswith(TIMERS_IDS):
            # A timer's place in a trace stands in the row alone.
            self.effects.asked(*effect_facts.requested_in(event, carried(event.command_id)))

    async def drain(self, timeout_s: float) -> None:
        """Let the effects and deliveries under way come to their end."""
        await asyncio.gather(self.effects.drain(timeout_s), self.followers.drain(timeout_s))

    async def close(self) -> None:
        """Fire no more timers, stop effects and followers; the next start goes on with them. Idempotent."""
        self._untap()
        await self.jobs.close()
        await self.timers.close()
        await self.effects.close()
        await self.followers.close()

    async def idle(self) -> None:
        """Return when no due timer, no effect and no event for a follower waits or runs."""
        await self.timers.idle()
        await self.effects.idle()
        await self.followers.idle()

    def kinds(self) -> list[EntityKind]:
        """Each entity for the directory."""
        own = [
            EntityKind(
                name=kind,
                decider=decider,
                effects=partial(self._started, kind),
                weigh=_weigh,
                readers=decider.readable,
                unjudged=decider.entity.may_read is None,
                today=decider.current if decider.entity.upcasts else None,
                keyframe_every=decider.entity.keyframe_every or 0,
            )
            for kind, decider in self._deciders.items()
        ]
        return [*own, EntityKind(name=effect_facts.KIND, decider=BookDecider(), weigh=weigh_book)]

    async def snapshot(self, stream: str) -> tuple[int, bytes]:
        """See `SnapshotOf`. Raises LookupError: no entity can have this name."""
        kind, _, rest = stream.partition("/")
        key = key_of(rest, self.catalog.by_kind[kind].key)
        if key is None:
            raise LookupError(stream)
        cut: tuple[int, bytes] = await self._host.directory.ask(kind, key, Query(_cut))
        return cut

    async def state(self, kind: str, key: int | str) -> tuple[Any, int]:
        """The state of an entity, and the seq of the last event in it."""
        entity = self.catalog.by_kind[kind]
        if not is_key(key, entity.key):
            raise Refused("invalid_field", f"{kind}_id: no {kind} can have the id {key!r}")
        seen: tuple[Any, int] = await self._host.directory.ask(kind, key, Query(_state_and_seq))
        return seen

    async def execute(
        self, entity: Entity[Any], key: int | str | None, sent: Sent, origin: Origin
    ) -> Answer[Done]:
        """Send a command. Without a key, the log gives the entity one."""
        if key is None:
            await self._host.log.reserve(COUNTER + entity.kind)
            key = self._host.log.take(COUNTER + entity.kind)
        answer: Answer[Done] = await self._host.directory.ask(entity.kind, key, Execute(sent, origin))
        return answer

    def _started(self, kind: str, key: str, item: object, _position: int) -> None:
        """See `Effects` of the engine: each room takes what is its own."""
        match item:
            case event_shapes.Kept():
                self._deciders[kind].kept.add(item.type_name)
            case Start() | Cancel():
                self.effects.committed(item, f"{kind}/{key}")
            case _:
                raise TypeError(f"nothing starts {type(item).__name__}")

    def together(self) -> FiredTogether:
        """See `Fires`."""
        return FiredTogether(self._host.directory, self.timer_commands)

    async def load(self, timers: Sequence[Timer]) -> None:
        """See `Fires`."""
        await self._host.directory.load(
            (kind, key) for kind, _, key in (timer.entity.partition("/") for timer in timers)
        )

    async def fire(self, timer: Timer) -> None:
        """See `Fires`. Raises: it was not decided, or that is not known."""
        entity, decoder = self.timer_commands[f"{timer.kind}/{timer.command}"]
        key = timer.entity.partition("/")[2]
        sent = Sent(decoder.decode(timer.fields), command_id=timer.id, timer=timer)
        await self._host.directory.ask(entity.kind, key, Execute(sent, Origin(SERVICE, timer.id)))


def _nothing() -> None:
    pass


def _weigh(held: Held) -> int:
    return _ENTITY_BYTES + 4 * held.size


def _cut(seq: int, held: Held) -> tuple[int, bytes]:
    return seq, msgspec.json.encode(held.state)


def _state_and_seq(seq: int, held: Held) -> tuple[Any, int]:
    return held.state, seq
