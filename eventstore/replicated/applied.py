"""What a job of a replica applied: several proposals in one commit."""

from collections.abc import Sequence

import msgspec

from huahuo.eventstore.core.changes import Group, Passed, PutPassed
from huahuo.eventstore.core.draft import Draft
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.replicated.apply import Run, Step
from huahuo.eventstore.replicated.shared import Shared, dump
from huahuo.eventstore.sequencer.port import Ordered


class Applied(msgspec.Struct):
    """A step for each proposal, and what the replica had after it. The rest is the state after them all."""

    draft: Draft
    steps: list[Step]
    passed: list[Passed]
    shared: Shared
    counters: dict[str, int]
    spent_s: float = 0.0

    def group(self) -> Group:
        """The commit, with how far the order is applied."""
        put = PutPassed(dump(self.shared), tuple(self.passed))
        return Group(self.shared.time_ms, self.draft.events, [*self.draft.changes, put])


def apply_all(run: Run, draft: Draft, batch: Sequence[Ordered]) -> Applied:
    """Apply the proposals of `batch` to the draft of `run`.

    Raises:
        EventStoreError: one is missing; or as `Run.add`.
    """
    steps: list[Step] = []
    passed: list[Passed] = []
    for one in batch:
        if one.offset != run.shared.offset + 1:
            raise EventStoreError(f"proposal {run.shared.offset + 1} is missing in the ordered log")
        steps.append(run.add(one))
        passed.append(run.passed())
    return Applied(draft, steps, passed, run.shared, run.counters)
