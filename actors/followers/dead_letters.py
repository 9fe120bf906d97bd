"""The events that a follower could not deal with: put aside, tried again, dropped. The log has a copy."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Mapping
from typing import Protocol

import structlog
from msgspec.structs import replace

from huahuo.actors.followers import record
from huahuo.actors.followers.record import DeadLetter
from huahuo.actors.followers.spec import DEAD_LETTERS_MAX
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.model import RowDrop, RowPut, StoredEvent
from huahuo.eventstore.port import Log

_log = structlog.get_logger(__name__)


class StoresRows(Protocol):
    """Writes rows to the log, however long that takes."""

    def __call__(self, *rows: RowPut | RowDrop) -> Awaitable[None]:
        """Raises EventStoreError only while the service stops."""
        ...


class DeadLetters(dict[int, DeadLetter]):
    """The dead letters of one follower, by position. Changed by its methods only."""

    def __init__(self, name: str, *, log: Log, ambient: Ambient, store: StoresRows) -> None:
        super().__init__()
        self._name = name
        self._log = log
        self._ambient = ambient
        self._store = store
        self.again: deque[int] = deque()
        """Those to be tried again, the oldest first."""
        self.changing = asyncio.Lock()
        """Held while they are written, so that none comes back that was dealt with."""

    @property
    def full(self) -> bool:
        """Whether no more can be put aside."""
        return len(self) >= DEAD_LETTERS_MAX

    def take_over(self, kept: Mapping[int, DeadLetter]) -> None:
        """These are in the log, and no others."""
        self.clear()
        self.update(kept)
        self.again.clear()
        self.again.extend(record.in_order(at for at, letter in kept.items() if letter.again))

    async def retry(self, by: str) -> int:
        """Have all tried again, the oldest first. Returns how many. Raises as `Log.append`."""
        async with self.changing:
            if self:
                now_ms = self._ambient.now_ms()
                await self._log.append(record.retrying(self._name, self.items(), by, now_ms))
                self.again.clear()
                self.again.extend(record.in_order(self))
            return len(self)

    async def put_aside(self, event: StoredEvent, attempts: int, error: BaseException) -> None:
        """Keep an event as a dead letter, with the cursor behind it."""
        now_ms, name = self._ambient.now_ms(), self._name
        letter = DeadLetter(event.stream, event.seq, event.type, attempts, type(error).__name__, now_ms)
        put = record.put_dead(name, event.position, letter)
        async with self.changing:
            await self._store(put, record.put_cursor(name, event.position, now_ms))
            self[event.position] = letter
        _log.error(
            "follower_dead_letter", follower=name, stream=event.stream, seq=event.seq, error=letter.error,
            what_to_do=f"huahuo projections retry {name}",
        )  # fmt: skip

    async def tried(self, position: int, error: BaseException | None) -> None:
        """The dead letter at this position was tried again: drop it, or count the attempt."""
        async with self.changing:
            if error is None:
                await self._store(record.drop_dead(self._name, position))
                del self[position]
            else:
                old = self[position]
                letter = replace(old, attempts=old.attempts + 1, error=type(error).__name__, again=False)
                await self._store(record.put_dead(self._name, position, letter))
                self[position] = letter
            if self.again and self.again[0] == position:
                self.again.popleft()
