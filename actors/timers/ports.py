"""What the clockwork asks of the entities: to decide the commands of due timers, one by one or in a group."""

from collections.abc import Sequence
from typing import Protocol

from huahuo.actors.timers.timer import Timer


class Group(Protocol):
    """Firings whose commands are decided in the caller's steps and written by one append."""

    @property
    def full(self) -> bool:
        """Whether it should take no more."""
        ...

    def add(self, timer: Timer, command_id: str) -> bool:
        """Have its entity decide the command, if it is in memory, idle and up to date. False: it is not."""
        ...

    def submit(self) -> None:
        """Give all to the log."""
        ...

    async def finish(self) -> bool:
        """Return when they are durable. False: nothing was written: `fire` them. Raises: it is not known."""
        ...

    def give_up(self) -> None:
        """Wait for them no longer."""
        ...


class Fires(Protocol):
    """What is done with a timer that is due."""

    def together(self) -> Group:
        """A group that has no firing yet."""
        ...

    async def load(self, timers: Sequence[Timer]) -> None:
        """Bring their entities into memory, if that is quickly done. Raises: it could not be done."""
        ...

    async def fire(self, timer: Timer) -> None:
        """Have its entity decide the command. It returns when that is durable, or the timer is gone."""
        ...
