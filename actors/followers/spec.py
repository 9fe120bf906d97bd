"""A follower as it was declared, and what its function is given. Pure data."""

from collections.abc import Awaitable, Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Final, Literal

from msgspec import Struct

from huahuo.eventstore.model import StoredEvent

BATCH_MAX: Final = 1_000
DEAD_LETTERS_MAX: Final = 1_000
"""Of one follower. With as many, it goes on trying the next event that fails instead of putting it aside."""
BACKOFF_S_MAX: Final = 300.0

type Position = int
type OwnCursor = Callable[[], Awaitable[Position]]
"""Reads the cursor that a follower keeps in its own database."""


class Followed(Struct, frozen=True):
    """An event as a follower gets it.

    `data` is its body with `type` and `timestamp`, in the form of today's version. `id` is the entity's: a
    number or a text. `position` is its place in the whole log, and rises with each event.
    """

    position: Position
    stream: str
    seq: int
    type: str
    data: dict[str, Any]
    id: int | str = ""
    ts_ms: int = 0
    principal: str = ""

    @property
    def kind(self) -> str:
        """The kind of its stream: `order`."""
        return self.stream.partition("/")[0]


class FollowerRun(Struct, frozen=True):
    """Given to a follower's function as its second argument, where it has one.

    `position`: the cursor after these events, for a follower that keeps it in its own database. `attempt`
    counts from 1 how often the first of these events was tried alone. `again`: it is a dead letter that an
    administrator wants to be tried again, out of order.
    """

    follower: str
    position: Position
    attempt: int = 1
    again: bool = False


def _nothing(_error: BaseException) -> bool:
    return False


@dataclass(frozen=True, kw_only=True)
class Spec:
    """A follower. `kinds`: those of the streams; they may change as it runs.

    `types`: those of the events, if it does not want all. `cursor` None: the log keeps it. Else `passing`
    says whether it is also called without events, now and then, after many that it does not want have passed.
    `waits_out`: after such an error an event is tried again for ever, since no event is to blame for it.
    """

    name: str
    kinds: AbstractSet[str]
    types: AbstractSet[str] = frozenset()
    handler: Callable[..., Awaitable[None]]
    wants_run: bool = False
    cursor: OwnCursor | None = None
    passing: bool = False
    batch: int = 100
    retries: int = 10
    waits_out: Callable[[BaseException], bool] = _nothing
    backoff_s: float = 1.0
    first: Literal["start", "head"] = "start"
    place: str = "?"

    def wants(self, kinds: AbstractSet[str], types: AbstractSet[str]) -> bool:
        """Whether one of the events on streams of these kinds may be for it. `types`: theirs."""
        return not self.kinds.isdisjoint(kinds) and not (self.types and self.types.isdisjoint(types))

    async def call(self, events: Sequence[Followed], run: FollowerRun) -> None:
        """Call the function. Raises whatever it raises."""
        if self.wants_run:
            await self.handler(events, run)
        else:
            await self.handler(events)


type ReadEvent = Callable[[StoredEvent], Followed]
"""Makes what the function gets of a stored event. Raises ValueError: the body cannot be read."""


def backoff_s(first_s: float, failures: int, chance: float) -> float:
    """The pause before the next attempt. `chance` in [0, 1) makes it up to half longer or shorter."""
    return float(min(first_s * 2.0 ** min(failures - 1, 30), BACKOFF_S_MAX) * (0.5 + chance))
