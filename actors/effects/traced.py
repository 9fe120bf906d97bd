"""What a tracer hears of the runs of effects whose command was traced.

`huahuo.tracing` makes spans of it.
"""

from typing import Protocol

from huahuo.actors.effects.line import Entry


class RunSpan(Protocol):
    """One run of an effect, from its beginning on."""

    @property
    def place(self) -> str:
        """Its place in the trace."""
        ...

    def end(self, outcome: str) -> None:
        """It is over. `outcome`: that of the effect, or why only this run ended (`attempts`)."""
        ...


class TracesRuns(Protocol):
    """Makes the span of a run."""

    def run(self, entry: Entry) -> RunSpan:
        """A run begins."""
        ...
