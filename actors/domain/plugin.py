"""The entities of an application as one plug-in. The kind `job` is always among them.

`EntityApi` is what others ask of them: their kinds, commands, states, timers, effects and followers. What
clients may send is in `client_actions`, what happens to jobs in `job_service`. `past_of` gives the
entities, and their effects and timers (`effect/order/1`, `timer/order/1`), as time travel and audits know
them without a running service.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from huahuo.actors.domain import event_shapes, jobs, projection_rows, projections
from huahuo.actors.domain.catalog import Catalog, refuse_unhandled
from huahuo.actors.domain.client_actions import ClientActions, CommandMessage, Lists
from huahuo.actors.domain.decider import Bounds, EntityDecider
from huahuo.actors.domain.effect_streams import EffectStreams
from huahuo.actors.domain.entity import Entity
from huahuo.actors.domain.fold import EntityFold, Held
from huahuo.actors.domain.job_service import OwnJobs
from huahuo.actors.domain.live_lists import LiveLists
from huahuo.actors.domain.projection_rows import RowVersions
from huahuo.actors.domain.storable import COUNTER, as_builtins, holds_sets, is_key, key_of
from huahuo.actors.domain.structs import DefinitionError, Refused, holds_secret, place_of_user, traits
from huahuo.actors.domain.work_specs import (
    FiredTogether,
    Following,
    TimerCommands,
    reader,
    specs_of,
)
from huahuo.actors.domain.writing import Done, Sent
from huahuo.actors.effects import facts
from huahuo.actors.effects import facts as effect_facts
from huahuo.actors.effects.books import Bookkeeping
from huahuo.actors.effects.facts import Cancel, Start
from huahuo.actors.effects.queue import Bounds as EffectBounds
from huahuo.actors.effects.runner import Effects
from huahuo.actors.entities.decider import Answer, Origin
from huahuo.actors.entities.entity import Execute, Query
from huahuo.actors.entities.rendezvous_hash import NOTHING, WHOLE, Share
from huahuo.actors.followers.follower import Followers
from huahuo.actors.followers.spec import Spec as FollowerSpec
from huahuo.actors.plugins import en, zh
from huahuo.actors.plugins.calls import SERVICE, carried
from huahuo.actors.plugins.past import Past
from huahuo.actors.plugins.plugin import Brought, EntityKind, Host, Plugin
from huahuo.actors.timers.clockwork import Clockwork
from huahuo.actors.timers.timer import FIRED, STREAMS, PendingTimers, Timer, series_of
from huahuo.eventstore.ambient import rfc3339
from huahuo.eventstore.model import StoredEvent
from huahuo.eventstore.port import Log
from huahuo.replay.history.history import History
from huahuo.replay.history.keyframes import state_at
from huahuo.replay.history.subject import FoldSubject, Part, Subject


class EntitySettings(msgspec.Struct, frozen=True):
    """Bounds of an application's entities."""

    decision_events_max: Annotated[int, Meta(ge=1, le=65_536)] = Bounds().decision_events_max
    """Events, effects or rows that one decision of an entity may have."""
    state_bytes_max: Annotated[int, Meta(ge=1)] = Bounds().state_bytes_max
    """Bytes that the state of one entity may have."""

    effect_bytes_max: Annotated[int, Meta(ge=1)] = Bounds().effect_bytes_max
    """Bytes that the arguments of one effect may have, as JSON."""
    effects_at_once: Annotated[int, Meta(ge=1)] = EffectBounds().at_once
    """Effects that run at a time."""
    effects_waiting_max: Annotated[int, Meta(ge=2)] = EffectBounds().waiting_max
    """Effects that wait in memory, half of them of one user; the others wait in the log."""


KINDS: Final = (facts.KIND, STREAMS.rstrip("/"))


class EffectsSubject(FoldSubject):
    """`effect/order/1`: the open effects by id."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream, Bookkeeping())

    def show(self, states: Sequence[Any]) -> dict[str, Any]:
        """See `Subject`."""
        shown: dict[str, Any] = msgspec.to_builtins(states[0], str_keys=True)
        return shown


class TimersSubject(FoldSubject):
    """`timer/order/1`: the pending timers by name."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream, PendingTimers())

    def show(self, states: Sequence[Any]) -> dict[str, Any]:
        """See `Subject`."""
        pending: dict[str, Timer] = states[0]
        return {
            name: {
                "command": timer.command,
                "fields": msgspec.json.decode(timer.fields),
                "due": rfc3339(timer.due_ms),
                "every_s": timer.every_ms / 1000 or None,
            }
            for name, timer in sorted(pending.items())
        }


