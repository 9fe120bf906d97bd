"""What a checker of an invariant says, and the checkers that need only a log. Pure.

A verdict is true, false or unknown: what saw nothing that it could judge proves nothing. The invariants are
those of docs/invariants.md.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from huahuo.eventstore.model import Ack, StoredEvent, Tombstone


class Verdict(msgspec.Struct, frozen=True):
    """`holds` None: unknown. `text` says what was judged, or what is wrong."""

    invariant: str
    holds: bool | None
    text: str


class Ends(msgspec.Struct, frozen=True):
    """What a log says besides its events: the heads of its streams, and what clients acknowledged."""

    heads: Mapping[str, int] = {}
    acks: Sequence[Ack] = ()


class Rule(Protocol):
    """One invariant, judged on the events of a log in their order. An object judges one log."""

    def see(self, one: StoredEvent | Tombstone) -> None:
        """The next event, or what stays of a pruned one."""
        ...

    def verdict(self, ends: Ends) -> Verdict:
        """What follows from all that was seen."""
        ...


class Tally:
    """What rules share: the first thing that is wrong, and how much was judged."""

    def __init__(self, invariant: str) -> None:
        self.judged = 0
        self._invariant = invariant
        self._wrong = ""

    def wrong(self, text: str) -> None:
        """Note what is wrong. Only the first counts: the others often follow from it."""
        self._wrong = self._wrong or text

    def verdict(self, what: str) -> Verdict:
        """False, unknown if nothing was judged, or true with `what` was judged."""
        if self._wrong:
            return Verdict(self._invariant, False, self._wrong)
        if not self.judged:
            return Verdict(self._invariant, None, f"no {what}")
        return Verdict(self._invariant, True, f"{self.judged} {what}")


def judge(rules: Iterable[Rule], log: Iterable[StoredEvent | Tombstone], ends: Ends) -> list[Verdict]:
    """The verdicts of `rules` over a whole log."""
    rules = list(rules)
    for one in log:
        for rule in rules:
            rule.see(one)
    return [rule.verdict(ends) for rule in rules]
