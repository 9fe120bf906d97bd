"""The entities of a service: `ask` and `tell` wake one by its kind and key, and idle ones are put away.

An entity loads itself, and messages wait in its inbox in order until it has. The bytes that wait are
bounded, per entity and for all of them (`InboxBytes`). One sweep a second ends entities that have been
idle for long. Ending one and removing it here is one step of the loop, so no message gets lost in between,
and an entity needs no timer and no task of its own.
"""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import batched
from typing import Any

import msgspec
import structlog
from pykka import ActorDeadError

from huahuo.actors.actor.inbox import Inbox
from huahuo.actors.actor.messages import AskTimeout, InboxFull, Reason
from huahuo.actors.actor.refs import LoopRef
from huahuo.actors.actor.runtime import Runtime
from huahuo.actors.entities.decider import Busy, Decider, Degraded, EntityError
from huahuo.actors.entities.entity import Asked, CatchUp, Effects, Entity, Fairness, Kind, Query, Told
from huahuo.actors.entities.group_commit import Together, load
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.deadline import Deadline
from huahuo.eventstore.executor import acting_user
from huahuo.eventstore.model import Page
from huahuo.eventstore.port import Log
from huahuo.replay.feed import Feed
from huahuo.replay.history.keyframe_writer import KeyframeWriter
from huahuo.replay.history.keyframes import KeyframePolicy


class InboxBytes:
    """Counts what waits, by the entity's address.

    One message that waits for an entity alone may be larger than `each_max`. Beyond `all_max` each entity has
    an even share of it, so that a few users who fill it do not keep others out. What is held never exceeds
    twice `all_max`.
    """

    def __init__(self, each_max: int, all_max: int) -> None:
        self._each_max = each_max
        self._all_max = all_max
        self._waiting: dict[str, int] = {}
        self.total = 0

    @contextmanager
    def hold(self, address: str, size: int) -> Iterator[None]:
        """Count `size` bytes for this entity until the block ends.

        Raises:
            Busy: they find no room.
        """
        waiting = self._waiting.get(address, 0)
        self._admit(address, waiting, size)
        self._waiting[address] = waiting + size
        self.total += size
        try:
            yield
        finally:
            self.total -= size
            self._waiting[address] -= size
            if not self._waiting[address]:
                del self._waiting[address]

    def _admit(self, address: str, waiting: int, size: int) -> None:
        if waiting and waiting + size > self._each_max:
            raise Busy(f"{address} has too much to do")
        if self.total + size <= self._all_max:
            return
        share = self._all_max // (len(self._waiting) + (not waiting))
        if waiting + size > share or self.total + size > 2 * self._all_max:
            raise Busy("the entities have too much to do")


_log = structlog.get_logger(__name__)


class DirectoryLimits(msgspec.Struct, frozen=True):
    """The bounds of a directory."""

    idle_s: float = 600.0
    """An entity that was not used for this long is ended at one of the next two sweeps."""
    residents_max: int = 100_000
    """Above this number of entities, the least recently used are ended early."""
    weight_max: int = 0
    """The same for the sum of `weigh` over their states; 0 means no bound."""
    loads_max: int = 64
    inbox_max: int = 256
    inbox_bytes_max: int = 8 << 20
    """The same in bytes, of what `hold` counts. If nothing waits, one message may be larger."""
    inboxes_bytes_max: int = 64 << 20
    """The same for all entities; beyond it each has an even share."""
    ask_timeout_s: float = 30.0
    sweep_s: float = 1.0
    stops_per_sweep_max: int = 4_000
    """Bounds how long a sweep blocks the loop: ending an entity takes some microseconds and its keyframe."""
    rest_s: float = 30.0
    """How long an entity that kept failing is not started again."""


class _Resident:
    """`used_s`: the time of the sweep after its last use. Entities used between two sweeps share it."""

    __slots__ = ("ref", "used_s")

    def __init__(self, ref: LoopRef[Entity]) -> None:
        self.ref = ref
        self.used_s = 0.0


_LOADED_TOGETHER = 128
_LOADED_BYTES = 32 << 10
"""One read of many streams takes at most 4 MiB. A stream with more bytes is read alone."""