def work_subject(stream: str) -> Subject | None:
    """The subject of an entity's effects or timers, None for any other stream."""
    kind, _, entity = stream.partition("/")
    if kind not in KINDS or "/" not in entity:
        return None
    return EffectsSubject(stream) if kind == facts.KIND else TimersSubject(stream)


class EntitySubject:
    """`order/1`: its state, field by field. Sets are sorted, so that equal ones are shown alike."""

    rising = frozenset[str]()

    def __init__(self, stream: str, fold: EntityFold, *, sets: bool) -> None:
        """`sets`: whether the state may hold any."""
        self.entity = self.stream = stream
        self.parts = (Part(stream, fold),)
        self._sets = sets

    def concerns(self, event: StoredEvent) -> bool:
        """See `Subject`."""
        del event
        return True

    def show(self, states: Any) -> dict[str, Any]:
        """See `Subject`."""
        held: Held = states[0]
        state = held.state
        shown: dict[str, Any] = (
            as_builtins(state) if self._sets else msgspec.to_builtins(state, str_keys=True)
        )
        return shown

    def glimpse(self, states: Any, event: StoredEvent) -> dict[str, Any]:
        """See `Subject`."""
        del event
        return self.show(states)


_MESSAGE: Final = frozenset({"message"})
_WORDED: Final = dict.fromkeys(("job_progress", "job_message", "job_ended"), _MESSAGE)
"""What those who watch a job are told. Jobs of plug-ins say a text of their catalogue."""


