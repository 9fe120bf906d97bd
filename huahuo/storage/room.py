"""Who may store more: nobody while the disk is nearly full, and no user beyond its quota.

`Quotas` counts what each user takes of the disk and what it may take; the actions are `get_usage` for
all, `get_storage`, `set_quota` and `erase_user` for administrators.

The free space is looked at every second; the probe is injected. The stage of a nearly full disk begins
below `low_bytes` and ends only when a quarter more than that is free, so that a disk at the threshold
does not enter and leave it at every look.

The log keeps the head and name of each stream in memory, for good. So a user may begin a day's worth at
once and gets as many back in the course of a day. Streams are counted when they are committed: a user may
go beyond its bound by what was under way; that is owed. The service is free.
"""

import asyncio
import contextlib
import itertools
import shutil
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import structlog
from msgspec import Meta

from huahuo import zh as admin_zh
from huahuo.actors.plugins.actions import Action, Registry
from huahuo.actors.plugins.calls import (
    USER_ID_RULE,
    Call,
    Refusal,
    RefuseGrowth,
    Reply,
    UserId,
    error_reply,
    json_reply,
    user_id_of,
)
from huahuo.eventstore.ambient import Ambient, json_bytes, rfc3339
from huahuo.eventstore.core.log import StoreLog
from huahuo.eventstore.core.reader import AUDIT_STREAM
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.executor import Executor
from huahuo.eventstore.limits import BROWSER_INT_MAX
from huahuo.eventstore.model import Append, NewEvent, RowDrop, RowPut, Usage
from huahuo.refusals import ChangeRefused
from huahuo.storage.upkeep import Erased
from huahuo.transport.protocol.codes import ErrorCode
from huahuo.transport.protocol.flow_control import TokenBucket
from huahuo.transport.words import zh
from huahuo.transport.words import zh as words

_ENOUGH: Final = 1.25


USERS_MAX: Final = 10_000
"""Of more users, the longest idle are forgotten."""
STREAMS_LOOK_S: Final = 60.0
"""How often users that have waited long enough are cleared, also those that do not ask again."""
_DAY_S: Final = 86_400.0
_USER: Final = "user/"


class Begun:
    """How many streams users may begin: the log keeps the head and the name of each in memory, for good.

    `changed` is called when a first user reaches its bound, and when none is over it.
    """

    def __init__(self, per_day: int, ambient: Ambient, changed: Callable[[], None]) -> None:
        self._per_day = per_day
        self._ambient = ambient
        self._changed = changed
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()
        self.over: set[str] = set()
        """The users that have begun too many."""
        self._look_s = 0.0

    def __len__(self) -> int:
        return len(self._buckets)

    def note(self, principal: str) -> None:
        """A principal began a stream."""
        if not principal.startswith(_USER):
            return
        now_s = self._ambient.monotonic_s()
        bucket = self._buckets.get(principal)
        if bucket is None:
            bucket = TokenBucket(self._per_day / _DAY_S, self._per_day, now_s)
            self._buckets[principal] = bucket
            if len(self._buckets) > USERS_MAX:
                self._clear(self._buckets.popitem(last=False)[0])
        self._buckets.move_to_end(principal)
        bucket.charge(now_s, 1)
        if principal not in self.over and bucket.wait_s(now_s) > 0:
            self.over.add(principal)
            if len(self.over) == 1:
                self._changed()

    def wait_s(self, principal: str) -> float:
        """Seconds until this user may begin a stream; 0 if it may now."""
        if not self.over:
            return 0.0
        now_s = self._ambient.monotonic_s()
        if now_s >= self._look_s:  # also for those that left, which ask no more
            self._look_s = now_s + STREAMS_LOOK_S
            for other in [one for one in self.over if not self._buckets[one].wait_s(now_s)]:
                self._clear(other)
        if principal not in self.over:
            return 0.0
        wait_s = self._buckets[principal].wait_s(now_s)
        if not wait_s:
            self._clear(principal)
        return wait_s

    def _clear(self, principal: str) -> None:
        if principal not in self.over:
            return
        self.over.discard(principal)
        if not self.over:
            self._changed()


RETRY_S: Final = 30.0
"""The `retry_s` of a `storage_full` refusal. Room is made by people or by retention, not within a second."""
_FULL: Final = Refusal(ErrorCode.STORAGE_FULL, zh.STORAGE_FULL, retry_s=RETRY_S)
_NOBODY: Final[frozenset[str]] = frozenset()

_log = structlog.get_logger(__name__)

