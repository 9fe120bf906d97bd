"""One run of an effect: what its coroutine may ask and say."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from huahuo.actors.effects.desk import Desk
from huahuo.actors.effects.facts import Guard
from huahuo.actors.effects.line import Entry
from huahuo.actors.effects.spec import Answered, Owners
from huahuo.eventstore.model import NewEvent, RowDrop, Secret
from huahuo.eventstore.port import Log


class World(Protocol):
    """What a run uses of the service."""

    log: Log
    owners: Owners

    def end_of(self, entry: Entry) -> tuple[NewEvent, RowDrop]:
        """The event and the row of its end as done."""
        ...


class EffectRun:
    """Given to an effect's coroutine as its second argument.

    `id` is that of the entity, `state` its state when the run began or last emitted, `attempt` counts from 1
    the runs that failed and this one.
    """

    def __init__(
        self, world: World, desk: Desk, entry: Entry, *, attempt: int, claim: int, position: int
    ) -> None:
        self.id = entry.spec.key(entry.key)
        self.job: Any = None
        self.state: Any = None
        self.attempt = attempt
        self.claim = claim
        self.effect = entry.id
        self.position = position
        self.finished = False
        self.over = ""
        self._world = world
        self._desk = desk
        self._entry = entry

    def __repr__(self) -> str:
        return f"EffectRun({self._entry.entity}, {self._entry.spec.name}, attempt {self.attempt})"

    async def emit(self, *events: Any) -> None:
        """Append events of the entity, as one commit. Others' writes in between do not matter.

        Raises:
            RunOver: the effect has ended, was cancelled, or another run has taken over. Nothing was written.
            Refused: the events are over a bound. Others: what an `evolve` raised.
        """
        await self._say(events, (), ())

    async def finish(self, *events: Any) -> None:
        """As `emit`, and the effect ends in the same commit: the way to say something exactly once.

        Raises as `emit`.
        """
        end, drop = self._world.end_of(self._entry)
        await self._say(events, (end,), (drop,))
        self.finished = True
        self.close("ended")

    async def secret(self, name: str) -> Secret | None:
        """A secret of the entity, None if it has none of this name or they were shredded."""
        return await self._world.log.secret(self._entry.entity, name)

    def close(self, why: str) -> None:
        """From now on, `emit` is refused: the coroutine has returned, and a task that it left has not."""
        self.over = self.over or why

    async def guarded(self, append: Callable[[Guard], Awaitable[Answered]]) -> Answered:
        """See `Desk.guarded`."""
        return await self._desk.guarded(self, append)

    async def _say(
        self, events: Sequence[Any], facts: tuple[NewEvent, ...], rows: tuple[RowDrop, ...]
    ) -> None:
        spec, key = self._entry.spec, self._entry.key

        async def append(guard: Guard) -> Answered:
            whole = Guard(guard.stream, guard.seq, facts, rows)
            answered, state = await self._world.owners.emit(spec.kind, key, events, whole, self.position)
            if answered is Answered.DONE:
                self.state = state
            return answered

        await self._desk.guarded(self, append, writes=len(facts))
