"""Clocks that run ahead: log time ignores them, but timers, tokens and people don't."""

from collections.abc import Callable

import structlog

from huahuo.eventstore.ambient import Ambient

AHEAD_MS = 60_000
TOLD_EVERY_S = 60.0
_log = structlog.get_logger(__name__)


class Clocks:
    """Raises an alarm for a node whose clock is more than a minute ahead of ours; or ours is behind."""

    def __init__(self) -> None:
        self._told_s: dict[str, float] = {}
        self.ask_others: Callable[[], int | None] | None = None
        """See `others_ms`. Nobody knows before the node asks the others."""
        self.ask_earliest: Callable[[], int | None] | None = None
        """See `earliest_ms`."""

    def others_ms(self) -> int | None:
        """The time that most other nodes have, while it is known that this node's clock is wrong."""
        return None if self.ask_others is None else self.ask_others()

    def earliest_ms(self) -> int | None:
        """The time of the node whose clock is furthest behind, while none agrees with this node's clock."""
        return None if self.ask_earliest is None else self.ask_earliest()

    def hear(self, node: str, clock_ms: int, ambient: Ambient) -> None:
        """A proposal of this node was applied. It was made before now, so it can't be of later."""
        ahead_ms = clock_ms - ambient.now_ms()
        now_s = ambient.monotonic_s()
        if ahead_ms <= AHEAD_MS or now_s - self._told_s.get(node, -TOLD_EVERY_S) < TOLD_EVERY_S:
            return
        self._told_s[node] = now_s
        _log.error("clocks_apart", node=node, ahead_s=round(ahead_ms / 1000), hint="set the clocks by NTP")
