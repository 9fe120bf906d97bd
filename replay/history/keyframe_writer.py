"""Stores keyframes in the background, at most so many and so large ones at a time."""

import asyncio

import structlog

from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.model import Keyframe
from huahuo.eventstore.port import Log
from huahuo.replay.history.keyframes import KeyframePolicy
from huahuo.replay.history.subject import Fold

_log = structlog.get_logger(__name__)


class KeyframeWriter:
    """Stores keyframes in the background. Callers do not wait, and keyframes over the bound are skipped."""

    def __init__(
        self,
        log: Log,
        policy: KeyframePolicy,
        *,
        pending_max: int = 256,
        pending_bytes_max: int = 16 << 20,
    ) -> None:
        self._log = log
        self._pending_max = pending_max
        self._pending_bytes_max = pending_bytes_max
        self.pending_bytes = 0
        self._pending: set[asyncio.Task[None]] = set()
        self.policy = policy
        self.written = 0
        self.failed = 0
        self.left_out = 0

    @property
    def full(self) -> bool:
        """Whether the next offer would be skipped."""
        return len(self._pending) >= self._pending_max or self.pending_bytes >= self._pending_bytes_max

    def offer[S](self, stream: str, fold: Fold[S], seq: int, state: S) -> int | None:
        """Encode the state now and store it soon.

        Returns:
            The size in bytes, None if too many keyframes are waiting and this one is skipped.
        """
        if self.full:
            self.left_out += 1
            return None
        frame = Keyframe(stream, fold.name, fold.fingerprint, seq, fold.dump(state))
        self.pending_bytes += len(frame.state)
        task = asyncio.get_running_loop().create_task(self._put(frame))
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)
        return len(frame.state)

    async def flush(self) -> None:
        """Wait until every accepted keyframe is stored or has failed."""
        while self._pending:
            await asyncio.wait(tuple(self._pending))

    async def _put(self, frame: Keyframe) -> None:
        try:
            await self._log.put_keyframe(frame)
        except EventStoreError as error:
            self.failed += 1
            _log.warning("keyframe_not_written", stream=frame.stream, error=type(error).__name__)
        else:
            self.written += 1
        finally:
            self.pending_bytes -= len(frame.state)