type Tell = Callable[[RefuseGrowth | None], None]
"""Tells a door what to ask before it stores more; None: nothing, there is room for everybody."""


class Room:
    """Implements `RefuseGrowth`. `over`: the principals that have used up their quota.

    `low_bytes`: below that much free space the disk is nearly full; 0: it never is.
    """

    def __init__(self, low_bytes: int = 0) -> None:
        self.low_bytes = low_bytes
        self.is_low = False
        self.free_bytes: int | None = None
        """At the last look; None: there was none."""
        self.begun: Begun | None = None
        """The users who have begun too many streams. None: they are not counted."""
        self.over: frozenset[str] = _NOBODY
        self.refused = 0
        """Commands, publications and requests that were refused for want of room."""
        self._doors: list[tuple[Tell, bool]] = []

    def refuse(self, principal: str, is_admin: bool = False) -> Refusal | None:
        """Why `principal` may store nothing more now; None: it may. See `RefuseGrowth`."""
        if self.is_low:
            self.refused += 1
            return _FULL
        if principal in self.over:
            self.refused += 1
            return Refusal(ErrorCode.QUOTA_EXCEEDED, zh.QUOTA_EXCEEDED)
        if self.begun is not None and not is_admin and (wait_s := self.begun.wait_s(principal)):
            self.refused += 1
            return Refusal(ErrorCode.RATE_LIMITED, zh.TOO_MANY_STREAMS, retry_s=wait_s)
        return None

    def has_room(self, user_id: UserId) -> bool:
        """Whether work for a user may begin by itself. Nothing is refused, so nothing is counted."""
        return not self.is_low and f"user/{user_id}" not in self.over

    def guard(self, tell: Tell, *, of_users: bool) -> None:
        """Guard a door. `of_users` False: only the service itself comes through it, which has no quota."""
        self._doors.append((tell, of_users))

    def look(self, free_bytes: int) -> None:
        """Note how much of the disk is free."""
        self.free_bytes, was = free_bytes, self.is_low
        self.is_low = free_bytes < (self._enough_bytes if was else self.low_bytes)
        if self.is_low == was:
            return
        if self.is_low:
            _log.warning(
                "disk_nearly_full", free_bytes=free_bytes, low_bytes=self.low_bytes,
                refused="publications, imports, checks and other commands that store more",
            )  # fmt: skip
        else:
            _log.info("disk_has_room_again", free_bytes=free_bytes)
        self._tell()

    def set_over(self, principals: frozenset[str]) -> None:
        """From now on, these principals have used up their quota."""
        if principals != self.over:
            self.over = principals
            self._tell()

    def sentence(self) -> str | None:
        """What `/readyz` adds while the disk is nearly full."""
        if not self.is_low or self.free_bytes is None:
            return None
        return (
            f"the disk is nearly full: {self.free_bytes >> 20} MiB are free, so what would store more is"
            f" refused until {self._enough_bytes >> 20} MiB are"
        )

    def count_begun(self, per_day: int, ambient: Ambient) -> Begun:
        """Bound the streams that each user begins. Tell the result of each."""
        self.begun = Begun(per_day, ambient, self._tell)
        return self.begun

    @property
    def _enough_bytes(self) -> int:
        """The free space at which the disk is nearly full no more."""
        return round(self.low_bytes * _ENOUGH)

    def _tell(self) -> None:
        over = self.over or (self.begun is not None and self.begun.over)
        for tell, of_users in self._doors:
            asked = self.is_low or (of_users and over)
            tell(self.refuse if asked else None)


SPACE_LOOK_S: Final = 1.0
"""Short, because a busy service may write 100 MB a second."""

type FreeBytes = Callable[[], int]
"""How many bytes are free on the disk of the data directory. May block. Raises OSError."""


def free_of(directory: Path) -> FreeBytes:
    """The probe of a directory: what an unprivileged process may still write there."""
    return lambda: shutil.disk_usage(directory).free


class Looking:
    """Keeps a room's stage up to date."""

    def __init__(self, room: Room, free_bytes: FreeBytes, executor: Executor) -> None:
        """`executor`: a thread, because a network's file system may not answer at once."""
        self._room = room
        self._free_bytes = free_bytes
        self._executor = executor
        self._unknown: str | None = None
        """Why the last look failed, told once."""

    async def look(self) -> None:
        """Look now. A probe that fails changes nothing."""
        try:
            self._room.look(await self._executor.run(self._free_bytes))
        except OSError as error:
            if error.strerror != self._unknown:
                self._unknown = error.strerror
                _log.warning("free_space_unknown", reason=error.strerror)
        else:
            self._unknown = None

    async def run(self) -> None:
        """Look every second."""
        while True:
            await asyncio.sleep(SPACE_LOOK_S)
            await self.look()


