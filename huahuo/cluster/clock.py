"""A node whose clock is wrong: it asks the others what time they have, and rests while most of them differ.

Timers ring by the clock, and tokens are judged by it: a client whose token "will be issued in ten minutes"
would be refused for good, though every other node lets it in.
"""

import asyncio
from collections.abc import Callable, Iterable
from statistics import median
from typing import Final

import msgspec
import structlog

from huahuo.cluster.coordination import Duty
from huahuo.cluster.node_requests import STALE, NodeRefused, Peers
from huahuo.cluster.request_signing import WINDOW_MS
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.deadline import cancel_all
from huahuo.eventstore.errors import EventStoreError

REQUEST: Final = "time"
LOOK_S: Final = 5.0
TIMEOUT_S: Final = 2.0
APART_MS: Final = 60_000
SOON_S: Final = 0.25
"""Until one has answered."""
WRONG: Final = "its clock is wrong"
_OTHERS_MIN: Final = 2
type _Seen = tuple[int, float]
"""A time of another node, and the moment of this node's monotonic clock at which it had it."""
_log = structlog.get_logger(__name__)


class Asked(msgspec.Struct, frozen=True):
    """A request without fields."""


class Time(msgspec.Struct, frozen=True):
    """What a node's clock shows."""

    now_ms: int


class Clock:
    """See the module. `trouble` is the reason for `/readyz`, None while this node's clock is good."""

    def __init__(
        self, peers: Peers, duty: Duty, ambient: Ambient, tell: Callable[[str | None], None]
    ) -> None:
        """`tell`: gets the new `trouble` whenever it changes."""
        self.trouble: str | None = None
        self._peers = peers
        self._duty = duty
        self._ambient = ambient
        self._change = tell
        self._others: _Seen | None = None
        self._earliest: _Seen | None = None
        self._task: asyncio.Task[None] | None = None
        peers.on(REQUEST, Asked, self._tell)

    def start(self) -> None:
        """Look from now on."""
        self._task = asyncio.create_task(self._run(), name="clocks of nodes")

    async def stop(self) -> None:
        """Look no more. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            await cancel_all([task], 1.0)

    def others_ms(self) -> int | None:
        """What time most other nodes have; None while this node's clock is good, or nobody told."""
        return self._now(self._others)

    def earliest_ms(self) -> int | None:
        """What time the node has whose clock is the last; None if one agrees with this node, or nobody told.

        It is kept while no node answers.
        """
        return self._now(self._earliest)

    def _now(self, seen: _Seen | None) -> int | None:
        if seen is None:
            return None
        then_ms, then_s = seen
        return then_ms + round((self._ambient.monotonic_s() - then_s) * 1000)

    async def look(self) -> bool:
        """Ask all nodes that live once, and draw the consequence. Returns whether one answered."""
        ambient = self._ambient
        before_ms, before_s = ambient.now_ms(), ambient.monotonic_s()
        said = await self._peers.ask_all(REQUEST, Asked(), Time, timeout_s=TIMEOUT_S)
        if abs(ambient.now_ms() - before_ms - (ambient.monotonic_s() - before_s) * 1000) > APART_MS:
            return False  # the clock was set meanwhile
        refused = [why for why in said.silent.values() if isinstance(why, NodeRefused) and why.code == STALE]
        times = [one.now_ms for one in said.answers.values()] + [why.now_ms for why in refused if why.now_ms]
        untold = sum(not why.now_ms for why in refused)
        trouble = judged((one - before_ms for one in times), untold)
        answered = bool(times or untold)
        near = any(abs(one - before_ms) <= APART_MS for one in times)
        if times:
            self._earliest = None if near else (min(times), before_s)
        if trouble is None and self.trouble is not None and not near:
            return answered  # too few answer to judge: what is known to be wrong stays so until one agrees
        if trouble is None:
            self._others = None
        elif times:
            self._others = round(median(times)), before_s
        if trouble == self.trouble:
            return answered
        if trouble is None:
            _log.info("clock_is_right")
            self._duty.fit(WRONG)
        elif self.trouble is None:
            _log.error("clock_is_wrong", reason=trouble, hint="set this machine's clock by NTP")
        self.trouble = trouble
        self._change(trouble)
        if trouble is not None:
            await self._duty.unfit(WRONG)
        return answered

    async def _run(self) -> None:
        while True:
            answered = await self._looked()
            await asyncio.sleep(LOOK_S if answered else SOON_S)

    async def _looked(self) -> bool:
        try:
            return await self.look()
        except EventStoreError as error:  # a turn of the duty leaves the work
            _log.warning("clock_not_judged", reason=str(error))
        except Exception:  # noqa: BLE001  a plug-in's code runs when the work is left
            _log.exception("clock_not_judged")
        return True

    async def _tell(self, _node: str, _asked: Asked) -> Time:
        return Time(self._ambient.now_ms())


def judged(ahead_ms: Iterable[int], too_far: int = 0) -> str | None:
    """Why this node's clock is wrong, by how far each other one is ahead of it; None if it is not.

    `too_far`: further nodes that are so far apart that they do not answer, and did not tell by how much. It
    takes two others that differ in the same direction, and more than half of all. Of two nodes it cannot be
    told which one is wrong.
    """
    others = list(ahead_ms)
    behind = [ms for ms in others if ms > APART_MS]
    ahead = [-ms for ms in others if ms < -APART_MS]
    most = max(_OTHERS_MIN, (len(others) + too_far + 1) // 2 + 1)
    for name, apart in (("behind", behind), ("ahead of", ahead)):
        if len(apart) >= most:
            return f"the clock of this node is {median(apart) / 1000:.0f} s {name} those of the others"
    if too_far >= most:
        return f"the clock of this node is over {WINDOW_MS // 60_000} minutes from those of the others"
    return None
