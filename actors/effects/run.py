"""One run of an effect: what its coroutine may ask and say."""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from huahuo.actors.effects.book import Book, why_over
from huahuo.actors.effects.facts import Guard, stream_of
from huahuo.actors.effects.line import Entry
from huahuo.actors.effects.spec import Answered, Owners
from huahuo.actors.entities.directory import Directory
from huahuo.actors.entities.entity import Query
from huahuo.actors.entities.errors import Busy
from huahuo.eventstore.model import Secret
from huahuo.eventstore.port import Log

LOOKS_MAX = 8
"""How often a run looks into the books when others keep writing there."""


class RunOver(Exception):  # noqa: N818  a fact, not a fault
    """The run may say nothing more. `why`: `ended`, `cancelled` or `taken over`."""

    def __init__(self, why: str) -> None:
        super().__init__(f"this run of the effect is over: {why}")
        self.why = why


class World(Protocol):
    """What a run uses of the service."""

    log: Log
    directory: Directory
    owners: Owners


class EffectRun:
    """Given to an effect's coroutine as its second argument.

    `id` is that of the entity, `state` its state when the run began or last emitted, `attempt` counts from 1
    the runs that failed and this one.
    """

    def __init__(self, world: World, entry: Entry, *, attempt: int, claim: int, position: int) -> None:
        self.id = entry.spec.key(entry.key)
        self.job: Any = None
        self.state: Any = None
        self.attempt = attempt
        self.claim = claim
        self.position = position
        self._world = world
        self._entry = entry
        self._seq = claim
        self._over = ""

    def __repr__(self) -> str:
        return f"EffectRun({self._entry.entity}, {self._entry.spec.name}, attempt {self.attempt})"

    async def emit(self, *events: Any) -> None:
        """Append events of the entity, as one commit. Others' writes in between do not matter.

        Raises:
            RunOver: the effect has ended, was cancelled, or another run has taken over. Nothing was written.
            Refused: the events are over a bound. Others: what an `evolve` raised.
        """
        spec, key = self._entry.spec, self._entry.key

        async def append(guard: Guard) -> Answered:
            answered, state = await self._world.owners.emit(spec.kind, key, events, guard, self.position)
            if answered is Answered.DONE:
                self.state = state
            return answered

        await self.guarded(append)

    async def secret(self, name: str) -> Secret | None:
        """A secret of the entity, None if it has none of this name or they were shredded."""
        return await self._world.log.secret(self._entry.entity, name)

    def close(self, why: str) -> None:
        """From now on, `emit` is refused: the coroutine has returned, and a task that it left has not."""
        self._over = self._over or why

    async def guarded(self, append: Callable[[Guard], Awaitable[Answered]]) -> Answered:
        """Append under the guard of this run's claim. Raises RunOver."""
        stream = stream_of(self._entry.entity)
        for _ in range(LOOKS_MAX):
            if self._over:
                raise RunOver(self._over)
            answered = await append(Guard(stream, self._seq))
            if answered is not Answered.MOVED:
                return answered
            await self._look()
        raise Busy(f"{stream} changed too often")

    async def _look(self) -> None:
        """Learn where the books stand, and whether they still name this run."""

        def look(seq: int, book: Book) -> tuple[int, str]:
            return seq, why_over(book, self._entry.id, self.claim)

        asked: Query[Book, tuple[int, str]] = Query(look)
        self._seq, why = await self._world.directory.ask("effect", self._entry.entity, asked)
        if why:
            self.close(why)
