"""Where effects are recorded, as the runner and the runs see it. Pure.

Those of an application are recorded on streams next to their entities (`huahuo.actors.effects.streams`). A
plug-in whose entities say on their own streams what their effects do implements `Books` over these, so that
nothing is recorded twice.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from huahuo.actors.effects.facts import OpenEffect
from huahuo.actors.effects.line import Entry
from huahuo.actors.effects.spec import Failure


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
