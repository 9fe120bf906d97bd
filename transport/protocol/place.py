"""Where a subscription begins: the outcomes of PROTOCOL 3.1. Pure."""

from enum import StrEnum

import msgspec

from huahuo.eventstore.model import Head


class Outcome(StrEnum):
    """The answer to a client's request for a place."""

    FRESH = "fresh"
    RESUMED = "resumed"
    GAP = "gap"
    RESET = "reset"
    SNAPSHOT = "snapshot"
    DENIED = "denied"
    PENDING = "pending"


class Place(msgspec.Struct, frozen=True):
    """The reader's position: its next event is the one after seq `after`.

    `ahead`: the client's cursor is beyond the head. `differs`: its check is not the log's. Both happen only
    if events were lost or replaced.
    """

    outcome: Outcome
    after: int
    ahead: bool = False
    differs: bool = False

    @property
    def needs_snapshot(self) -> bool:
        """Whether a snapshot must be sent before the events."""
        return self.outcome in (Outcome.GAP, Outcome.RESET, Outcome.SNAPSHOT)


def place(head: Head, after: int | str, *, same_log: bool, differs: bool = False) -> Place:
    """The place for `after`: a cursor (of this log if `same_log`), `head`, `start` or `snapshot`.

    `differs`: the events before the cursor are not those that the client saw.

    If a snapshot is needed, it will be of this head or a later one.

    Raises:
        ValueError: another text.
    """
    match after:
        case int():
            return _by_cursor(head, after, same_log=same_log, differs=differs)
        case "head":
            return Place(Outcome.FRESH, head.seq)
        case "start":
            return _by_cursor(head, 0, same_log=True)
        case "snapshot":
            return Place(Outcome.SNAPSHOT, head.seq)
        case _:
            raise ValueError("unknown place")


def _by_cursor(head: Head, cursor: int, *, same_log: bool, differs: bool = False) -> Place:
    if not same_log:
        return Place(Outcome.RESET, head.seq)
    if cursor > head.seq:
        return Place(Outcome.RESET, head.seq, ahead=True)
    if differs:
        return Place(Outcome.RESET, head.seq, differs=True)
    if cursor < head.first - 1:
        return Place(Outcome.GAP, head.seq)
    return Place(Outcome.RESUMED, cursor)
