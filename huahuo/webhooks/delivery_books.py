"""The rows of deliveries in the log: what is to be delivered, and what could not be (dead letters). Pure.

The table `webhook` has a row for each open delivery, and `webhook_dead` a part for each hook with a row
for each dead letter, by the event's position. A delivery's number is made of hook and position, so an
event that is looked at twice is queued once.

The books of deliveries: rows of the log, and no events, because an event is no news about its delivery.

| of an effect | of a delivery |
|---|---|
| request | a row of `webhook`, put when the event is found to match |
| claim | none: a runner has one run of a delivery at a time, and nodes divide them by hooks |
| failed attempt | the row, with the number of failures and when the next is due |
| pause | the row stays, and is not read |
| end | the row gone; after a final failure a dead letter in the same commit |
"""

import math
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from huahuo.actors.effects.books import Hold, RunOver
from huahuo.actors.effects.facts import CANCELLED, DONE, FAILED, OpenEffect, read_row
from huahuo.actors.effects.queue import Entry, Failure
from huahuo.actors.plugins.calls import UserId
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.model import Append, RowDrop, RowPut
from huahuo.eventstore.port import Log

DELIVERY_TABLE: Final = "webhook"
DEAD_TABLE: Final = "webhook_dead"
KIND: Final = "webhook"
DELIVERY: Final = "delivery"
_POSITION_BITS: Final = 40
_POSITION_MAX: Final = (1 << _POSITION_BITS) - 1


class Delivery(Struct, frozen=True):
    """What is delivered: the event at `position`, to a hook."""

    webhook_id: int
    position: int

    @property
    def number(self) -> int:
        """Its number, which is unique in the log."""
        return (self.webhook_id << _POSITION_BITS) | self.position

    @property
    def name(self) -> str:
        """As receivers get it: the same for each attempt."""
        return f"{self.webhook_id}.{self.position}"


class DeadLetter(Struct, frozen=True):
    """A delivery that failed for good."""

    stream: str
    seq: int
    type: str
    attempts: int
    error: str
    at_ms: int


def opened(
    delivery: Delivery, user: UserId, now_ms: int, *, failures: int = 0, due_ms: int = 0
) -> OpenEffect:
    """The row of an open delivery."""
    job = Raw(msgspec.json.encode(delivery))
    return OpenEffect(KIND, str(delivery.webhook_id), DELIVERY, job, now_ms, user, failures, due_ms)


def put_delivery(number: int, row: OpenEffect) -> RowPut:
    """Write the row of a delivery."""
    return RowPut(DELIVERY_TABLE, "", row_key(number), msgspec.json.encode(row))


def drop_delivery(number: int) -> RowDrop:
    """Remove the row of a delivery that has ended."""
    return RowDrop(DELIVERY_TABLE, "", row_key(number))


def row_key(number: int) -> bytes:
    """The key of a row. The log reads rows in descending order, and the oldest event shall come first."""
    position, webhook_id = number & _POSITION_MAX, number >> _POSITION_BITS
    return (_POSITION_MAX - position).to_bytes(8) + webhook_id.to_bytes(4)


def number_of(key: bytes) -> int:
    """The number that `row_key` was made from."""
    return (int.from_bytes(key[8:]) << _POSITION_BITS) | (_POSITION_MAX - int.from_bytes(key[:8]))


def hook_of(key: bytes) -> int:
    """The hook of a row's delivery."""
    return int.from_bytes(key[8:])


def read_delivery(key: bytes, value: bytes) -> tuple[int, OpenEffect]:
    """A row that `put` wrote."""
    return number_of(key), read_row(value)


def delivery_of(row: OpenEffect) -> Delivery:
    """What a row is about."""
    return msgspec.json.decode(row.job, type=Delivery)


def put_dead(delivery: Delivery, letter: DeadLetter) -> RowPut:
    """Keep a dead letter."""
    return RowPut(
        DEAD_TABLE, str(delivery.webhook_id), delivery.position.to_bytes(8), msgspec.json.encode(letter)
    )


def drop_dead(webhook_id: int, positions: Iterable[int]) -> tuple[RowDrop, ...]:
    """Remove dead letters."""
    return tuple(RowDrop(DEAD_TABLE, str(webhook_id), position.to_bytes(8)) for position in positions)


def read_dead(key: bytes, value: bytes) -> tuple[int, DeadLetter]:
    """A dead letter by its position."""
    return int.from_bytes(key), msgspec.json.decode(value, type=DeadLetter)


DEAD_LETTERS_MAX: Final = 1_000
"""Of one hook. Beyond it, the oldest is forgotten."""
COUNTED_S: Final = 1.0
"""With several nodes: how long a count is believed at least."""
COUNTING_SHARE: Final = 0.05
"""Of the time: a count of hundreds of thousands of deliveries takes a second."""
_PAGE_ROWS: Final = 500
_ENDED: Final = "ended"


class LastWords:
    """What is known of a delivery's event and of its last failure, until it ends."""

    def __init__(self) -> None:
        self.by_number: dict[int, DeadLetter] = {}

    def say(self, delivery: Delivery, letter: DeadLetter) -> None:
        """Remember why an attempt failed."""
        self.by_number[delivery.number] = letter


