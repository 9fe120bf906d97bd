"""Rounds of due timers: what an entity decides first, whatever the groups do."""

from collections.abc import Collection, Sequence
from typing import Any

from huahuo.actors.timers.clockwork import Rounds
from huahuo.actors.timers.timer import Due, Timer

FIRST, SECOND = (Timer("sale/1", name, due_ms, "close", b"{}", 0) for name, due_ms in (("a", 1), ("b", 2)))


class TwoAttempts:
    """Entities of which the first group takes one timer and is not written; the next one takes all."""

    def __init__(self) -> None:
        self.groups = 0
        self.decided: list[Timer] = []

    def together(self) -> "OneGroup":
        self.groups += 1
        return OneGroup(self, refuses=self.groups == 1)

    async def load(self, timers: Sequence[Timer]) -> None:
        """They are there."""

    async def fire(self, timer: Timer) -> None:
        raise AssertionError(timer)


class OneGroup:
    full = False

    def __init__(self, entities: TwoAttempts, *, refuses: bool) -> None:
        self._entities = entities
        self._refuses = refuses
        self._added: list[Timer] = []

    def add(self, timer: Timer, command_id: str) -> bool:
        if self._refuses and self._added:
            return False
        self._added.append(timer)
        return True

    def submit(self) -> None:
        """It is on its way."""

    async def finish(self) -> bool:
        if self._refuses:
            return False
        self._entities.decided += self._added
        return True

    def give_up(self) -> None:
        """Nobody waits."""


class Kept:
    """What the clockwork hears."""

    def done(self, keys: Collection[bytes]) -> None:
        """They fired."""

    def again(self, timer: Timer, key: bytes, error: Exception) -> None:
        raise AssertionError(error)

    def ended(self, firings: int = 1) -> None:
        """There is room."""


async def test_a_timer_whose_group_was_not_written_still_comes_before_a_later_one_of_its_entity() -> None:
    entities = TwoAttempts()
    due: list[Due] = [(timer.key, timer) for timer in (FIRST, SECOND)]
    kept: Any = Kept()
    await Rounds(entities, kept).fire(due)
    assert entities.decided == [FIRST, SECOND]
