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

type Latest = Callable[[int], int]
"""What time it is for revocations and for what is issued, at a time of this machine's clock."""
type IssueMs = Callable[[UserId], int]
"""Of when what is issued for a user is, or may be."""


def own_clock(now_ms: int) -> int:
    """`Latest` of a service that is alone."""
    return now_ms


def among_nodes(log_ms: Callable[[], int], others_ms: Callable[[], int | None] = lambda: None) -> Latest:
    """`Latest` of a node. `log_ms`: the nodes' common time.

    `others_ms`: what time most other nodes have, while it is known that this machine's clock is wrong.
    """

    def latest_ms(now_ms: int) -> int:
        latest = max(now_ms, min(log_ms(), now_ms + LOG_AHEAD_MS_MAX))
        others = others_ms()
        return latest if others is None else max(others, min(latest, others + LOG_AHEAD_MS_MAX))

    return latest_ms
