"""What a node knows of the others: which seem to live, whether replicas agree, whose clock runs ahead.

A node seems to live if its proposals were applied in the last seconds, by this node's own monotonic clock,
so no other node's clock matters. It does not advance while the log says nothing: a node that is cut off,
or was frozen, hears of no other, and that says nothing about them.

Each proposal says what its node had after the newest proposal that it had applied. A node stops if at
least as many nodes differ from it as agree with it, itself included. So of two nodes that differ, both
stop; of three, only the odd one stops. Log time ignores clocks that run ahead, but timers, tokens and
people don't.
"""

from collections import deque
from collections.abc import Collection, Iterable, Mapping
from statistics import median
from typing import Literal

import structlog

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.core.storage_port import PASSED_KEPT, Passed
from huahuo.eventstore.replicated.state_machine import Member

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
    """Which nodes seem to live: those whose proposals were applied in the last seconds."""

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


type Verdict = Literal["agreed", "others differ", "differs"]


class Agreement:
    """Whether the replicas agree: what other nodes say they had, compared with what this one had.

    Keeps the newest ends of this replica, and each other node's last word.
    """

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
        mine = self.at(seen.offset)
        if mine is not None and seen.offset >= self._heard.get(node, 0):
            self._heard[node] = seen.offset
            self._agrees[node] = mine == seen

    def verdict(self) -> Verdict:
        """What follows for this node from each node's last word."""
        against = len(self.differing)
        if not against:
            return "agreed"
        behind = 1 + len(self._agrees) - against
        return "differs" if against >= behind else "others differ"


APART_MS = 60_000
TOLD_EVERY_S = 60.0
FRESH_S = 10.0
_OTHERS_MIN = 2
type _Seen = tuple[float, float]
"""A time of another node, and the moment of this node's monotonic clock at which it had it."""
_log = structlog.get_logger(__name__)


class Clocks:
    """What time the other nodes have, by their proposals; and whether this node's clock is wrong by that.

    `trouble`: why it is, None while it is good. It is judged by `look`, and changes if two looks say so: what
    waited for a log that was away says too early a time.
    """

    def __init__(self, ambient: Ambient) -> None:
        self.trouble: str | None = None
        self._ambient = ambient
        self._heard: dict[str, _Seen] = {}
        self._others: _Seen | None = None
        self._earliest: _Seen | None = None
        self._changes = False
        self._told_s: dict[str, float] = {}

    def hear(self, node: str, clock_ms: int) -> None:
        """A proposal of this node was applied. It was made before now, so it can't be of later."""
        now_s, known = self._ambient.monotonic_s(), self._heard.get(node)
        if known is None or now_s - known[1] > FRESH_S or clock_ms >= _later(known, now_s):
            self._heard[node] = clock_ms, now_s
        ahead_ms = clock_ms - self._ambient.now_ms()
        if ahead_ms > APART_MS and now_s - self._told_s.get(node, -TOLD_EVERY_S) >= TOLD_EVERY_S:
            self._told_s[node] = now_s
            _log.error(
                "clocks_apart", node=node, ahead_s=round(ahead_ms / 1000), hint="set the clocks by NTP"
            )

    def look(self) -> None:
        """Judge this node's clock by what was heard lately."""
        now_ms, now_s = self._ambient.now_ms(), self._ambient.monotonic_s()
        lately = (seen for seen in self._heard.values() if now_s - seen[1] <= 2 * FRESH_S)
        times = [_later(seen, now_s) for seen in lately]
        trouble = judged([one - now_ms for one in times])
        near = any(abs(one - now_ms) <= APART_MS for one in times)
        if times:
            self._earliest = None if near else (min(times), now_s)
        if trouble is None and self.trouble is not None and not near:
            return  # too few say something: what is known to be wrong stays so until one agrees
        changes = (trouble is None) != (self.trouble is None)
        if changes and not self._changes:
            self._changes = True
            return
        self._changes, self.trouble = False, trouble
        self._others = None if trouble is None else (median(times), now_s)

    def others_ms(self) -> int | None:
        """What time most other nodes have; None while this node's clock is good."""
        return None if self._others is None else round(_later(self._others, self._ambient.monotonic_s()))

    def earliest_ms(self) -> int | None:
        """What time the node has whose clock is the last; None if one agrees with this node."""
        seen = self._earliest
        return None if seen is None else round(_later(seen, self._ambient.monotonic_s()))


def _later(seen: _Seen, now_s: float) -> float:
    then_ms, then_s = seen
    return then_ms + (now_s - then_s) * 1000


def judged(ahead_ms: Collection[float]) -> str | None:
    """Why this node's clock is wrong, by how far each other one is ahead of it; None if it is not.

    It takes two others that differ in the same direction, and more than half of all. Of two nodes it cannot
    be told which one is wrong.
    """
    behind = [ms for ms in ahead_ms if ms > APART_MS]
    ahead = [-ms for ms in ahead_ms if ms < -APART_MS]
    most = max(_OTHERS_MIN, (len(ahead_ms) + 1) // 2 + 1)
    for name, apart in (("behind", behind), ("ahead of", ahead)):
        if len(apart) >= most:
            return f"the clock of this node is {median(apart) / 1000:.0f} s {name} those of the others"
    return None
