"""Acks on their way to the side table: the highest per (user, client, stream), once a turn.

A stored ack may be lower than the client's last one, never higher, and it never decreases.
"""

import asyncio
from typing import Final

import structlog

from huahuo.eventstore.errors import Closed, Corrupt, Unavailable
from huahuo.eventstore.model import Ack
from huahuo.eventstore.port import Log

ACKS_WAITING_MAX: Final = 100_000
_ACKS_A_COMMIT: Final = 1000
"""A bound, because an event that is appended meanwhile waits for this commit."""

_log = structlog.get_logger(__name__)

type _AckKey = tuple[str, str, str]
type _Place = tuple[str, str]
"""A client, and a stream."""


class AckCollector:
    """See the module."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._changed: dict[_AckKey, int] = {}
        self._saving: dict[_AckKey, int] = {}
        self._waiting: dict[_Place, dict[asyncio.Future[None], tuple[int, str]]] = {}
        self._refused = False
        """Whether the log refused the last acks: told once, and not each turn until it takes them."""

    @property
    def waiting(self) -> int:
        """How many acks changed since the last write."""
        return len(self._changed)

    def note(self, user: str, client: str, stream: str, seq: int) -> None:
        """Remember one ack. With 100,000 waiting for a log that does not write, new keys are dropped."""
        if self._waiting:
            for future, (wanted, of) in tuple(self._waiting.get((client, stream), {}).items()):
                if seq >= wanted and of in ("", user) and not future.done():
                    future.set_result(None)
        key = (user, client, stream)
        known = self._changed.get(key)
        if known is None and len(self._changed) >= ACKS_WAITING_MAX:
            return
        if known is None or seq > known:
            self._changed[key] = seq

    def acked(self, client: str, stream: str, seq: int, user: str = "") -> asyncio.Future[None]:
        """See `Hub.acked`."""
        future = asyncio.get_running_loop().create_future()
        for unsaved in (self._changed, self._saving):
            if any(
                one[1:] == (client, stream) and user in ("", one[0]) and known >= seq
                for one, known in unsaved.items()
            ):
                future.set_result(None)
                return future
        at = (client, stream)
        self._waiting.setdefault(at, {})[future] = seq, user
        future.add_done_callback(lambda ended: self._answered(at, ended))
        return future

    def _answered(self, at: _Place, future: asyncio.Future[None]) -> None:
        waiting = self._waiting[at]
        del waiting[future]
        if not waiting:
            del self._waiting[at]

    async def flush(self) -> None:
        """Write the changed acks, at most 1,000 a commit. Acks that the log refuses wait a turn."""
        self._saving = changed = self._changed
        self._changed = {}
        try:
            await self._save(changed)
        finally:
            self._saving = {}

    async def _save(self, changed: dict[_AckKey, int]) -> None:
        acks = [Ack(*key, seq) for key, seq in changed.items()]
        for start in range(0, len(acks), _ACKS_A_COMMIT):
            try:
                await self._log.save_acks(acks[start : start + _ACKS_A_COMMIT])
            except (Unavailable, Corrupt, Closed):
                for ack in acks[start:]:
                    self.note(ack.user, ack.client, ack.stream, ack.seq)
                if not self._refused:
                    _log.warning("acks_not_saved", count=len(acks) - start)
                self._refused = True
                return
            self._refused = False
