"""Stepping through a subject's events, forward and backward: a debugger without its screen.

It knows the positions of all events that concern the subject, and seeks from keyframes, so a step back costs
as much as a step forward.
"""

from bisect import bisect_left, bisect_right
from typing import Any

import msgspec

from huahuo.eventstore.model import Ack, StoredEvent
from huahuo.replay.history.delta import MISSING, Change, Path, look, written
from huahuo.replay.history.history import History, event_at, merged, seq_at
from huahuo.replay.history.moment import Moment
from huahuo.replay.history.predicate import Node, holds
from huahuo.replay.history.subject import Subject
from huahuo.replay.history.timeline import Timeline


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
        if position:
            await timeline.seek(position - 1)
            async for step in timeline.walk(position):
                event, changes = step.event, step.changes
        state = await timeline.seek(position)
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