class HookBooks:
    """See the module, and `Books`. `waiting`, `dead`: how many there are of each hook."""

    table: Final = DELIVERY_TABLE

    def __init__(
        self, log: Log, ambient: Ambient, is_paused: Callable[[int], bool], *, shared: bool = False
    ) -> None:
        """`shared`: other nodes queue and end deliveries too, so counts must be made again."""
        self._is_paused = is_paused
        self._shared = shared
        self._believed_until_s = -math.inf
        self.words = LastWords()
        self.waiting: dict[int, int] = {}
        self.dead: dict[int, int] = {}
        self.lost = 0
        """Dead letters that were forgotten since the start."""
        self._log = log
        self._ambient = ambient

    def read(self, key: bytes, value: bytes) -> tuple[int, OpenEffect] | None:
        """See `Books`. Deliveries of a paused hook stay in the table."""
        number, row = read_delivery(key, value)
        return None if self._is_paused(int(row.key)) else (number, row)

    def row_key(self, entry: Entry) -> bytes:
        """See `Books`."""
        return row_key(entry.id)

    @asynccontextmanager
    async def hold(self, entry: Entry) -> AsyncIterator[Hold]:
        """See `Books`."""
        value = await self._log.row(DELIVERY_TABLE, "", row_key(entry.id))
        if value is None or self._is_paused(int(entry.key)):
            raise RunOver(_ENDED)
        yield HookHold(self, entry, read_delivery(row_key(entry.id), value)[1])

    async def cancelled(self, entry: Entry) -> str | None:
        """See `Books`. Nothing cancels a delivery: that of a removed hook ends by itself."""
        await self.ended(entry)
        return CANCELLED

    async def ended(self, entry: Entry) -> None:
        """It was delivered, or must not be any more."""
        await self.write(drop_delivery(entry.id))
        self.count(self.waiting, int(entry.key), -1)
        self.words.by_number.pop(entry.id, None)

    async def count_all(self, hooks: Iterable[int]) -> None:
        """Count what waits for each hook, and the dead letters of those hooks. Raises as `Log.rows`."""
        began_s = self._ambient.monotonic_s()
        self._believed_until_s = math.inf  # one count at a time
        try:
            await self._count_all(hooks)
        finally:
            now_s = self._ambient.monotonic_s()
            self._believed_until_s = now_s + max(COUNTED_S, (now_s - began_s) / COUNTING_SHARE)

    async def _count_all(self, hooks: Iterable[int]) -> None:
        waiting: Counter[int] = Counter()
        before: bytes | None = None
        while rows := await self._log.rows(DELIVERY_TABLE, "", before=before, limit=_PAGE_ROWS):
            waiting.update(hook_of(key) for key, _ in rows)
            before = rows[-1][0]
        self.waiting = dict(waiting)
        for hook in hooks:
            await self._count_dead(hook)

    async def count_again(self, hooks: Iterable[int] = ()) -> bool:
        """`count_all`, if other nodes may have changed something since. Returns whether it was done."""
        if not self._shared or self._ambient.monotonic_s() < self._believed_until_s:
            return False
        await self.count_all(hooks)
        return True

    async def _count_dead(self, hook: int) -> None:
        count, after = 0, b""
        while rows := await self._log.rows(DEAD_TABLE, str(hook), after=after, limit=_PAGE_ROWS):
            count, after = count + len(rows), rows[-1][0]
        self.dead.pop(hook, None)
        self.count(self.dead, hook, count)

    async def bury(self, delivery: Delivery, letter: DeadLetter, *rows: RowDrop) -> None:
        """Keep a dead letter, and forget the hook's oldest if there are too many."""
        hook = delivery.webhook_id
        if self._shared:
            await self._count_dead(hook)
        if self.dead.get(hook, 0) >= DEAD_LETTERS_MAX:
            oldest = await self._log.rows(DEAD_TABLE, str(hook), after=b"", limit=1)
            positions = [read_dead(key, value)[0] for key, value in oldest]
            rows = (*rows, *drop_dead(hook, positions))
            self.count(self.dead, hook, -len(positions))
            self.lost += len(positions)
        await self.write(put_dead(delivery, letter), *rows)
        self.count(self.dead, hook, 1)

    async def write(self, *rows: RowPut | RowDrop) -> None:
        """Write rows in one commit."""
        await self._log.append(Append(ts_ms=self.now_ms(), rows=rows))

    def now_ms(self) -> int:
        """The time that events and letters get."""
        return self._ambient.now_ms()

    def count(self, counts: dict[int, int], hook: int, change: int) -> None:
        """Keep `waiting` or `dead` right."""
        counts[hook] = max(0, counts.get(hook, 0) + change)
        if not counts[hook]:
            del counts[hook]


class HookHold:
    """See `Hold`. A delivery says nothing while it runs."""

    def __init__(self, books: HookBooks, entry: Entry, row: OpenEffect) -> None:
        self.over = ""
        self.attempt = row.failures + 1
        self.position = delivery_of(row).position
        self._books = books
        self._entry = entry
        self._row = row

    async def state(self) -> None:
        """See `Hold`. What a delivery needs is read when it is made."""

    async def say(self, events: Sequence[Any], *, ends: bool) -> Any:
        """See `Hold`."""
        del events, ends
        raise TypeError("a delivery has no entity that could say something")

    async def again(self, error_type: str, due_ms: int, row: OpenEffect) -> None:
        """See `Hold`."""
        del error_type
        await self._books.write(
            put_delivery(self._entry.id, replace(row, failures=self.attempt, due_ms=due_ms))
        )

    async def give_up(self, failure: Failure) -> str:
        """See `Hold`."""
        delivery, number = delivery_of(self._row), self._entry.id
        letter = self._books.words.by_number.pop(number, None)
        if letter is None:  # it failed before the event was known
            letter = DeadLetter("", 0, "", 0, failure.error_type, self._books.now_ms())
        await self._books.bury(delivery, replace(letter, attempts=failure.attempts), drop_delivery(number))
        self._books.count(self._books.waiting, delivery.webhook_id, -1)
        return FAILED

    async def end(self) -> str:
        """See `Hold`."""
        await self._books.ended(self._entry)
        return DONE
