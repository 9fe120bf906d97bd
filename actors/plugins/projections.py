"""What a plug-in keeps next to the log and can make anew from it: how far each is, and what may be done."""

from typing import Protocol

from msgspec import Struct


class Standing(Struct, frozen=True):
    """Where a projection or follower stands. `lag`: events of the log behind its cursor."""

    name: str
    what: str
    cursor: int
    lag: int
    state: str
    dead_letters: int = 0
    error: str = ""


class Projection(Protocol):
    """A projection. `by` is the administrator who asks, written as in events: `user/1`."""

    def standing(self) -> Standing:
        """Where it stands."""
        ...

    async def pause(self, by: str, *, paused: bool) -> None:
        """Take up nothing more, or go on."""
        ...

    async def retry(self, by: str) -> int:
        """Try again what could not be taken up, and return how many events that are."""
        ...

    async def rebuild(self, by: str) -> None:
        """Forget everything and begin at the start of the log. Returns when that has begun."""
        ...
