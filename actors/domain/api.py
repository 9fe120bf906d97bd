"""What others ask of an application's entities: their kinds, commands, queries, snapshots and timers."""

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from huahuo.actors.domain import jobs, rebuilding
from huahuo.actors.domain.bounds import Bounds
from huahuo.actors.domain.catalog import Catalog
from huahuo.actors.domain.decider import EntityDecider
from huahuo.actors.domain.decision import Refused
from huahuo.actors.domain.entity import Entity, EntityQuery
from huahuo.actors.domain.errors import HandlerExit, place_of
from huahuo.actors.domain.firing import SERVICE, FiredTogether, TimerCommands
from huahuo.actors.domain.fold import Held
from huahuo.actors.domain.following import reader
from huahuo.actors.domain.job_board import JobBoard
from huahuo.actors.domain.late_ends import LateEnds
from huahuo.actors.domain.left_jobs import LeftJobs
from huahuo.actors.domain.lists import ListQuery, Rows, before_of, page_body
from huahuo.actors.domain.messages import CommandMessage, InvalidMessage, query_params, struct_of
from huahuo.actors.domain.names import is_key, key_of
from huahuo.actors.domain.numbers import refuse_lost
from huahuo.actors.domain.row_facts import TABLE_PREFIX
from huahuo.actors.domain.sent import Done, Sent
from huahuo.actors.domain.settings import EntitySettings
from huahuo.actors.domain.structs import Command, holds_secret, traits
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
from huahuo.actors.plugins.actions import Action
from huahuo.actors.plugins.calls import Call, Refusal, Reply, error_reply, from_entity
from huahuo.actors.plugins.plugin import EntityKind, Host
from huahuo.actors.plugins.principal import Principal, UserId
from huahuo.actors.plugins.traceparent import carried
from huahuo.actors.timers.clockwork import Clockwork
from huahuo.actors.timers.timer import Timer
from huahuo.eventstore.model import StoredEvent

EFFECT_STREAMS: Final = f"{effect_facts.KIND}/"
TIMERS_IDS: Final = "timer/"
"""What the ids of commands of timers begin with."""
COUNTER: Final = "entity:"
"""The log's counter of ids of a kind has this prefix."""
_ENTITY_BYTES: Final = 1_500
"""What an entity with a small state takes in memory."""


