"""Marks of what a run should reach some time. The gate fails if one of them was reached in no run."""

from collections import Counter
from typing import Final

SOMETIMES: Final = (
    "a socket takes a part of a frame",
    "ack lost",
    "all nodes went back to older code",
    "an event for many in one call",
    "answered again",
    "client moved to another node",
    "clock back a day",
    "clock on by days",
    "connection refused for a full disk",
    "crash between commit and reply",
    "crash between refresh and use",
    "crash in a sync",
    "crash while effects run",
    "cursor ahead of the log",
    "device restarted",
    "disk full, then recovered",
    "drain with clients",
    "duplicate answered from the log",
    "effect taken up by the next life",
    "fence refused a writer",
    "grant ended by its server",
    "grant renewed by another node",
    "half-open connection",
    "in-doubt proposal resolved",
    "job interrupted",
    "leave during broadcast",
    "long poll answered by an event",
    "machine stopped and went on",
    "mailbox renumbered",
    "newer action refused by an older node",
    "newer code took over",
    "node joined late",
    "node went back to older code",
    "nodes of two versions at once",
    "older code wrote behind newer code",
    "partition healed",
    "refresh token given up",
    "refresh token rotated",
    "refresh token used again before its successor",
    "refused for its reader",
    "removed action answered from the log",
    "removed kind refused to its user",
    "removed kind resumed by an administrator",
    "resume from the middle",
    "resumed by Last-Event-ID",
    "revoked",
    "second writer refused",
    "slow client lagged",
    "stranger turned away",
    "sync failed, nothing acknowledged",
    "timer fired in a later life",
    "token expired",
    "token server asked to wait",
    "token server hung",
    "torn tail cut",
    "two incarnations of a client",
    "user erased",
    "webhook accepted after a refusal",
    "webhook delivered twice",
)


class Marks:
    """Which marks a run reached, how often."""

    def __init__(self) -> None:
        self.hit: Counter[str] = Counter()

    def sometimes(self, mark: str, condition: object = True) -> None:
        """Note that this place was reached. Raises KeyError: no such mark is known."""
        if mark not in SOMETIMES:
            raise KeyError(mark)
        if condition:
            self.hit[mark] += 1
