"""Which open effects are in memory: those that wait for their turn, and those that wait for their time.

Both numbers are bounded. The others stay in the log's table until there is room.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Final

from huahuo.actors.effects.bounds import Bounds
from huahuo.actors.effects.facts import OpenEffect
from huahuo.actors.effects.known import Known
from huahuo.actors.effects.line import Entry, Line, group_of
from huahuo.actors.effects.part import Part
from huahuo.actors.effects.spec import Spec, backoff_s
from huahuo.actors.plugins.principal import UserId
from huahuo.eventstore.ambient import Ambient

_JOB_BYTES_KEPT: Final = 512
"""Larger arguments are read from the table when the run begins."""


class Memory(ABC):
    """See the module. `draining`: nothing is taken into memory any more."""

    def __init__(
        self, ambient: Ambient, specs: Mapping[tuple[str, str], Spec], bounds: Bounds, *, claims: bool = True
    ) -> None:
        """`claims`: see `Part`."""
        self.draining = False
        self._ambient = ambient
        self._specs = specs
        self._bounds = bounds
        self._line = Line(bounds.waiting_max, bounds.waiting_per_user_max)
        self._known = Known()
        self.forget = self._known.drop
        """See `Keeper`."""
        self._running: dict[int, asyncio.Task[None]] = {}
        self._offered_meanwhile: set[int] = set()
        """Effects that were offered while a run of them was still coming to its end."""
        self._asleep: dict[int, asyncio.TimerHandle] = {}
        self._held: dict[int, str] = {}
        """Effects that other nodes run, and which incarnations those are."""
        self._part = Part(claims=claims)
        self._refused: set[UserId | None] = set()
        """Users with effects in the table for which there was no room."""
        self._more = False
        """Whether the table has effects that were not looked at."""

    @abstractmethod
    def _fill(self) -> None:
        """Begin runs of what waits, where there is room for them."""
        ...

    def _offer(self, id_: int, row: OpenEffect) -> None:
        """Take an open effect into memory, where there is room."""
        if id_ in self._known or self.draining or id_ in self._held:
            return
        if id_ in self._running:
            self._offered_meanwhile.add(id_)
            return
        if self._part.is_whole and self._crowded(row):
            return
        spec = self._specs.get((row.kind, row.effect))
        if spec is None:
            return  # another node's newer code asked for it; this node's next version runs it
        job = bytes(row.job)
        group = group_of(spec, job)
        if not self._part.has(id_, spec, group, row.entity):
            return
        if not self._part.is_whole and self._crowded(row):
            return
        wait_ms = row.due_ms - self._ambient.now_ms()
        if wait_ms > 0:  # longer than any back-off: the clock was set back, perhaps by days
            wait_ms = min(wait_ms, round(1000 * backoff_s(spec, row.failures, 1.0)))
        entry = Entry(id_, spec, row, group, job if len(job) <= _JOB_BYTES_KEPT else None)
        self._known.keep(entry)
        if wait_ms > 0:
            self._sleep(entry, wait_ms / 1000)
        else:
            self._stand(entry)

    def _crowded(self, row: OpenEffect) -> bool:
        """Whether it must stay in the table for now: it could run, and too many others wait."""
        if self._line.room(row.user) or row.due_ms > self._ambient.now_ms():
            return False
        self._refused.add(row.user)
        return True

    def _stand(self, entry: Entry) -> None:
        if not self._line.add(entry):
            self._refused.add(entry.user)
            self.forget(entry)

    def _sleep(self, entry: Entry, seconds: float) -> None:
        if len(self._asleep) >= self._bounds.waiting_max:
            self.forget(entry)  # a sweep finds it again
            return
        self._asleep[entry.id] = asyncio.get_running_loop().call_later(seconds, self._wake, entry)

    def _wake(self, entry: Entry) -> None:
        del self._asleep[entry.id]
        if self._part.keeps(entry):
            self._stand(entry)
            self._fill()
        else:
            self.forget(entry)  # meanwhile it is another node's

    def _room_again(self) -> bool:
        """Whether some that found no room would find it now, enough to look through the table for them."""
        line = self._line
        if not (self._refused or self._more) or len(line.waiting) > line.waiting_max // 2:
            return False
        return self._more or any(line.by_user[user] <= line.per_user_max // 2 for user in self._refused)
