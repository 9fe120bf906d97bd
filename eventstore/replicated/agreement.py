"""Whether the replicas agree: what other nodes say they had, compared with what this one had. Pure.

Each proposal says what its node had after the newest proposal that it had applied. A node stops if at least
as many nodes differ from it as agree with it, itself included. So of two nodes that differ, both stop; of
three, only the odd one stops.
"""

from collections import deque
from collections.abc import Iterable
from typing import Literal

from huahuo.eventstore.core.changes import PASSED_KEPT, Passed

type Verdict = Literal["agreed", "others differ", "differs"]


class Agreement:
    """See the module. Keeps the newest ends of this replica, and each other node's last word."""

    def __init__(self, passed: Iterable[Passed] = ()) -> None:
        self._passed: deque[Passed] = deque(passed, maxlen=PASSED_KEPT)
        self._agrees: dict[str, bool] = {}
        self._heard: dict[str, int] = {}
        """By node: the offset that its last word was about."""

    @property
    def last(self) -> Passed:
        """What this replica has now."""
        return self._passed[-1] if self._passed else Passed(0, b"", b"")

    @property
    def differing(self) -> list[str]:
        """The nodes whose last word is another history."""
        return sorted(node for node, agrees in self._agrees.items() if not agrees)

    def at(self, offset: int) -> Passed | None:
        """What this replica had after the proposal at `offset`, None if that is not kept."""
        at = offset - self._passed[0].offset if self._passed else -1
        return self._passed[at] if 0 <= at < len(self._passed) else None

    def add(self, passed: Passed) -> None:
        """Note what this replica has after one more proposal."""
        self._passed.append(passed)

    def hear(self, node: str, seen: Passed) -> None:
        """Compare what another node says it had, if this replica still knows what it had itself then."""
        if not self._passed:
            return
        at = seen.offset - self._passed[0].offset
        if 0 <= at < len(self._passed) and seen.offset >= self._heard.get(node, 0):
            self._heard[node] = seen.offset
            self._agrees[node] = self._passed[at] == seen

    def verdict(self) -> Verdict:
        """What follows for this node from each node's last word."""
        against = len(self.differing)
        if not against:
            return "agreed"
        behind = 1 + len(self._agrees) - against
        return "differs" if against >= behind else "others differ"
