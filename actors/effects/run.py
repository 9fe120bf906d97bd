"""One run of an effect: what its coroutine may ask and say."""

from collections.abc import Sequence
from typing import Any

from huahuo.actors.effects.book import ENDED
from huahuo.actors.effects.books import Hold, RunOver
from huahuo.actors.effects.line import Entry
from huahuo.eventstore.model import Secret
from huahuo.eventstore.port import Log


class EffectRun:
    """Given to an effect's coroutine as its second argument.

    `id` is that of the entity, `effect` that of the effect, `state` the entity's state when the run began or
    last emitted. `attempt` counts from 1 the runs that failed and this one.
    """

    def __init__(self, log: Log, entry: Entry, hold: Hold) -> None:
        self.id = entry.spec.key(entry.key)
        self.effect = entry.id
        self.attempt = hold.attempt
        self.job: Any = None
        self.state: Any = None
        self.finished = False
        self._log = log
        self._entry = entry
        self._hold = hold

    def __repr__(self) -> str:
        return f"EffectRun({self._entry.entity}, {self._entry.spec.name}, attempt {self.attempt})"

    async def emit(self, *events: Any) -> None:
        """Append events of the entity, as one commit. Others' writes in between do not matter.

        Raises:
            RunOver: the effect has ended, was cancelled, or another run has taken over. Nothing was written.
            Refused: the events are over a bound. Others: what an `evolve` raised.
        """
        await self._say(events, ends=False)

    async def finish(self, *events: Any) -> None:
        """As `emit`, and the effect ends in the same commit: the way to say something exactly once.

        Raises as `emit`.
        """
        await self._say(events, ends=True)
        self.finished = True
        self.close(ENDED)

    async def secret(self, name: str) -> Secret | None:
        """A secret of the entity, None if it has none of this name or they were shredded."""
        return await self._log.secret(self._entry.entity, name)

    def close(self, why: str) -> None:
        """From now on, `emit` is refused: the coroutine has returned, and a task that it left has not."""
        self._hold.over = self._hold.over or why

    async def _say(self, events: Sequence[Any], *, ends: bool) -> None:
        if self._hold.over:
            raise RunOver(self._hold.over)
        self.state = await self._hold.say(events, ends=ends)
