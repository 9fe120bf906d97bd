"""What time it is for tokens and revocations. Pure.

The nodes of a cluster share a time: that of their ordered log, which no clock that is behind holds up. By it
a node whose clock is behind takes the fresh tokens that the other nodes take too, and ends those that they
issued.
"""

from collections.abc import Callable
from typing import Final

from huahuo.actors.plugins.principal import UserId

LOG_AHEAD_MS_MAX: Final = 600_000
"""By how much the nodes' common time may be ahead of this machine's clock and still say what is of today."""
ISSUED_AHEAD_MS_MAX: Final = 86_400_000
"""How far ahead a clock may be whose node dates what it issues back: what it signs ends later by as much."""

type Latest = Callable[[int], int]
"""What time it is for revocations and for what is issued, at a time of this machine's clock."""
type IssueMs = Callable[[UserId], int]
"""Of when what is issued for a user is, or may be."""
type Others = Callable[[], int | None]
"""What time other nodes have, as far as it is to be heeded; None if not."""


def own_clock(now_ms: int) -> int:
    """`Latest` of a service that is alone."""
    return now_ms


def among_nodes(log_ms: Callable[[], int], others_ms: Others = lambda: None) -> Latest:
    """`Latest` of a node. `log_ms`: the nodes' common time.

    `others_ms`: what time most other nodes have, while it is known that this machine's clock is wrong.
    """

    def latest_ms(now_ms: int) -> int:
        latest = max(now_ms, min(log_ms(), now_ms + LOG_AHEAD_MS_MAX))
        others = others_ms()
        return latest if others is None else max(others, min(latest, others + LOG_AHEAD_MS_MAX))

    return latest_ms


def issued_among(latest_ms: Latest, earliest_ms: Others) -> Latest:
    """Of when is what a node issues, whose clock may be so far ahead that others take it for of the future.

    Then it goes by the time of theirs. `earliest_ms`: what time the node has whose clock is the last, while
    no node agrees with this one.
    """

    def issued_ms(now_ms: int) -> int:
        earliest = earliest_ms()
        if earliest is not None and LOG_AHEAD_MS_MAX < now_ms - earliest <= ISSUED_AHEAD_MS_MAX:
            return earliest
        return latest_ms(now_ms)

    return issued_ms
