"""What each user takes of the disk, what it may take, and who has used that up."""

import asyncio
import contextlib
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
import structlog

from huahuo.actors.plugins.principal import UserId, user_id_of
from huahuo.eventstore.ambient import Ambient, json_bytes, rfc3339
from huahuo.eventstore.core.log import StoreLog
from huahuo.eventstore.core.receipts import AUDIT_STREAM
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.model import Append, NewEvent, RowDrop, RowPut, Usage
from huahuo.storage.room import Room

TABLE: Final = "quotas"
QUOTA_SET: Final = "quota_set"
COUNT_S: Final = 2.0
"""Between two counts. A user may exceed its quota by what it writes in that time."""
_PAGE_ROWS: Final = 500
_LARGEST: Final = 100
_PAUSE_S: Final = 0.01
_COUNTS_TO_A_FULL_ONE: Final = 5
"""While the log does not move, counts are left out, but every fifth one is made."""

_log = structlog.get_logger(__name__)


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """What a user takes, and may take (None: there is no bound)."""

    user_id: UserId
    events_bytes: int
    blobs_bytes: int
    index_bytes: int
    bytes: int
    bytes_max: int | None


class Quotas:
    """The counts, and the bounds: one for everybody (0: none), and an administrator's own for some users.

    `index_bytes` tells the size of the indexes next to the log. A user's part of them is that of its blobs,
    which are what they index.
    """

    def __init__(
        self, log: StoreLog, ambient: Ambient, room: Room, bytes_max: int, index_bytes: Callable[[], int]
    ) -> None:
        self._log = log
        self._ambient = ambient
        self._room = room
        self._bytes_max = bytes_max
        self._index_bytes = index_bytes
        self._own: dict[str, int] = {}
        self._usage: dict[str, Usage] = {}
        self._index = 0
        self._blobs = 0
        self._counted = -1
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read the bounds, count, then count every two seconds.

        Raises:
            EventStoreError: the log could not be read.
        """
        key = b""
        while rows := await self._log.rows(TABLE, "", after=key, limit=_PAGE_ROWS):
            self._own.update({key.decode(): int(value) for key, value in rows})
            key = rows[-1][0]
        self._task = asyncio.create_task(self._run(), name="quotas")

    async def stop(self) -> None:
        """Count no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    async def count(self) -> None:
        """Count what is new, and say who has used up its quota.

        Raises:
            EventStoreError: the log could not be read or written.
        """
        await self._count_events()
        position, found = await self._log.usage()
        self._usage = {one.user: one for one in found}
        self._blobs, self._index = sum(one.blobs for one in found), self._index_bytes()
        self._counted = position
        self._judge()

    async def _count_events(self) -> None:
        """Count the events until now. Those that come meanwhile have their turn the next time."""
        upto = self._log.position
        more = True
        while more:
            more = await self._log.count_usage(upto)
            await asyncio.sleep(_PAUSE_S if more else 0.0)

    def taken(self, user_id: UserId) -> Taken:
        """What a user takes."""
        user = f"user/{user_id}"
        one = self._usage.get(user) or Usage(user, 0, 0)
        index = self._index * one.blobs // self._blobs if self._blobs else 0
        return Taken(
            user_id=user_id,
            events_bytes=one.events,
            blobs_bytes=one.blobs,
            index_bytes=index,
            bytes=one.events + one.blobs + index,
            bytes_max=self._bound(user),
        )

    def largest(self) -> list[Taken]:
        """The users that take most, at most a hundred."""
        users = sorted(self._usage.values(), key=lambda one: -(one.events + one.blobs))[:_LARGEST]
        ids = (user_id_of(one.user.partition("/")[2]) for one in users)
        return [self.taken(user_id) for user_id in ids if user_id is not None]

    async def set_bound(self, user_id: UserId, bytes_max: int | None, principal: str) -> None:
        """Give one user a bound of its own (0: none); None: that of everybody.

        Raises:
            EventStoreError: as `Log.append`.
        """
        user, key, now_ms = f"user/{user_id}", f"user/{user_id}".encode(), self._ambient.now_ms()
        body = {"type": QUOTA_SET, "timestamp": rfc3339(now_ms), "user": user, "bytes_max": bytes_max}
        row: RowDrop | RowPut = RowDrop(TABLE, "", key)
        if bytes_max is not None:
            row = RowPut(TABLE, "", key, str(bytes_max).encode())
        event = NewEvent(AUDIT_STREAM, QUOTA_SET, json_bytes(body), entity=user)
        await self._log.append(Append(ts_ms=now_ms, events=(event,), rows=(row,), principal=principal))
        if bytes_max is None:
            self._own.pop(user, None)
        else:
            self._own[user] = bytes_max
        self._judge()

    def _bound(self, user: str) -> int | None:
        return self._own.get(user, self._bytes_max) or None

    def _judge(self) -> None:
        over = set()
        for user in self._usage:
            bound = self._bound(user)
            if bound is not None:
                user_id = user_id_of(user.partition("/")[2])
                if user_id is not None and self.taken(user_id).bytes >= bound:
                    over.add(user)
        self._room.set_over(frozenset(over))

    async def _run(self) -> None:
        for number in itertools.count():
            try:
                # Contents also come and go without an event.
                is_full = number % _COUNTS_TO_A_FULL_ONE == 0
                if not (self._bytes_max or any(self._own.values())):
                    if is_full:  # no bound is set: a reader of it counts first
                        await self._count_events()
                elif is_full or self._counted != self._log.position:
                    await self.count()
            except EventStoreError as error:
                _log.warning("usage_not_counted", reason=str(error))
            await asyncio.sleep(self._ambient.routine_s(COUNT_S))


def size_of_files(*paths: Path) -> int:
    """How many bytes these files have; those that are not there have none."""
    total = 0
    for path in paths:
        with contextlib.suppress(OSError):
            total += path.stat().st_size
    return total
