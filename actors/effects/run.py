"""One run of an effect: what its coroutine may ask and say, and what a tracer hears.

`huahuo.tracing` makes spans of the runs whose command was traced. `stage` needs no reference to the run:
it finds the run that the caller is in, through however many functions, and costs one look-up if it is not
traced.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, Final, Protocol

from huahuo.actors.actor.messages import AskTimeout
from huahuo.actors.effects.books import ENDED, Hold, RunOver
from huahuo.actors.effects.queue import Entry
from huahuo.actors.entities.decider import EntityError
from huahuo.eventstore.errors import Closed, QueueFull, Unavailable
from huahuo.eventstore.model import Secret
from huahuo.eventstore.port import Log


class RunSpan(Protocol):
    """One run of an effect, from its beginning on."""

    @property
    def place(self) -> str:
        """Its place in the trace."""
        ...

    def stage(self, name: str) -> AbstractContextManager[None]:
        """A part of it begins, and ends with the block. `name` is one of a few words, never data."""
        ...

    def end(self, outcome: str) -> None:
        """It is over. `outcome`: that of the effect, or why only this run ended."""
        ...


class TracesRuns(Protocol):
    """Makes the span of a run."""

    def run(self, entry: Entry) -> RunSpan:
        """A run begins."""
        ...


_present: Final[ContextVar[RunSpan | None]] = ContextVar("present run", default=None)
_UNTRACED: Final = nullcontext()


def stage(name: str) -> AbstractContextManager[None]:
    """A part of the run that the caller is in, shown in the trace. Without a traced run it does nothing."""
    span = _present.get()
    return _UNTRACED if span is None else span.stage(name)


@contextmanager
def inside(span: RunSpan) -> Iterator[None]:
    """The block is this run."""
    token = _present.set(span)
    try:
        yield
    finally:
        _present.reset(token)


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


LEFT_OPEN: Final = (EntityError, AskTimeout, Unavailable, QueueFull, Closed)
"""What says nothing about the effect: such a run does not count as a failure."""
LEFT: Final = "left"
"""Of a span: the service itself cut the run short, and the effect is still open."""
AGAIN: Final = "again"
"""Of a span: the run failed, and another one will follow."""
