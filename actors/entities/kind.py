"""What all entities of one kind share: decider, effects, log, feed and clock."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from huahuo.actors.entities.decider import Context, Decider
from huahuo.actors.entities.fairness import Fairness
from huahuo.eventstore.ambient import Ambient, rfc3339
from huahuo.eventstore.port import Log
from huahuo.replay.history.keyframes import KeyframeWriter
from huahuo.replay.live.feed import Feed

_log = structlog.get_logger(__name__)

type Effects = Callable[[str, Any, int], None]
"""Called with key, effect and the position of its decision. Starts the effect and returns at once."""


class Kind:
    """See the module."""

    __slots__ = (
        "_moment", "adopt", "ambient", "decider", "effects", "fairness", "feed", "keyframes", "loads", "log",
        "name", "policy", "stream_prefix", "weigh", "weight",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        decider: Decider[Any, Any, Any, Any],
        *,
        stream_prefix: str,
        log: Log,
        feed: Feed,
        ambient: Ambient,
        keyframes: KeyframeWriter,
        loads: asyncio.Semaphore,
        effects: Effects,
        weigh: Callable[[Any], int] | None = None,
        keyframe_every: int = 0,
        fairness: Fairness | None = None,
    ) -> None:
        self.name = name
        self.decider = decider
        self.adopt: Callable[[Any, Any], int] | None = getattr(decider, "adopt", None)
        """Gives a state what its decider said in `Decision.after`. Returns how many events that covers."""
        self.stream_prefix = stream_prefix
        self.log = log
        self.feed = feed
        self.ambient = ambient
        self.keyframes = keyframes
        self.policy = keyframes.policy.with_every(keyframe_every) if keyframe_every else keyframes.policy
        self.loads = loads
        self.effects = effects
        self.weigh = weigh
        self.fairness = fairness
        self._moment = 0, rfc3339(0)
        self.weight = 0
        """The sum of `weigh` over the loaded states."""

    def context(self, command_id: str = "") -> Context:
        """The time, counters and heads for one decision."""
        now_ms = self.ambient.now_ms()
        if self._moment[0] != now_ms:  # many decisions are made within a millisecond
            self._moment = now_ms, rfc3339(now_ms)
        return Context(
            now_ms=now_ms,
            timestamp=self._moment[1],
            take=self.log.take,
            head=self._head,
            command_id=command_id,
        )

    def _head(self, stream: str) -> int:
        return self.log.head(stream).seq

    def start_effects(self, stream: str, effects: Sequence[object], position: int) -> None:
        """Start the effects of this stream's entity. If one fails to start, that is logged."""
        key = stream.removeprefix(f"{self.stream_prefix}/")
        for effect in effects:
            try:
                self.effects(key, effect, position)
            except Exception:  # noqa: BLE001  user code; the events are committed
                _log.exception("effect_not_started", kind=self.name, key=key, effect=type(effect).__name__)