class EntityApi:
    """What others ask of the entities. All methods belong to the loop's thread."""

    def __init__(self, catalog: Catalog, host: Host, followers: Sequence[FollowerSpec] = ()) -> None:
        self.catalog = catalog
        self._host = host
        given = host.settings if isinstance(host.settings, EntitySettings) else EntitySettings()
        bounds = Bounds(given.decision_events_max, given.state_bytes_max, given.effect_bytes_max)
        self._deciders = {
            kind: EntityDecider(entity, catalog, bounds) for kind, entity in catalog.by_kind.items()
        }

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
        self.jobs = JobBoard(host.feed, self)
        self._late_ends = LateEnds(self._send_job)
        self._left_jobs = LeftJobs(host.log, self._end_left_job)
        self.messages = {
            action: CommandMessage(entity, cls) for action, (entity, cls) in catalog.by_action.items()
        }
        self.timer_commands: TimerCommands = {
            f"{kind}/{traits(cls).name}": (entity, msgspec.json.Decoder(cls))
            for kind, entity in catalog.by_kind.items()
            for cls in entity.decides
            if not holds_secret(cls)
        }
        self.timers = Clockwork(host.log, host.ambient, self)
        self._share: Share = NOTHING if host.shared else WHOLE
        self._untap = _nothing

    async def work(self) -> None:
        """Go on with the timers, effects and followers of an earlier process, and end its jobs.

        Where nodes share the log, `divide` says which of them.

        Raises:
            ValueError: one of them has a name that today's code does not know.
        """
        now_ms = self._host.ambient.now_ms()
        await rebuilding.finish(self._host.log, self.catalog, now_ms=now_ms)
        await rebuilding.notice_new(self._host.log, self.catalog, now_ms=now_ms)
        await self.timers.finish_rebuilding()
        if self._host.shared:
            return
        await self.timers.start(frozenset(self.timer_commands))
        await self.effects.start()
        await self._left_jobs.look(WHOLE)
        await self.followers.start()

    async def divide(self, share: Share) -> None:
        """Do this part of what nodes divide, and no other. Raises as `work`."""
        before, self._share = self._share, share
        self.timers.divide(share)
        self.effects.divide(share)
        await self._left_jobs.divide(share)
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
        await self._left_jobs.close()
        await self._late_ends.close()
        await self.timers.close()
        await self.effects.close()
        await self.followers.close()

    async def idle(self) -> None:
        """Return when no due timer, no effect and no event for a follower waits or runs."""
        await self.timers.idle()
        await self.effects.idle()
        await self.followers.idle()

    async def job(self, job_id: int) -> jobs.Job:
        """The state of a job."""
        state, _seq = await self.state(jobs.KIND, job_id)
        found: jobs.Job = state
        return found

    async def tell_job(self, job_id: int, command: Command, *, trace: str = "") -> None:
        """Send a command to a job, as the service. Raises Refused: it was refused.

        `trace`: the place of the job's span, which is then the id of the command.
        """
        await self._send_job(job_id, command, trace)

    async def end_job(self, job_id: int, command: jobs.EndJob, *, trace: str = "") -> None:
        """End a job. If the end cannot be written, this raises, and the end is tried again until it is."""
        await self._late_ends.end(job_id, command, trace)

    async def start_job(self, name: str, user: UserId | None, *, trace: str = "") -> int:
        """Begin a job and return its id. Raises Refused: it has no name. `trace`: as for `tell_job`."""
        log = self._host.log
        await log.reserve(COUNTER + jobs.KIND)  # behind it this process has its incarnation
        return await self._send_job(None, jobs.starting(name, user, log.incarnation), trace)

    async def _end_left_job(self, job_id: int, command: jobs.EndJob) -> None:
        """End a job of an earlier process, in the trace in which it began."""
        begun = await self._host.log.read(f"{jobs.KIND}/{job_id}", 0, events_max=1)
        await self.end_job(job_id, command, trace=carried(begun[0].command_id) if begun else "")

    async def _send_job(self, job_id: int | None, command: Command, trace: str) -> int:
        entity = self.catalog.by_kind[jobs.KIND]
        answer = await self.execute(entity, job_id, Sent(command), Origin(SERVICE, trace))
        assert answer.reply is not None, "without a command id there is no duplicate"
        said = msgspec.json.decode(answer.reply.body)
        if answer.reply.refused:
            raise Refused(said["code"], said["message"], said.get("details", ""))
        number: int = said["job_id"]
        return number

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

    def actions(self) -> list[Action]:
        """The commands and queries that clients may send."""
        commands = [self._command(entity, cls) for entity, cls in self.catalog.by_action.values()]
        queries = [
            self._query(entity, query)
            for entity in self.catalog.by_kind.values()
            for query in entity.queries.values()
        ]
        return [*commands, *queries]

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

    async def may_read(self, kind: str, key: int | str, who: Principal) -> bool:
        """Whether `who` may read this entity now."""
        decider = self._deciders[kind]
        if await self._authorized(decider.entity, key, who):
            return True
        asked: Query[Held, bool] = Query(lambda _seq, held: decider.readable(held, who))
        return bool(await self._host.directory.ask(kind, key, asked))

    async def _authorized(self, entity: Entity[Any], key: int | str | None, who: Principal) -> bool:
        """Whether the application's `authorize` lets `who` read an entity that has no `@readers`."""
        asked = self._host.may_read
        if asked is None or entity.may_read is not None or who.is_admin or not is_key(key, entity.key):
            return False
        return bool(await asked(f"{entity.kind}/{key}", who))

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
            case Start() | Cancel():
                self.effects.committed(item, f"{kind}/{key}")
            case _:
                raise TypeError(f"nothing starts {type(item).__name__}")

    def list_action(self, query: ListQuery) -> Action:
        """A list for the clients."""
        log = self._host.log

        async def handle(call: Call[Any]) -> Reply:
            try:
                before = before_of(call.params)
            except ValueError:
                return error_reply(
                    Refusal("invalid_field", "a field is not allowed", "before: no page's next")
                )
            try:
                rows = query.rows_for(call.principal, call.params)
            except Refused as refused:
                rows = refused
            if isinstance(rows, Refused):
                return error_reply(Refusal(rows.code, rows.message, rows.details))
            if not isinstance(rows, Rows):
                raise TypeError(f"{place_of(query.answer)}: it returns {type(rows).__name__}: return Rows(…)")
            position, limit = log.position, call.params.limit  # the position first: a lower bound
            found = await log.rows(TABLE_PREFIX + rows.table, rows.part, before=before, limit=limit + 1)
            return Reply(page_body(query.action, found, limit, position))

        place = f"{place_of(query.answer)}: query({query.action!r})"
        return Action(query.action, query.params, handle, query=True, place=place)

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

    def _command(self, entity: Entity[Any], cls: type[Command]) -> Action:
        message = self.messages[traits(cls).action]

        async def handle(call: Call[Any]) -> Reply:
            try:
                key, command = message.read(call.params)
            except InvalidMessage as invalid:
                return error_reply(Refusal("invalid_field", "a field is not allowed", str(invalid)))
            readable = await self._authorized(entity, key, call.principal)
            sent = Sent(command, call.principal, call.command_id, readable=readable)
            answer = await self.execute(entity, key, sent, call.origin)
            return from_entity(b"" if answer.reply is None else answer.reply.body, answer, call)

        said, place = traits(cls), f"{place_of(cls)}: class {cls.__name__}(Command)"
        return Action(said.action, message.params, handle, frees=said.frees, place=place)

    def _query(self, entity: Entity[Any], query: EntityQuery) -> Action:
        fields = query.fields
        decider = self._deciders[entity.kind]

        async def handle(call: Call[Any]) -> Reply:
            key = getattr(call.params, f"{entity.kind}_id")
            authorized = await self._authorized(entity, key, call.principal)

            def answer(seq: int, held: Held) -> bytes | None:
                if not held.exists or not (authorized or decider.readable(held, call.principal)):
                    return None
                more = () if fields is None else (struct_of(call.params, fields),)
                try:
                    data = query.answer(held.state, call.principal, *more)
                except SystemExit as error:
                    raise HandlerExit(query.answer) from error
                stream = f"{entity.kind}/{key}"
                body = msgspec.json.encode({"type": query.action, "data": data, "stream": stream, "seq": seq})
                refuse_lost(body, data, f"{place_of(query.answer)}: data")
                return body

            body: bytes | None = await self._host.directory.ask(entity.kind, key, Query(answer))
            if body is None:
                return error_reply(Refusal("not_found", f"there is no such {entity.kind}"))
            return Reply(body)

        place = f"{place_of(query.answer)}: {entity.kind}.query({query.action!r})"
        return Action(query.action, query_params(entity, fields), handle, query=True, place=place)


def _nothing() -> None:
    pass


def _weigh(held: Held) -> int:
    return _ENTITY_BYTES + 4 * held.size


def _cut(seq: int, held: Held) -> tuple[int, bytes]:
    return seq, msgspec.json.encode(held.state)


def _state_and_seq(seq: int, held: Held) -> tuple[Any, int]:
    return held.state, seq
