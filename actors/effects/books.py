"""Where effects are recorded, as the runner and the runs see it. Pure.

Those of an application are recorded on streams next to their entities (`huahuo.actors.effects.streams`). A
plug-in whose entities say on their own streams what their effects do implements `Books` over these, so that
nothing is recorded twice.

The books about one entity's effects: which are open, and which run may speak for each. Pure.

Folds `effect/<kind>/<key>`. The entity itself writes there too (requests, and wishes to cancel), in its own
appends; what the books decide expects the head of the stream, so it is never about an older state.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Protocol

import msgspec
from msgspec import UNSET, Struct
from msgspec.structs import replace

from huahuo.actors.effects import facts
from huahuo.actors.effects.facts import CANCELLED, CancelAsked, Claimed, Ended, Failed, OpenEffect, Requested
from huahuo.actors.effects.queue import Entry, Failure
from huahuo.actors.entities.decider import Context, Decision
from huahuo.actors.plugins.calls import carried
from huahuo.eventstore.model import StoredEvent


class RunOver(Exception):  # noqa: N818  a fact, not a fault
    """The run may say nothing more. `why`: `ended`, `cancelled`, `taken over`, or `held` by another node."""

    def __init__(self, why: str, by: str = "") -> None:
        super().__init__(f"this run of the effect is over: {why}")
        self.why = why
        self.by = by


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


class Claim(Struct, frozen=True):
    """Begin a run of this effect. Answered by `Run`, or by `Over`.

    `by` is the incarnation that would run it. What one of `living` has claimed is left to it: a node that
    starts goes on with the work of those that ended, and of no other.
    """

    id: int
    by: str = ""
    living: frozenset[str] = frozenset()


class Fail(Struct, frozen=True):
    """The run raised; the next one may begin at `due_ms`. Answered by `Noted`, or by `Over`."""

    id: int
    claim: int
    error_type: str
    due_ms: int
    row: OpenEffect


class End(Struct, frozen=True):
    """End the effect. Without a claim: only if the entity cancelled it. Answered by `Noted`, or by `Over`."""

    id: int
    claim: int
    outcome: str
    error_type: str = ""


type BookCommand = Claim | Fail | End


class Run(Struct, frozen=True):
    """A run has begun; its claim is the position of the answer in the stream."""

    position: int
    failures: int
    before: str = ""


class Noted(Struct, frozen=True):
    """It is recorded. `outcome`: how the effect ended, "" if it goes on."""

    outcome: str = ""


class Over(Struct, frozen=True):
    """This run may not speak for the effect: see `why_over`. `by`: who holds it, if that is why."""

    why: str
    by: str = ""


type BookReply = Run | Noted | Over

ENDED: Final = "ended"
HELD: Final = "held"
"""Another node runs it."""
TAKEN_OVER: Final = "taken over"


def why_over(book: Book, id_: int, claim: int) -> str:
    """Why the run with this claim may say nothing more: `cancelled`, `ended` or `taken over`. Else ""."""
    found = book.open.get(id_)
    if found is None:
        return ENDED
    if found.cancelled:
        return CANCELLED
    return "" if found.claim == claim else TAKEN_OVER


_decode: Final = msgspec.json.Decoder(facts.Fact).decode


class BookDecider:
    """The books about one entity's effects: which are open, and which run may speak for each."""

    name: Final = "effects"
    fingerprint: Final = "1"
    guarded: Final = True

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

    def decide(self, state: Book, command: BookCommand, context: Context) -> Decision[BookReply, Any]:
        """See `Decider`."""
        found = state.open.get(command.id)
        if found is None:
            return Decision(reply=Over(ENDED))
        if found.cancelled:
            if isinstance(command, End):
                return _end(state, command.id, CANCELLED, "", context)
            return Decision(reply=Over(CANCELLED))
        if not isinstance(command, Claim) and found.claim != command.claim:
            return Decision(reply=Over(TAKEN_OVER))
        match command:
            case Claim(id_, by, living):
                if found.claim and found.by != by and found.by in living:
                    return Decision(reply=Over(HELD, found.by))
                event = facts.event(state.entity, Claimed(context.timestamp, id_, by or UNSET))
                reply = Run(found.position, found.failures, found.run)
                return Decision(reply=reply, at_stream=event.stream, events=(event,))
            case Fail(id_, _, error_type, due_ms, row):
                failures = found.failures + 1
                fact = Failed(context.timestamp, id_, failures, error_type, due_ms)
                event = facts.event(state.entity, fact)
                put = facts.put(id_, replace(row, failures=failures, due_ms=due_ms))
                return Decision(reply=Noted(), at_stream=event.stream, events=(event,), rows=(put,))
            case End(id_, _, outcome, error_type):
                return _end(state, id_, outcome, error_type, context)


def _end(state: Book, id_: int, outcome: str, error_type: str, context: Context) -> Decision[BookReply, Any]:
    event, drop = facts.end(state.entity, Ended(context.timestamp, id_, outcome, error_type))
    return Decision(reply=Noted(outcome), at_stream=event.stream, events=(event,), rows=(drop,))


def weigh(state: Book) -> int:
    """Its bytes in memory, about."""
    return 1_500 + 200 * len(state.open)