TABLE: Final = "quotas"
QUOTA_SET: Final = "quota_set"
COUNT_S: Final = 2.0
"""Between two counts. A user may exceed its quota by what it writes in that time."""
_PAGE_ROWS: Final = 500
_LARGEST: Final = 100
_PAUSE_S: Final = 0.01
_COUNTS_TO_A_FULL_ONE: Final = 5
"""While the log does not move, counts are left out, but every fifth one is made."""


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

    async def start(self) -> None:
        """Read the bounds.

        Raises:
            EventStoreError: the log could not be read.
        """
        key = b""
        while rows := await self._log.rows(TABLE, "", after=key, limit=_PAGE_ROWS):
            self._own.update({key.decode(): int(value) for key, value in rows})
            key = rows[-1][0]

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

    async def run(self) -> None:
        """Count every two seconds."""
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


type Erase = Callable[[int | str | None, str | None, str], Awaitable[Erased]]
"""Erases a user by id or by name, for this principal. Raises ChangeRefused."""


class UsageParams(msgspec.Struct, frozen=True):
    """Fields of `get_usage`. `user_id`: another user, for administrators."""

    user_id: int | str | None = None


class QuotaParams(msgspec.Struct, frozen=True):
    """Fields of `set_quota`. `bytes_max`: 0 for no bound, null for the bound of all users."""

    user_id: int | str
    bytes_max: Annotated[int, Meta(ge=0, le=BROWSER_INT_MAX)] | None = None


class EraseParams(msgspec.Struct, frozen=True):
    """Fields of `erase_user`: one of the two."""

    user_id: int | str | None = None
    name: str | None = None


class Nothing(msgspec.Struct, frozen=True):
    """No fields."""


class StorageActions:
    """Actions on room: `get_usage` for all, `get_storage`, `set_quota` and `erase_user` for administrators.

    `told`: how the service stands, besides its users.
    """

    def __init__(self, quotas: Quotas, told: Callable[[], dict[str, Any]], erase: Erase) -> None:
        self._quotas = quotas
        self._told = told
        self._erase_user = erase

    def register(self, registry: Registry) -> None:
        """Offer the actions."""
        for action in (
            Action("get_usage", UsageParams, self._usage, query=True),
            Action("get_storage", Nothing, self._storage, query=True, admin=True),
            Action("erase_user", EraseParams, self._erase, admin=True, frees=True, signed_in=True),
            Action("set_quota", QuotaParams, self._set, admin=True, frees=True),
        ):
            registry.command(action)

    async def _usage(self, call: Call[UsageParams]) -> Reply:
        given = call.params.user_id
        user_id = call.principal.user_id if given is None else user_id_of(given)
        if user_id is None:
            return _no_id()
        if user_id != call.principal.user_id and not call.principal.is_admin:
            return error_reply(Refusal(ErrorCode.FORBIDDEN, words.ADMINS_ONLY))
        await self._quotas.count()
        return _data("get_usage", self._quotas.taken(user_id))

    async def _storage(self, call: Call[Nothing]) -> Reply:
        del call
        await self._quotas.count()
        return _data("get_storage", {**self._told(), "users": self._quotas.largest()})

    async def _set(self, call: Call[QuotaParams]) -> Reply:
        user_id: UserId | None = user_id_of(call.params.user_id)
        if user_id is None:
            return _no_id()
        await self._quotas.set_bound(user_id, call.params.bytes_max, call.principal.name)
        return json_reply({"type": "success", "message": admin_zh.DONE})

    async def _erase(self, call: Call[EraseParams]) -> Reply:
        try:
            erased = await self._erase_user(call.params.user_id, call.params.name, call.principal.name)
        except ChangeRefused as refused:
            return error_reply(Refusal(refused.code, refused.told, str(refused)))
        return json_reply({"type": "success", "message": admin_zh.DONE, **msgspec.to_builtins(erased)})


def _data(type_: str, data: object) -> Reply:
    return json_reply({"type": type_, "data": msgspec.to_builtins(data)})


def _no_id() -> Reply:
    return error_reply(Refusal(ErrorCode.INVALID_FIELD, admin_zh.INVALID_FIELD, f"user_id: {USER_ID_RULE}"))
