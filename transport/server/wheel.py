"""The one timer of all connections: each is ticked once a turn, a tenth of them at a time."""

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
        self._step_s = turn_s / BUCKETS
        self._buckets: list[dict[LiveConnection, None]] = [{} for _ in range(BUCKETS)]
        self._bucket_of: dict[LiveConnection, dict[LiveConnection, None]] = {}
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
            bucket[connection] = None

    def leave(self, connection: LiveConnection) -> None:
        """Tick it no more. Idempotent."""
        bucket = self._bucket_of.pop(connection, None)
        if bucket is not None:
            del bucket[connection]

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
        for connection in tuple(self._buckets[self._turn]):
            try:
                if waking:
                    connection.wake_up(now_s)
                else:
                    connection.tick(now_s)
            except Exception:  # noqa: BLE001  one connection's fault is not the others'
                _log.exception("connection_tick_failed")
                close(connection, CloseCode.SERVER_FAULT, en.FAULT)
        self._turn = (self._turn + 1) % BUCKETS
        if self._turn == 0:
            self._end_turn()


def close(connection: LiveConnection, code: CloseCode, reason: str) -> None:
    """Close a connection. One that raises is not the others' fault."""
    try:
        connection.close(code, reason)
    except Exception:  # noqa: BLE001  as above
        _log.exception("connection_close_failed", code=int(code))
