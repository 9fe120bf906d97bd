"""The one timer of all connections: each is ticked once a turn, a tenth of them at a time.

A connection may say that it rests until a time. Until then it is passed over, without a call and without a
look at it: an idle one costs the comparison of two numbers a turn. All are ticked once when somebody has set
the wall clock, by which tokens end.
"""

import asyncio
import math
from collections.abc import Callable
from typing import Final

import structlog

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.awake import AwakeAmbient
from huahuo.transport.protocol.codes import CloseCode
from huahuo.transport.server.ports import LiveConnection
from huahuo.transport.words import en

BUCKETS: Final = 10
TURN_S: Final = 1.0
_NO_REST_S: Final = -math.inf
_SET_S: Final = 1.0
"""The wall clock was set if it and the monotonic one have parted by more than this."""

type _Bucket = dict[LiveConnection, float]
"""Until when each connection rests."""

_log = structlog.get_logger(__name__)


class Wheel:
    """See the module. Runs on the loop. A connection that raises costs only itself."""

    def __init__(
        self,
        ambient: Ambient,
        end_turn: Callable[[], object],
        *,
        turn_s: float = TURN_S,
        awake: AwakeAmbient | None = None,
    ) -> None:
        """`end_turn` is called when all were ticked once more. `awake` is told when the wheel will turn."""
        self._ambient = ambient
        self._end_turn = end_turn
        self._awake = awake
        self._slept_s = ambient.slept_s()
        self._to_wake = 0
        self._ahead_s = self._wall_clock_ahead_s()
        self._to_look = 0
        self._step_s = turn_s / BUCKETS
        self._buckets: list[_Bucket] = [{} for _ in range(BUCKETS)]
        self._bucket_of: dict[LiveConnection, _Bucket] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._turn = 0
        self._entered = 0

    def __len__(self) -> int:
        return len(self._bucket_of)

    @property
    def connections(self) -> tuple[LiveConnection, ...]:
        """All that are ticked, from the oldest on."""
        return tuple(self._bucket_of)

    @property
    def turning(self) -> bool:
        """Whether a timer waits for the next tick."""
        return self._timer is not None

    def start(self) -> None:
        """Begin to turn."""
        self._arm(asyncio.get_running_loop().time())

    def stop(self) -> None:
        """Turn no more. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._awake is not None:
            self._awake.expect(math.inf)

    def enter(self, connection: LiveConnection) -> None:
        """Tick it from now on. Idempotent."""
        if connection not in self._bucket_of:
            # The emptier of two, others each time: nearly as even as the emptiest of all, and cheaper.
            self._entered += 2
            one, other = self._buckets[self._entered % BUCKETS], self._buckets[(self._entered + 1) % BUCKETS]
            bucket = other if len(other) < len(one) else one
            self._bucket_of[connection] = bucket
            bucket[connection] = _NO_REST_S

    def leave(self, connection: LiveConnection) -> None:
        """Tick it no more. Idempotent."""
        bucket = self._bucket_of.pop(connection, None)
        if bucket is not None:
            del bucket[connection]

    def stirred(self, connection: LiveConnection) -> None:
        """Tick it in each turn, until it says that it rests. Nothing happens if it has left."""
        bucket = self._bucket_of.get(connection)
        if bucket is not None:
            bucket[connection] = _NO_REST_S

    def _arm(self, at_s: float) -> None:
        loop = asyncio.get_running_loop()
        # A loop that was held up skips the turns it missed instead of running them in a burst.
        step_s = self._ambient.routine_s(self._step_s)
        next_s = max(at_s + step_s, loop.time())
        self._timer = loop.call_at(next_s, self._tick, next_s)
        if self._awake is not None:
            self._awake.expect(step_s)

    def _tick(self, at_s: float) -> None:
        self._arm(at_s)
        now_s, slept_s = self._ambient.monotonic_s(), self._ambient.slept_s()
        if slept_s > self._slept_s:
            if self._awake is None or not self._awake.loop_was_held:  # else the log has `loop_blocked`
                _log.warning("process_slept", seconds=round(slept_s - self._slept_s, 1))
            self._slept_s, self._to_wake = slept_s, BUCKETS
        waking = self._to_wake > 0
        self._to_wake -= waking
        bucket = self._buckets[self._turn]
        every = self._clock_was_set() or waking
        for connection in [one for one, until_s in bucket.items() if every or until_s <= now_s]:
            try:
                if waking:
                    self.stirred(connection)
                    connection.wake_up(now_s)
                    continue
                until_s = connection.tick(now_s)
                if connection in bucket:  # else it has just left
                    bucket[connection] = until_s
            except Exception:  # noqa: BLE001  one connection's fault is not the others'
                _log.exception("connection_tick_failed")
                close(connection, CloseCode.SERVER_FAULT, en.FAULT)
        self._turn = (self._turn + 1) % BUCKETS
        if self._turn == 0:
            self._end_turn()

    def _clock_was_set(self) -> bool:
        """Whether the wall clock was set, and these connections have not been ticked since."""
        ahead_s = self._wall_clock_ahead_s()
        if abs(ahead_s - self._ahead_s) > _SET_S:
            self._ahead_s, self._to_look = ahead_s, BUCKETS
        looking = self._to_look > 0
        self._to_look -= looking
        return looking

    def _wall_clock_ahead_s(self) -> float:
        return self._ambient.now_ms() / 1000 - self._ambient.monotonic_s()


def close(connection: LiveConnection, code: CloseCode, reason: str) -> None:
    """Close a connection. One that raises is not the others' fault."""
    try:
        connection.close(code, reason)
    except Exception:  # noqa: BLE001  as above
        _log.exception("connection_close_failed", code=int(code))