def past_of(catalog: Catalog) -> Past:
    """What is known of the history of these entities."""
    folds = {kind: EntityFold(entity) for kind, entity in catalog.by_kind.items()}
    sets = {kind for kind, entity in catalog.by_kind.items() if holds_sets(entity.state)}

    def own_subject(stream: str) -> Subject | None:
        kind, _, rest = stream.partition("/")
        fold = folds.get(kind)
        if kind in KINDS:
            return work_subject(stream)
        if fold is None or key_of(rest, fold.entity.key) is None:
            return None
        return EntitySubject(stream, fold, sets=kind in sets)

    async def subject_of(history: History, entity: str) -> Subject | None:
        subject = own_subject(entity)
        if subject is not None and not history.head(entity).seq:
            raise LookupError(f"nothing ever happened to {entity}")
        return subject

    def today(event: StoredEvent) -> StoredEvent:
        fold = folds.get(event.stream.partition("/")[0])
        return event if fold is None else fold.current(event)

    async def snapshot(log: Log, stream: str) -> tuple[int, bytes]:
        seq, held = await state_at(log, stream, folds[stream.partition("/")[0]])
        return seq, msgspec.json.encode(held.state)

    return Past(
        subject_of=subject_of,
        own_subject=own_subject,
        kinds=(*folds, *KINDS),
        today=today,
        snapshots=dict.fromkeys(folds, snapshot),
        entity_fields={f"{kind}_id": kind for kind in folds},
        prunable=catalog.prunable_types | {FIRED},
        series_of=series_of,
        worded=_WORDED,
    )


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
        books = EffectStreams(host.log, host.directory, host.ambient, catalog)
        self.effects = Effects(
            log=host.log,
            ambient=host.ambient,
            books=books,
            specs=specs_of(catalog),
            wait_s=host.wait_s,
            shared=host.shared,
            bounds=EffectBounds(
                at_once=given.effects_at_once,
                waiting_max=waiting_max,
                waiting_per_user_max=waiting_max // 2,
            ),
        )
        books.running = self.effects.running_of
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
        await projections.finish(self._host.log, self.catalog, now_ms=now_ms)
        await projections.notice_new(self._host.log, self.catalog, now_ms=now_ms, shared=self._host.shared)
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
        await projections.finalize(self._host.log, self.catalog, now_ms=self._host.ambient.now_ms(), by=by)

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
        return [
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

    async def snapshot(self, stream: str) -> tuple[int, bytes]:
        """See `SnapshotOf`. Raises LookupError: no entity can have this name."""
        kind, _, rest = stream.partition("/")
        key = key_of(rest, self.catalog.by_kind[kind].key)
        if key is None:
            raise LookupError(stream)
        cut: tuple[int, bytes] = await self._host.directory.ask(
            kind, key, Query(lambda seq, held: (seq, msgspec.json.encode(held.state)))
        )
        return cut

    async def viewed(self, stream: str) -> tuple[int, bytes]:
        """As `snapshot`, of what `@entity.view` shows."""
        kind, _, rest = stream.partition("/")
        entity = self.catalog.by_kind[kind]
        key, shown = key_of(rest, entity.key), entity.shown
        if key is None:
            raise LookupError(stream)
        assert shown is not None, "only such kinds are asked"
        given = (key,) if entity.view_takes_id else ()
        cut: tuple[int, bytes] = await self._host.directory.ask(
            kind, key, Query(lambda seq, held: (seq, msgspec.json.encode(shown(held.state, *given))))
        )
        return cut

    async def state(self, kind: str, key: int | str) -> tuple[Any, int]:
        """The state of an entity, and the seq of the last event in it."""
        entity = self.catalog.by_kind[kind]
        if not is_key(key, entity.key):
            raise Refused("invalid_field", f"{kind}_id: no {kind} can have the id {key!r}")
        seen: tuple[Any, int] = await self._host.directory.ask(
            kind, key, Query(lambda seq, held: (held.state, seq))
        )
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


class Entities(Plugin):
    """See the module.

    Raises:
        DefinitionError: the declarations contradict each other.
    """

    name = "entities"
    settings = EntitySettings

    def __init__(self, entities: Iterable[Entity[Any]]) -> None:
        if not isinstance(entities, Iterable):
            raise DefinitionError(
                f"{place_of_user()}: entities: {entities!r:.60} is no list: write entities=[order]"
            )
        job = jobs.job_entity()
        jobs.add_to(job)
        self.catalog = Catalog((job, *entities))
        self.lists = Lists(self._taken)
        self.live = LiveLists()
        self.following = Following()
        self.clockwork: Clockwork | None = None
        """What fires the timers, once they were brought to a service."""
        self._past = past_of(self.catalog)

    @property
    def event_types(self) -> frozenset[str]:
        """See `Plugin`."""
        return self.catalog.event_types

    @property
    def past(self) -> Past:
        """See `Plugin`."""
        return self._past

    def _taken(self, action: str) -> str | None:
        if action in self.catalog.by_action:
            return f"it is the action of {self.catalog.by_action[action][1].__name__}"
        asked = next((one for one in self.catalog.by_kind.values() if action in one.queries), None)
        return None if asked is None else f"Entity({asked.kind!r}) answers it already"

    def bring(self, host: Host) -> Brought:
        """See `Plugin`."""
        self.catalog.refuse_late()
        refuse_unhandled(self.catalog.by_kind.values())
        self.catalog.warn()
        self.following.check(
            {*self.catalog.by_kind, *host.directory.kinds}, projections.tables(host.log, self.catalog)
        )
        api = EntityApi(self.catalog, host, tuple(self.following.by_name.values()))
        host.jobs.jobs = api.jobs
        api.followers.show(host.metrics)
        effects = api.effects
        effects.show(host.metrics)
        self.clockwork = timers = api.timers
        host.metrics.gauge(
            "timers_in_memory", "Timers that are read ahead or being fired.", lambda: timers.in_memory
        )
        host.metrics.gauge(
            "timers_late_seconds", "How long the oldest due timer has waited.", lambda: timers.late_s
        )
        host.metrics.total("timers_fired", "Timers whose command was decided.", lambda: timers.fired)
        host.metrics.total("timers_failed", "Firings that failed and are tried again.", lambda: timers.failed)
        return Brought(
            kinds=api.kinds(),
            actions=[
                *api.clients.actions(),
                *(api.clients.list_action(one) for one in self.lists.by_action.values()),
                *projections.actions(host, self.catalog, api.followers),
            ],
            lists=list(self.live.by_name.values()),
            snapshots=dict.fromkeys(self.catalog.by_kind, api.snapshot),
            views={kind: api.viewed for kind, entity in self.catalog.by_kind.items() if entity.shown},
            guarded=frozenset({*self.catalog.by_kind, "effect", "timer", "projection"}),
            right_types=self.catalog.right_types,
            words=(zh, en),
            at_work=effects.at_work,
            start=api.start,
            work=api.work,
            divide=api.divide,
            known=api.known,
            version=projection_rows.code_of_all(self.catalog),
            finalize=api.finalize,
            drain=api.drain,
            close=api.close,
            trace=effects.trace,
            idle=api.idle,
            api=api,
        )
