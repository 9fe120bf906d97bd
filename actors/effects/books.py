"""Where effects are recorded, as the runner and the runs see it. Pure.

Those of an application are recorded on streams next to their entities
(`huahuo.actors.domain.effect_streams`). A plug-in whose entities say on their own streams what their effects
do implements `Books` over these, so that nothing is recorded twice.

`Bookkeeping` folds `effect/<kind>/<key>`: which effects are open, and which run may speak for each. The
entity itself writes there too (requests, and wishes to cancel), in its own appends.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Protocol

import msgspec
from msgspec import Struct

from huahuo.actors.effects import facts
from huahuo.actors.effects.facts import CANCELLED, CancelAsked, Claimed, Ended, Failed, OpenEffect, Requested
from huahuo.actors.effects.queue import Entry, Failure
from huahuo.actors.plugins.calls import carried
from huahuo.eventstore.model import StoredEvent


class RunOver(Exception):  # noqa: N818  a fact, not a fault
    """The run may say nothing more. `why`: `ended`, `cancelled`, `taken over`, or `held` by another node."""

    def __init__(self, why: str, by: str = "") -> None:
        super().__init__(f"this run of the effect is over: {why}")
        self.why = why
        self.by = by


ENDED: Final = "ended"
HELD: Final = "held"
"""Another node runs it."""
TAKEN_OVER: Final = "taken over"


class Hold(Protocol):
    """The hold of one run on its effect, from its claim on. Methods raise as `Directory.ask`, and RunOver."""

    over: str
    """Why the run may say nothing more, "" while it may. Whoever sets it ends the hold."""

    @property
    def position(self) -> int:
        """That of the event which asked for the effect."""
        ...

    @property
    def attempt(self) -> int:
        """The number of this run among those that failed, from 1."""
        ...

    async def state(self) -> Any:
        """What the run knows of its entity when it begins."""
        ...

    async def say(self, events: Sequence[Any], *, ends: bool) -> Any:
        """Let the entity record these in one commit, with the end of the effect if it `ends`.

        Returns the state after them.
        """
        ...

    async def again(self, error_type: str, due_ms: int, row: OpenEffect) -> None:
        """Record that the run failed, and that the next may begin at `due_ms`."""
        ...

    async def give_up(self, failure: Failure) -> str:
        """Record that the effect failed for good. Returns its outcome."""
        ...

    async def end(self) -> str:
        """Record that the run returned and said no end itself. Returns the effect's outcome."""
        ...


class Books(Protocol):
    """The books about the effects of one runner. A row of `table` stands for each open effect."""

    @property
    def table(self) -> str:
        """The table of the log with the open effects. It is read in descending order of keys."""
        ...

    def read(self, key: bytes, value: bytes) -> tuple[int, OpenEffect] | None:
        """The id of an effect and the effect, from its row. None: the row is no work for the runner."""
        ...

    def row_key(self, entry: Entry) -> bytes:
        """The key of an effect's row."""
        ...

    def hold(self, entry: Entry) -> AbstractAsyncContextManager[Hold]:
        """Claim the effect for a run. Entering raises RunOver: there is nothing to run."""
        ...

    async def cancelled(self, entry: Entry) -> str | None:
        """Record the end of an effect that its entity cancelled, if that does not stand there already.

        Returns its outcome, None if it had ended. Raises as `Directory.ask`.
        """
        ...


class Open(Struct):
    """An open effect. `claim`: the seq at which its present run was recorded, 0 if none is."""

    effect: str
    position: int
    """That of the event which asked for it."""
    failures: int = 0
    claim: int = 0
    cancelled: bool = False
    by: str = ""
    """The incarnation that claimed it, where several nodes share the log."""
    run: str = ""
    """The place in a trace of its last run."""


class Book(Struct):
    """The open effects of one entity by id."""

    entity: str
    open: dict[int, Open]

    def why_over(self, id_: int, claim: int) -> str:
        """Why the run with this claim (0: one that would begin) may say nothing more, "" if it may."""
        found = self.open.get(id_)
        if found is None:
            return ENDED
        if found.cancelled:
            return CANCELLED
        return "" if claim in (0, found.claim) else TAKEN_OVER


_decode: Final = msgspec.json.Decoder(facts.Fact).decode


class Bookkeeping:
    """A `Fold`: see the module."""

    name: Final = "effects"
    fingerprint: Final = "1"

    def initial(self, stream: str) -> Book:
        """See `Fold`."""
        return Book(stream.partition("/")[2], {})

    def evolve(self, state: Book, event: StoredEvent) -> Book:
        """See `Fold`. Events of other types change nothing."""
        if event.type not in facts.TYPES:
            return state
        fact: Any = _decode(event.body)
        match fact:
            case Requested():
                state.open[fact.id] = Open(fact.effect, event.position)
            case CancelAsked():
                for found in state.open.values():
                    if fact.effect in (None, found.effect):
                        found.cancelled = True
            case Claimed() if fact.id in state.open:
                state.open[fact.id].claim = event.seq
                state.open[fact.id].by = fact.by or ""
                state.open[fact.id].run = carried(event.command_id)
            case Failed() if fact.id in state.open:
                state.open[fact.id].failures, state.open[fact.id].claim = fact.failures, 0
            case Ended():
                state.open.pop(fact.id, None)
        return state

    def dump(self, state: Book) -> bytes:
        """See `Fold`."""
        return msgspec.msgpack.encode(state)

    def load(self, stream: str, data: bytes) -> Book:
        """See `Fold`."""
        del stream
        return msgspec.msgpack.decode(data, type=Book)