class Directory:
    """All entities of one runtime over one log. All methods belong to the loop's thread."""

    def __init__(
        self,
        runtime: Runtime,
        log: Log,
        feed: Feed,
        ambient: Ambient,
        *,
        limits: DirectoryLimits = DirectoryLimits(),  # noqa: B008  frozen
        keyframes: KeyframePolicy = KeyframePolicy(),  # noqa: B008  frozen
        fairness: Fairness | None = None,
    ) -> None:
        self._runtime = runtime
        self._ambient = ambient
        self._limits = limits
        self._kinds: dict[str, Kind] = {}
        self._entity: type[Entity] = type(
            "Entity", (Entity,), {"__slots__": (), "inbox_limit": limits.inbox_max}
        )
        # By address, "kind/key"; the least recently used first.
        self._residents: OrderedDict[str, _Resident] = OrderedDict()
        self._resting: dict[str, float] = {}
        self._next_sweep_s = 0.0
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False
        self.keyframes = KeyframeWriter(log, keyframes)
        self.activations = 0
        self.passivations = 0
        self.degradations = 0
        self._log = log
        self._feed = feed
        self._fairness = fairness
        self._loads = asyncio.Semaphore(limits.loads_max)
        self._inbox_bytes = InboxBytes(limits.inbox_bytes_max, limits.inboxes_bytes_max)

    @property
    def resident(self) -> int:
        """How many entities are in memory."""
        return len(self._residents)

    @property
    def weight(self) -> int:
        """The sum of `weigh` over the loaded states."""
        return sum(kind.weight for kind in self._kinds.values())

    def holds(self, kind: str, key: str | int) -> bool:
        """Whether this entity is in memory, or on its way there."""
        return f"{kind}/{key}" in self._residents

    def resident_inbox(self, address: str) -> Inbox | None:
        """The inbox of the entity `<kind>/<key>`, which is used now. None: it is not in memory."""
        residents = self._residents
        if address not in residents or self._closed:
            return None
        resident = residents[address]
        resident.used_s = self._next_sweep_s  # `_use`, without its call
        residents.move_to_end(address)
        return resident.ref.actor_inbox

    def entity(self, kind: str, key: str | int) -> LoopRef[Entity]:
        """The entity, loaded if it was not in memory. A ref is good until the entity is put away.

        Raises:
            Busy: the entities are being stopped.
            Degraded: it failed too often, and rests.
        """
        if self._closed:
            raise Busy("the entities are being stopped")
        address = f"{kind}/{key}"
        resident = self._residents.get(address)
        if resident is not None and not resident.ref.is_alive():
            self._bury(address, resident)
            resident = None
        if resident is None:
            return self._activate(kind, address)
        self._use(address, resident)
        return resident.ref

    @property
    def kinds(self) -> Collection[str]:
        """The kinds that are registered."""
        return self._kinds.keys()

    @property
    def waiting_bytes(self) -> int:
        """Bytes that `hold` counts now."""
        return self._inbox_bytes.total

    def register(
        self,
        kind: str,
        decider: Decider[Any, Any, Any, Any],
        effects: Effects,
        *,
        stream_prefix: str | None = None,
        weigh: Callable[[Any], int] | None = None,
        keyframe_every: int = 0,
    ) -> None:
        """Register a kind of entity. Entity `key` folds the stream `<stream_prefix or kind>/<key>`.

        `keyframe_every`: events of a stream between two keyframes, 0: as the directory's policy says.

        Raises:
            ValueError: the kind is registered already, or its name has a "/".
        """
        if kind in self._kinds:
            raise ValueError(f"the kind {kind!r} is registered already")
        if "/" in kind:
            raise ValueError(f"the name of a kind has no slash: {kind!r}")
        self._kinds[kind] = Kind(
            kind,
            decider,
            stream_prefix=stream_prefix or kind,
            log=self._log,
            feed=self._feed,
            ambient=self._ambient,
            keyframes=self.keyframes,
            loads=self._loads,
            effects=effects,
            weigh=weigh,
            keyframe_every=keyframe_every,
            fairness=self._fairness,
        )

    def hold(self, kind: str, key: str | int, size: int) -> AbstractContextManager[None]:
        """Count a large message, `size` bytes in memory, from before it is made until it is answered.

        Entering the block raises:
            Busy: there is no room for it.
        """
        return self._inbox_bytes.hold(f"{kind}/{key}", size)

    async def ask(self, kind: str, key: str | int, message: object, *, timeout_s: float | None = None) -> Any:
        """Send `Execute`, `Query` or `CatchUp` and wait for the answer.

        The message is in the entity's inbox before this first suspends. So calls made in order arrive in
        order, even if the entity ends and is woken in between.

        Raises:
            Busy: nothing was done. Degraded: the entity keeps failing; nothing was done.
            AskTimeout: no answer in time; the outcome is unknown.
            Exception: what the entity raised, from the event store or from the decider.
        """
        ref = self.entity(kind, key)
        asked = Asked(message, acting_user()) if isinstance(message, Query | CatchUp) else None
        try:
            future = ref.ask(asked or message, block=False)
        except InboxFull as error:
            raise Busy(f"{kind}/{key} has too much to do") from error
        limit_s = self._limits.ask_timeout_s if timeout_s is None else timeout_s
        deadline = Deadline(self._ambient, limit_s)
        try:
            async with deadline:
                return await future
        except ActorDeadError as error:
            raise ended(kind, key, ref) from error
        except TimeoutError as error:
            if deadline.expired():
                raise AskTimeout(f"{kind}/{key}", limit_s) from error
            raise
        finally:
            if asked is not None:
                asked.gone = True
            # A cancelled task keeps its exception, whose traceback keeps this frame. The deadline keeps the
            # task: without this, they would form a reference cycle that keeps the reply alive.
            del deadline, future

    async def load(self, entities: Iterable[tuple[str, str]]) -> None:
        """Load those that are not in memory and have short streams, many with one read of the log.

        The others load themselves, as any does that is asked. Raises as `entity`.
        """
        for some in batched(self._short(entities), _LOADED_TOGETHER):
            found = await self._log.read_pages([page for _, page in some])
            for (ref, _), events in zip(some, found, strict=True):
                load(self._runtime, ref.actor_inbox, events)

    def _short(self, entities: Iterable[tuple[str, str]]) -> Iterator[tuple[LoopRef[Entity], Page]]:
        for kind, key in entities:
            if kind not in self._kinds:  # another node's newer code has it
                continue
            known = self._kinds[kind]
            events_max = known.policy.leaving
            stream = f"{known.stream_prefix}/{key}"
            head = self._log.head(stream)
            if head.first <= 1 and head.seq < events_max and f"{kind}/{key}" not in self._residents:
                yield self.entity(kind, key), Page(stream, 0, head.seq, _LOADED_BYTES)

    def together(self, kind: str, principal: str) -> Together:
        """Commands that entities decide in the caller's steps, written by one append: see `Together`.

        `kind`: any of those that will be asked, for the moment of the decisions.
        """
        return Together(self._runtime, self._log, self._kinds[kind].context(), principal)

    async def tell(self, kind: str, key: str | int, message: object) -> None:
        """Send a message without an answer, in order with `ask`. If the inbox is full, wait for room.

        If the store refuses the append, the entity logs that.

        Raises:
            Busy, Degraded: it was not sent, or the entity ended before it handled the message.
        """
        ref = self.entity(kind, key)
        try:
            await ref.tell_async(Told(message))
        except ActorDeadError as error:
            raise ended(kind, key, ref) from error

    async def close(self, timeout_s: float = 10.0) -> None:
        """Accept no more messages, finish the accepted ones, end every entity. Idempotent.

        Entities that are not finished after `timeout_s` are left to `Runtime.stop`.
        """
        refs = self._end_all()
        busy = [ref for ref in refs if not ref.stop_if_idle()]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                for stopped in [ref.stop(block=False) for ref in busy]:
                    await stopped
                await self.keyframes.flush()

    def _use(self, address: str, resident: _Resident) -> None:
        resident.used_s = self._next_sweep_s
        self._residents.move_to_end(address)

    def _activate(self, kind: str, address: str) -> LoopRef[Entity]:
        if address in self._resting and self._resting[address] > self._runtime.loop.time():
            raise Degraded(f"{address} failed too often")
        known = self._kinds[kind]
        # Usually the kind's name is the prefix. Then one string object serves as address and stream.
        own = known.stream_prefix == kind
        stream = address if own else f"{known.stream_prefix}{address.removeprefix(kind)}"
        ref = self._runtime.start(self._entity, known, stream)
        resident = self._residents[address] = _Resident(ref)
        self._schedule_sweep()
        resident.used_s = self._next_sweep_s
        self.activations += 1
        return ref

    def _bury(self, address: str, resident: _Resident) -> None:
        """Forget an entity that ended by itself. If its supervisor gave up, do not start it for `rest_s`."""
        del self._residents[address]
        if _gave_up(resident.ref):
            self.degradations += 1
            self._resting[address] = self._runtime.loop.time() + self._limits.rest_s
            kind, _, key = address.partition("/")
            _log.error("entity_degraded", kind=kind, key=key, rest_s=self._limits.rest_s)

    def _schedule_sweep(self) -> None:
        if self._sweeper is None and not self._closed and (self._residents or self._resting):
            sweep_s = self._ambient.routine_s(self._limits.sweep_s)
            self._next_sweep_s = self._runtime.loop.time() + sweep_s
            self._sweeper = self._runtime.loop.call_at(self._next_sweep_s, self._sweep)

    def _sweep(self) -> None:
        self._sweeper = None
        now_s = self._runtime.loop.time()
        for address in [a for a, until_s in self._resting.items() if until_s <= now_s]:
            del self._resting[address]
        for _ in range(min(len(self._residents), self._limits.stops_per_sweep_max)):
            address, resident = next(iter(self._residents.items()))
            if now_s - resident.used_s < self._limits.idle_s and not self._crowded():
                break
            if self.keyframes.full:
                break  # the next sweep continues, when these are stored
            if not resident.ref.is_alive():
                self._bury(address, resident)
            elif resident.ref.stop_if_idle():
                del self._residents[address]
                self.passivations += 1
            else:  # it is busy: counts as used now
                self._use(address, resident)
        self._schedule_sweep()

    def _crowded(self) -> bool:
        limits = self._limits
        return len(self._residents) > limits.residents_max or 0 < limits.weight_max < self.weight

    def _end_all(self) -> list[LoopRef[Entity]]:
        """Wake none any more, and forget all: the caller stops those that are returned."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        refs = [resident.ref for resident in self._residents.values()]
        self._residents.clear()
        return refs


def _gave_up(ref: LoopRef[Entity]) -> bool:
    return ref.actor_inbox.reason is Reason.GAVE_UP


def ended(kind: str, key: str | int, ref: LoopRef[Entity]) -> EntityError:
    """The error for an accepted message that was not handled."""
    if _gave_up(ref):
        return Degraded(f"{kind}/{key} failed too often")
    return Busy(f"{kind}/{key} ended before it came to this message")
