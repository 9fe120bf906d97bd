"""Which entities are in memory: each is woken when it is used, and put away when it is idle for long.

One sweep a second ends entities that have been idle for long. Ending an idle entity and removing it here is
one step of the loop, so no message gets lost in between. An entity needs no timer and no task of its own.
"""

import asyncio
from collections import OrderedDict

import msgspec
import structlog

from huahuo.actors.actor.inbox import Inbox
from huahuo.actors.actor.messages import Reason
from huahuo.actors.actor.refs import LoopRef
from huahuo.actors.entities.entity import Entity
from huahuo.actors.entities.errors import Busy, Degraded, EntityError
from huahuo.actors.entities.kind import Kind
from huahuo.actors.runtime.runtime import Runtime
from huahuo.eventstore.ambient import Ambient
from huahuo.replay.history.keyframes import KeyframeWriter

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


class Residents:
    """See the module. All methods belong to the loop's thread."""

    def __init__(
        self, runtime: Runtime, ambient: Ambient, limits: DirectoryLimits, keyframes: KeyframeWriter
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
        self.keyframes = keyframes
        self.activations = 0
        self.passivations = 0
        self.degradations = 0

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
