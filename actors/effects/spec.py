"""One class of effects as the runner knows it, and what the runner asks of the entities. Pure."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from huahuo.actors.effects.facts import Guard
from huahuo.actors.plugins.principal import UserId

BACKOFF_S_MAX = 3600.0


@dataclass(frozen=True, kw_only=True)
class Spec:
    """A class of effects. `read` makes a job of its stored arguments; `key` the entity's id of its text."""

    kind: str
    name: str
    handler: Callable[[Any, Any], Awaitable[None]]
    read: Callable[[bytes], Any]
    key: Callable[[str], Any]
    retries: int = 5
    backoff_s: float = 1.0
    at_once: int | None = None
    per: Callable[[Any], object] | None = None
    spread: bool = False
    """Whether nodes divide it by entity in spite of `at_once`: each node then counts its own runs."""


class Answered(Enum):
    """What became of a command that a run sent to its entity."""

    DONE = "done"
    MOVED = "moved"
    """The books have moved on since; nothing was written: look again."""
    UNHANDLED = "unhandled"
    """The entity has no handler for it, refused it, or its handler failed; nothing was written."""


class Owners(Protocol):
    """The entities that effects belong to."""

    async def state(self, kind: str, key: str) -> Any:
        """The state of an entity. Raises as `Directory.ask`."""
        ...

    async def emit(
        self, kind: str, key: str, events: Sequence[Any], guard: Guard, cause: int, run: str = ""
    ) -> tuple[Answered, Any]:
        """Append events by the entity's own decision, and return the state after them.

        `run`: the place of the run in a trace, the command's id of the events.

        Raises as `Directory.ask`; Refused: they are over a bound. Others: what a handler raised.
        """
        ...

    async def failed(
        self,
        spec: Spec,
        key: str,
        failure: "Failure",
        guard: Guard,
        cause: int,
        user: UserId | None,
        run: str = "",
    ) -> Answered:
        """Tell the entity that an effect, started for `user`, failed for good. Raises as `Directory.ask`.

        `run`: as for `emit`.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Failure:
    """The final failure of an effect. `job` is None if its arguments cannot be read any more."""

    error_type: str
    attempts: int
    job: Any


def backoff_s(spec: Spec, failures: int, chance: float) -> float:
    """How long to wait after this many failures. `chance` in [0, 1) spreads it by half in both directions."""
    grown = spec.backoff_s * 2.0 ** min(failures - 1, 30)
    return float(min(grown, BACKOFF_S_MAX) * (0.5 + chance))
