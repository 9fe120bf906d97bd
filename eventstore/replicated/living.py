"""Which nodes seem to live: those whose proposals were applied in the last seconds. Pure.

The time is this node's own monotonic clock, so no other node's clock matters. It does not advance while
the log says nothing: a node that is cut off, or was frozen, hears of no other, and that says nothing about
them.
"""

from collections.abc import Mapping

from huahuo.eventstore.replicated.shared import Member

HEARTBEAT_S = 2.0
"""A node that had nothing to propose for this long makes an empty proposal."""
LIVING_S = 8.0
"""A node counts as gone when the log has had nothing of it for this long."""
QUIET_S = HEARTBEAT_S * 1.5
"""A log that said nothing for longer, not even what this node proposes, told nothing meanwhile."""


def name_of(node: str, epoch: int) -> str:
    """An incarnation by its name."""
    return f"{node}.{epoch}"


class Living:
    """See the module."""

    def __init__(self) -> None:
        self._heard_s: dict[str, float] = {}
        """By incarnation."""
        self._now_s = 0.0
        """When anything was heard last."""

    def begin(self, members: Mapping[str, Member], now_s: float) -> None:
        """This node begins: it cannot know yet who is gone."""
        self._go_on(now_s)
        for node, member in members.items():
            self._heard_s.setdefault(name_of(node, member.epoch), now_s)

    def hear(self, node: str, epoch: int, now_s: float) -> None:
        """A proposal of this incarnation was applied."""
        self._go_on(now_s)
        self._heard_s[name_of(node, epoch)] = now_s

    def names(self, members: Mapping[str, Member]) -> frozenset[str]:
        """The incarnations that seem to live. One that its node's next incarnation ended does not."""
        present = {name_of(node, member.epoch) for node, member in members.items()}
        self._heard_s = {name: at_s for name, at_s in self._heard_s.items() if name in present}
        return frozenset(name for name, at_s in self._heard_s.items() if self._now_s - at_s < LIVING_S)

    def _go_on(self, now_s: float) -> None:
        deaf_s = now_s - self._now_s - QUIET_S
        if deaf_s > 0:
            self._heard_s = {name: at_s + deaf_s for name, at_s in self._heard_s.items()}
        self._now_s = now_s
