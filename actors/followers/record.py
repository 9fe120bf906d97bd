"""The rows of followers in the log: cursors, paused followers and dead letters. Pure.

The table `follower` has the parts `cursor` and `paused`, with a row for each name, and `dead/<name>` with a
row for each dead letter, by its position. What administrators do is written in one commit with an event of
the stream `audit`.

The events that a follower could not deal with: put aside, tried again, dropped. The log has a copy.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Iterable, Mapping
from typing import Final, Protocol

import msgspec
import structlog
from msgspec import Struct
from msgspec.structs import replace

from huahuo.actors.followers.spec import DEAD_LETTERS_MAX
from huahuo.actors.plugins.plugin import Standing
from huahuo.eventstore.ambient import Ambient, rfc3339
from huahuo.eventstore.errors import Corrupt
from huahuo.eventstore.model import Append, NewEvent, RowDrop, RowPut, StoredEvent
from huahuo.eventstore.port import Log

TABLE: Final = "follower"
CURSORS: Final = "cursor"
PAUSED: Final = "paused"
_DEAD: Final = "dead/"
AUDIT: Final = "audit"
PAUSED_BY, RESUMED_BY, RETRIED_BY = "follower_paused", "follower_resumed", "follower_retried"
PLACED_BY: Final = "follower_placed"
LOST: Final = "place lost"
"""The state of a follower whose rows are damaged: it does not run until it is placed."""
_TOLD: Final = frozenset((PAUSED_BY, RESUMED_BY, RETRIED_BY))
_POSITION_BYTES: Final = 8
_PAGE_ROWS: Final = 1_000


class _Cursor(Struct, frozen=True):
    after: int
    at_ms: int


class _Told(Struct, frozen=True):
    follower: str


class DeadLetter(Struct, frozen=True):
    """An event that a follower could not deal with. `error`: the type of the last exception.

    `again`: it shall be tried again.
    """

    stream: str
    seq: int
    type: str
    attempts: int
    error: str
    at_ms: int
    again: bool = False


class Recorded(Struct, frozen=True):
    """All that is kept of one follower. `cursor` None: it never ran."""

    name: str
    cursor: int | None
    paused: bool
    dead: dict[int, DeadLetter]


class Tables(Protocol):
    """The part of a log that is read here. A copy of a log has it too."""

    @property
    def position(self) -> int:
        """See `Log`."""
        ...

    def streams(self, prefix: str) -> list[str]:
        """See `Log`."""
        ...

    async def rows(
        self, table: str, part: str, *, before: bytes | None = None, after: bytes | None = None, limit: int
    ) -> list[tuple[bytes, bytes]]:
        """See `Log`."""
        ...

    async def row(self, table: str, part: str, key: bytes) -> bytes | None:
        """See `Log`."""
        ...


_decode_cursor: Final = msgspec.json.Decoder(_Cursor).decode
_decode_dead: Final = msgspec.json.Decoder(DeadLetter).decode
_decode_told: Final = msgspec.json.Decoder(_Told).decode


def put_cursor(name: str, after: int, now_ms: int) -> RowPut:
    """Keep a cursor."""
    return RowPut(TABLE, CURSORS, name.encode(), msgspec.json.encode(_Cursor(after, now_ms)))


def put_dead(name: str, position: int, letter: DeadLetter) -> RowPut:
    """Keep a dead letter."""
    return RowPut(TABLE, _DEAD + name, position.to_bytes(_POSITION_BYTES), msgspec.json.encode(letter))


def drop_dead(name: str, position: int) -> RowDrop:
    """A dead letter was dealt with after all."""
    return RowDrop(TABLE, _DEAD + name, position.to_bytes(_POSITION_BYTES))


def pausing(name: str, by: str, now_ms: int, *, paused: bool) -> Append:
    """Pause a follower, or let it go on."""
    key = name.encode()
    row = RowPut(TABLE, PAUSED, key, b"1") if paused else RowDrop(TABLE, PAUSED, key)
    what = PAUSED_BY if paused else RESUMED_BY
    return Append(ts_ms=now_ms, events=(_told(what, name, now_ms),), rows=(row,), principal=by)


def placing(name: str, after: int, by: str, now_ms: int) -> Append:
    """Put a follower behind position `after`, whatever was kept of it before."""
    rows = (
        put_cursor(name, after, now_ms),
        RowDrop(TABLE, PAUSED, name.encode()),
        RowDrop(TABLE, _DEAD + name),
    )
    event = _told(PLACED_BY, name, now_ms, after=after)
    return Append(ts_ms=now_ms, events=(event,), rows=rows, principal=by)


def retrying(name: str, dead: Iterable[tuple[int, DeadLetter]], by: str, now_ms: int) -> Append:
    """Have these dead letters tried again."""
    rows = tuple(put_dead(name, position, replace(letter, again=True)) for position, letter in dead)
    event = _told(RETRIED_BY, name, now_ms, dead_letters=len(rows))
    return Append(ts_ms=now_ms, events=(event,), rows=rows, principal=by)


async def names(log: Tables) -> list[str]:
    """Every follower that ever ran on this log, also one whose cursor is damaged."""
    found: list[str] = []
    after, limit = b"", _PAGE_ROWS
    while True:
        try:
            rows = await log.rows(TABLE, CURSORS, after=after, limit=limit)
        except Corrupt as error:
            if limit > 1:
                limit = 1  # up to the damaged row
                continue
            key = _damaged_key(error)
            if key <= after:
                raise
            rows, limit = [(key, b"")], _PAGE_ROWS
        if not rows:
            return found
        found += [key.decode(errors="replace") for key, _ in rows]
        after = rows[-1][0]


def _damaged_key(error: Corrupt) -> bytes:
    """The key of the damaged row that `error` names, b"" if it names none."""
    _, _, shown = error.place.partition(f"{TABLE} {CURSORS} ")
    try:
        return bytes.fromhex(shown)
    except ValueError:
        return b""


async def read(log: Tables, name: str) -> Recorded:
    """All that is kept of this follower."""
    cursor = await log.row(TABLE, CURSORS, name.encode())
    paused = await log.row(TABLE, PAUSED, name.encode())
    dead: dict[int, DeadLetter] = {}
    after = b""
    while rows := await log.rows(TABLE, _DEAD + name, after=after, limit=_PAGE_ROWS):
        dead.update((int.from_bytes(key), _decode_dead(value)) for key, value in rows)
        after = rows[-1][0]
    return Recorded(name, None if cursor is None else _decode_cursor(cursor).after, paused is not None, dead)


async def standing(log: Tables, name: str) -> Standing:
    """Where a follower stands that this process does not run."""
    try:
        kept = await read(log, name)
    except Corrupt as damage:
        return Standing(name, "follower", 0, log.position, LOST, 0, type(damage).__name__)
    cursor = kept.cursor or 0
    lag = max(0, log.position - cursor)
    state = "paused" if kept.paused else "behind" if lag else "up to date"
    error = next((letter.error for letter in kept.dead.values()), "")
    return Standing(name, "follower", cursor, lag, state, len(kept.dead), error)


def _told(type_: str, name: str, now_ms: int, **more: int) -> NewEvent:
    body = msgspec.json.encode({"type": type_, "timestamp": rfc3339(now_ms), "follower": name, **more})
    return NewEvent(AUDIT, type_, body)


def told_of(event: StoredEvent) -> str:
    """The follower with which an administrator did something by this event, "" if it is another event."""
    return _decode_told(event.body).follower if event.type in _TOLD else ""


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
        self.again.extend(sorted(at for at, letter in kept.items() if letter.again))

    async def retry(self, by: str) -> int:
        """Have all tried again, the oldest first. Returns how many. Raises as `Log.append`."""
        async with self.changing:
            if self:
                now_ms = self._ambient.now_ms()
                await self._log.append(retrying(self._name, self.items(), by, now_ms))
                self.again.clear()
                self.again.extend(sorted(self))
            return len(self)

    async def put_aside(self, event: StoredEvent, attempts: int, error: BaseException) -> None:
        """Keep an event as a dead letter, with the cursor behind it."""
        now_ms, name = self._ambient.now_ms(), self._name
        letter = DeadLetter(event.stream, event.seq, event.type, attempts, type(error).__name__, now_ms)
        put = put_dead(name, event.position, letter)
        async with self.changing:
            await self._store(put, put_cursor(name, event.position, now_ms))
            self[event.position] = letter
        _log.error(
            "follower_dead_letter", follower=name, stream=event.stream, seq=event.seq, error=letter.error,
            what_to_do=f"huahuo projections retry {name}",
        )  # fmt: skip

    async def tried(self, position: int, error: BaseException | None) -> None:
        """The dead letter at this position was tried again: drop it, or count the attempt."""
        async with self.changing:
            if error is None:
                await self._store(drop_dead(self._name, position))
                del self[position]
            else:
                old = self[position]
                letter = replace(old, attempts=old.attempts + 1, error=type(error).__name__, again=False)
                await self._store(put_dead(self._name, position, letter))
                self[position] = letter
            if self.again and self.again[0] == position:
                self.again.popleft()
