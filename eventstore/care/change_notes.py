"""Notes of changed rows go when they are old: a reader of a live list who was away for longer reads it anew.

See `eventstore.core.row_changes`. First the horizon of a table moves, then the notes before it go, one small
step after the other.
"""

from typing import Final

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.core import row_changes
from huahuo.eventstore.model import LOG_STREAM, Append, RowDrop, RowRange
from huahuo.eventstore.port import Log

_LOOK_MS: Final = 3_600_000
_STEP_ROWS: Final = 1_000


class ChangeNotes:
    """Of one log. Notes are kept for `keep_s`."""

    def __init__(self, log: Log, ambient: Ambient, keep_s: float) -> None:
        self._log = log
        self._ambient = ambient
        self._keep_ms = round(keep_s * 1000)
        self._next_ms = 0
        self._horizon = 0
        self._tables: list[str] = []
        self._part: str | None = None

    async def step(self) -> bool:
        """Do one small piece of work. Returns whether there may be more now. Raises EventStoreError."""
        now_ms = self._ambient.now_ms()
        if not self._tables:
            if now_ms < self._next_ms or not self._log.horizons:
                return False
            self._next_ms = now_ms + _LOOK_MS
            self._begin(await self._position_at(now_ms - self._keep_ms))
        if self._tables:
            await self._drop()
        return bool(self._tables)

    async def drop_all(self) -> None:
        """Drop all notes there are now: they may name somebody who is to be forgotten. Raises as `step`."""
        self._begin(self._log.position)
        while self._tables:
            await self._drop()

    def _begin(self, horizon: int) -> None:
        self._horizon, self._part = horizon, None
        self._tables = [table for table, at in self._log.horizons.items() if at < horizon]

    async def _drop(self) -> None:
        notes = row_changes.CHANGES + self._tables[-1]
        parts = await self._log.parts(notes, after=self._part, limit=1)
        if not parts:
            self._tables.pop()
            self._part = None
            return
        upto = row_changes.after(self._horizon)
        found = await self._log.rows_at_once([RowRange(notes, parts[0], _STEP_ROWS, b"", upto)])
        keys = [key for key, _ in found.rows[0]]
        if keys:
            moved = row_changes.horizon(self._tables[-1], self._horizon)
            drops = [RowDrop(notes, parts[0], key) for key in keys]
            await self._log.append(Append(ts_ms=self._ambient.now_ms(), rows=(moved, *drops)))
        if len(keys) < _STEP_ROWS:
            self._part = parts[0]

    async def _position_at(self, ts_ms: int) -> int:
        """The last position of the events before this time."""
        low, high = 0, self._log.position
        while low < high:
            middle = (low + high) // 2
            found = await self._log.read(LOG_STREAM, middle, events_max=1)
            if not found or found[0].position > high or found[0].ts_ms >= ts_ms:
                high = middle
            else:
                low = found[0].position
        return low
