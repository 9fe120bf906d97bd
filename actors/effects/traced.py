"""What a tracer hears of the runs of effects whose command was traced, and of their stages.

`huahuo.tracing` makes spans of it. A stage needs no reference to the run: `stage` finds the run that the
caller is in, through however many functions, and costs the look-up of one variable if it is not traced.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Final, Protocol

from huahuo.actors.effects.line import Entry


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
        """It is over. `outcome`: that of the effect, or why only this run ended (`attempts`)."""
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
