"""A subject through time.

Its state at any position, what each event changed, and stepping through its events.

A seek starts at the newest keyframe before its target: one from the log, or one that an earlier seek of this
object made. The states are updated in place, so keep only what `show` returns. A `Stepper`, a debugger
without its screen, knows the positions of all events that concern the subject, and seeks from keyframes,
so a step back costs as much as a step forward.
"""

from bisect import bisect_left, bisect_right
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec

from huahuo.eventstore.model import LOG_STREAM, Ack, StoredEvent
from huahuo.replay.history.conditions import (
    MISSING,
    Change,
    Node,
    Path,
    differences,
    holds,
    look,
    rises,
    touches,
    written,
)
from huahuo.replay.history.history import (
    AtHead,
    AtPosition,
    AtSeq,
    AtTime,
    History,
    Moment,
    event_at,
    merged,
    position_at_time,
    position_of,
    seq_at,
)
from huahuo.replay.history.keyframes import FRAME_EVERY, load
from huahuo.replay.history.subject import NotFolded, Part, Subject


class Used(msgspec.Struct, frozen=True):
    """How a part's state was computed.

    From the keyframe after event `keyframe` (0: none), with `applied` events on top of it, up to `seq`.
    """

    stream: str
    fold: str
    seq: int
    keyframe: int
    applied: int


class Step(msgspec.Struct, frozen=True):
    """One event and what it changed."""

    event: StoredEvent
    changes: list[Change]


class Found(msgspec.Struct, frozen=True):
    """A moment: after the event at `position` (0: before the first), with the state there."""

    position: int
    event: StoredEvent | None
    state: dict[str, Any]


class Timeline:
    """Moves one subject through one history. Not to be used by two tasks at once."""

    def __init__(self, history: History, subject: Subject) -> None:
        self.history = history
        self.subject = subject
        self.position = 0
        """The position up to which events are folded into the states."""
        self.used: list[Used] = []
        self._states: list[Any] = [part.fold.initial(part.stream) for part in subject.parts]
        self._evolves = [self._evolve_of(part) for part in subject.parts]
        self._frames = [dict[int, bytes]() for _ in subject.parts]
        self._applied = 0
        self._streams = tuple(dict.fromkeys(part.stream for part in subject.parts))

    def show(self) -> dict[str, Any]:
        """The state at `position`."""
        return self.subject.show(self._states)

    async def place(self, moment: Moment) -> int:
        """The position of a moment for this subject."""
        return await position_of_moment(self.history, self.subject.stream, moment)

    async def seek(self, position: int) -> dict[str, Any]:
        """Go to any position and show the state there."""
        position = max(0, min(position, self.history.position))
        found = [await self._load(n, part, position) for n, part in enumerate(self.subject.parts)]
        self._states = [state for state, _ in found]
        self.used = [used for _, used in found]
        self.position = position
        return self.show()

    async def walk(self, upto: int, *, every: bool = False) -> AsyncIterator[Step]:
        """Go forward to `upto`, event by event. Events of other entities are yielded only with `every`.

        When a step is yielded, the timeline is right after its event.
        """
        subject, states = self.subject, self._states
        async for piece in merged(self.history, self._streams, self.position, upto):
            for event in piece:
                concerned = subject.concerns(event)
                before = subject.glimpse(states, event) if concerned else {}
                for number, part in enumerate(subject.parts):
                    if part.stream in (event.stream, LOG_STREAM):
                        states[number] = self._evolves[number](states[number], event)
                self.position = event.position
                if concerned:
                    yield Step(event, differences(before, subject.glimpse(states, event)))
                elif every:
                    yield Step(event, [])
        self.position = max(self.position, upto)

    def _evolve_of(self, part: Part) -> Callable[[Any, StoredEvent], Any]:
        evolve, concerns = part.fold.evolve, self.subject.concerns

        def evolved(state: Any, event: StoredEvent) -> Any:
            if part.selective and not concerns(event):
                return state
            self._applied += 1
            try:
                return evolve(state, event)
            except Exception as error:  # whatever a fold raises
                raise NotFolded(event, error) from error

        return evolved

    async def _load(self, number: int, part: Part, position: int) -> tuple[Any, Used]:
        self._applied = 0
        loaded = await load(
            self.history, part.stream, part.fold, at=await seq_at(self.history, part.stream, position),
            window=part.window, evolve=self._evolves[number], own=self._frames[number],
        )  # fmt: skip
        return loaded.state, Used(part.stream, part.fold.name, loaded.seq, loaded.framed, self._applied)


async def position_of_moment(history: History, stream: str, moment: Moment) -> int:
    """The log position of a moment. A plain number is a seq of `stream`."""
    match moment:
        case AtHead():
            return history.position
        case AtSeq(seq):
            return await position_of(history, stream, seq)
        case AtPosition(position):
            return min(position, history.position)
        case AtTime(ms):
            return await position_at_time(history, ms)


async def blame(timeline: Timeline, path: Path, upto: int) -> Step | None:
    """The last step up to `upto` that changed the value at `path`, None if none did.

    It searches backwards piece by piece, and folds each piece from the keyframe before it.
    """
    while upto > 0:
        start = await _back(timeline, upto)
        await timeline.seek(start)
        last = None
        async for step in timeline.walk(upto):
            if any(touches(change, path) for change in step.changes):
                last = step
        if last is not None:
            return last
        upto = start
    return None


async def first_true(
    timeline: Timeline, condition: Node, after: int, upto: int, *, monotone: bool = False
) -> Found | None:
    """The first moment in (`after`, `upto`] at which the condition became true.

    If it is true at `after` already, that is the moment. If the condition, once true, stays true
    (`monotone`, or concluded from the subject's rising fields), keyframes are bisected. Otherwise every
    event is visited.
    """
    if holds(condition, await timeline.seek(after)):
        return Found(after, None, timeline.show())
    if monotone or rises(condition, timeline.subject.rising):
        narrowed = await _bisect(timeline, condition, after, upto)
        if narrowed is None:
            return None
        after, upto = narrowed
        await timeline.seek(after)
    async for step in timeline.walk(upto):
        state = timeline.show() if step.changes else None
        if state is not None and holds(condition, state):
            return Found(step.event.position, step.event, state)
    return None


async def _bisect(timeline: Timeline, condition: Node, low: int, high: int) -> tuple[int, int] | None:
    """A range in which the condition became true, short enough to walk from one keyframe."""
    if not holds(condition, await timeline.seek(high)):
        return None
    while high - low > FRAME_EVERY // 4:
        middle = (low + high) // 2
        if holds(condition, await timeline.seek(middle)):
            high = middle
        else:
            low = middle
    return low, high


async def _back(timeline: Timeline, position: int) -> int:
    """The position before `position` from which the busiest stream has `FRAME_EVERY` events up to it."""
    history, start = timeline.history, 0
    for stream in dict.fromkeys(part.stream for part in timeline.subject.parts):
        seq = await seq_at(history, stream, position)
        if seq > FRAME_EVERY:
            start = max(start, await position_of(history, stream, seq - FRAME_EVERY))
    return min(start, position - 1)


class View(msgspec.Struct, frozen=True):
    """The content of the screen after event `number` of `count` (0: before the first)."""

    number: int
    count: int
    position: int
    event: StoredEvent | None
    changes: list[Change]
    state: dict[str, Any]
    watched: list[tuple[str, Any]]
    acks: list[tuple[Ack, bool]]
    """Stored acks of the subject's streams, and whether each covers this moment."""


class Stepper:
    """A position at one event. Not for two tasks at once."""

    def __init__(self, history: History, subject: Subject) -> None:
        self.history = history
        self.subject = subject
        self.watching: list[Path] = []
        self._timeline = Timeline(history, subject)
        self._positions: list[int] = []
        self._number = 0

    async def load(self) -> int:
        """Find the events of the subject, go before the first, and return how many there are."""
        streams = [part.stream for part in self.subject.parts]
        concerns = self.subject.concerns
        self._positions = [
            event.position
            async for piece in merged(self.history, streams, 0, self.history.position)
            for event in piece
            if concerns(event)
        ]
        return len(self._positions)

    async def forward(self, steps: int = 1) -> View:
        """Go `steps` events forward."""
        return await self._go(self._number + steps)

    async def backward(self, steps: int = 1) -> View:
        """Go `steps` events back."""
        return await self._go(self._number - steps)

    async def first(self) -> View:
        """Go before the first event."""
        return await self._go(0)

    async def last(self) -> View:
        """Go to the newest event."""
        return await self._go(len(self._positions))

    async def jump(self, moment: Moment) -> View:
        """Go to the last event up to a moment."""
        position = await self._timeline.place(moment)
        return await self._go(bisect_right(self._positions, position))

    async def search(self, text: str) -> View | None:
        """Go to the next event that has `text` in its type or body, None if there is none."""
        wanted = text.lower().encode()
        for number in range(self._number, len(self._positions)):
            event = await event_at(self.history, self._positions[number])
            if event is not None and (wanted in event.body.lower() or wanted in event.type.encode()):
                return await self._go(number + 1)
        return None

    async def until(self, condition: Node) -> View | None:
        """Go to the next event after which a condition holds, None if there is none."""
        await self._timeline.seek(self._here())
        async for step in self._timeline.walk(self.history.position):
            if holds(condition, self._timeline.show()):
                return await self._go(bisect_left(self._positions, step.event.position) + 1)
        return None

    def watch(self, path: Path) -> None:
        """Show the value at `path` at every moment. A second call for the same path ends that."""
        if path in self.watching:
            self.watching.remove(path)
        else:
            self.watching.append(path)

    async def view(self) -> View:
        """The content of the screen at the current event."""
        timeline, position = self._timeline, self._here()
        event, changes = None, list[Change]()
        await timeline.seek(max(0, position - 1))
        async for step in timeline.walk(position):
            event, changes = step.event, step.changes
        state = timeline.show()
        watched = [(written(path), look(state, path)) for path in self.watching]
        return View(
            number=self._number,
            count=len(self._positions),
            position=position,
            event=event,
            changes=changes,
            state=state,
            watched=[(name, None if value is MISSING else value) for name, value in watched],
            acks=await self._acks(position),
        )

    def _here(self) -> int:
        return self._positions[self._number - 1] if self._number else 0

    async def _go(self, number: int) -> View:
        self._number = max(0, min(number, len(self._positions)))
        return await self.view()

    async def _acks(self, position: int) -> list[tuple[Ack, bool]]:
        seqs = {part.stream: await seq_at(self.history, part.stream, position) for part in self.subject.parts}
        acks = await self.history.acks()
        return [(ack, ack.seq >= seqs[ack.stream]) for ack in acks if ack.stream in seqs]
