"""The lists that clients of this process follow: one view for all that see the same rows.

A `View` is a list, what was given to it, the rows that its function named, and a limit. After a commit that
changed rows of its parts, each place where followers stand is read once (`replay.list_window`), all of
several views at one commit, and one message is made for all who stand there. The rows of a commit are told
once the log says that it is durable. A follower who cannot take more now stays where it is: what it then
gets is the newest of each row, so nothing is kept for it.

`ask` asks an application's function which rows a user may have. In a worker, its owner is asked, and its
owner reads the rows.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec
import structlog

from huahuo.actors.plugins.actions import LiveList
from huahuo.actors.plugins.calls import Principal, UserId
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.core import row_changes
from huahuo.eventstore.errors import Closed, EventStoreError
from huahuo.eventstore.model import Append, RowRange, RowsAtOnce
from huahuo.eventstore.port import Log
from huahuo.replay.list_window import Cursor, ListRange, ListRow, Window, asked, window
from huahuo.transport.access.rights import READ
from huahuo.transport.protocol.codes import ErrorCode
from huahuo.transport.protocol.incoming import Invalid, converted
from huahuo.transport.words import en, zh

MESSAGE_BYTES_MAX: Final = 256 << 10
"""A change with more bytes comes in several messages."""
_VIEWS_AT_ONCE: Final = 64
_TOLD_A_TURN: Final = 256
_RETRY_S: Final = 1.0
_HOUR_S: Final = 3_600.0

_log = structlog.get_logger(__name__)


class Answered(msgspec.Struct, frozen=True, array_like=True):
    """What a list's function says to a user: its rows, or why there are none (`code` "": it denies them)."""

    rows: ListRange | None = None
    code: str = ""
    message: str = ""
    details: str = ""


class Ask(Protocol):
    """Asks which rows of a list a user may have."""

    def __call__(
        self, who: Principal, name: str, given: Mapping[str, Any], /, *, as_text: bool = False
    ) -> Awaitable[Answered]:
        """`as_text`: all fields were given as texts. Raises EventStoreError."""
        ...


def asks(lists: Mapping[str, LiveList], log: Log, ambient: Ambient) -> Ask:
    """Asks the functions of this process. A table is tracked from its first answer on."""

    async def ask(
        who: Principal, name: str, given: Mapping[str, Any], /, *, as_text: bool = False
    ) -> Answered:
        one = lists.get(name)
        if one is None:
            return Answered(code=ErrorCode.NOT_FOUND, message=zh.NO_LIST)
        known = () if one.fields is None else one.fields.__struct_encode_fields__
        fields: Any = None
        for unknown in sorted(given.keys() - set(known)):
            return _wrong(f"{unknown:.64}: {en.NO_FIELD}")
        if one.fields is not None:
            fields = converted(dict(given), None, one.fields, strict=not as_text)
            if isinstance(fields, Invalid):
                return Answered(code=fields.code, message=fields.message, details=fields.details)
        if who.rights is not None and READ not in who.rights:
            return Answered()
        try:
            rows = one.ask(who, fields)
        except Exception:  # noqa: BLE001  an application's function
            _log.exception("list_failed", list=name)
            return Answered(code=ErrorCode.INTERNAL, message=zh.INTERNAL)
        if rows is not None and rows.table not in log.horizons:
            await log.append(Append(ts_ms=ambient.now_ms(), rows=(row_changes.track(rows.table),)))
        return Answered(rows)

    return ask


def _wrong(details: str) -> Answered:
    return Answered(code=ErrorCode.INVALID_FIELD, message=zh.FIELD_WRONG, details=details)


class Follower(Protocol):
    """A connection's part in a view."""

    cursor: Cursor | None
    """Where it stands; None: it has nothing."""

    @property
    def user_id(self) -> UserId:
        """Whose it is."""
        ...

    def may_take(self) -> bool:
        """Whether more may be sent to it now."""
        ...

    def take(self, change: Window, frames: Sequence[bytes]) -> None:
        """It gets a change, and stands at its cursor from now on."""
        ...

    def wait(self) -> None:
        """There may be changes that it cannot take now."""
        ...

    def judge(self) -> None:
        """Ask again which rows it may have, and take nothing until then."""
        ...

    def reach(self, position: int) -> None:
        """The log is at `position`: its client is to know how far its lists are."""
        ...


class View:
    """See the module. `number`: the same for all clients of this process."""

    def __init__(self, number: int, name: str, fields: Mapping[str, Any], of: ListRange) -> None:
        self.number = number
        self.name = name
        self.fields = fields
        self.of = of
        self.followers: dict[Follower, None] = {}
        self.tellings = 0.0
        """How often its followers were told what changed; infinite once it has none."""

    def messages(self, change: Window) -> list[bytes]:
        """The change as JSON, in messages of bounded size."""
        pieces = list(self._pieces(change))
        head: dict[str, object] = {
            "type": "rows", "view": self.number, "position": change.cursor.position
        }  # fmt: skip
        if change.reset:
            head["reset"] = True
        bound = change.cursor.bound
        tail = {} if bound is None else {"bound": self.of.shown(bound)}
        return [
            msgspec.json.encode(head | piece | ({"more": True} if number < len(pieces) else tail))
            for number, piece in enumerate(pieces, 1)
        ]

    def _pieces(self, change: Window) -> Iterator[dict[str, object]]:
        drop, put, size = [self.of.shown(at) for at in change.drop], list[object](), 0
        for row in change.put:
            size += len(row.value) + len(row.place.key)
            if put and size > MESSAGE_BYTES_MAX:
                yield {"put": put, "drop": drop}
                drop, put, size = [], [], len(row.value) + len(row.place.key)
            put.append(row_of(self.of, row))
        yield {"put": put, "drop": drop}


def row_of(of: ListRange, row: ListRow) -> tuple[object, ...]:
    """A row as messages have it: its key, its value, and its part where the list has several."""
    key, value = row.place.key.decode(), msgspec.Raw(row.value)
    return (key, value) if len(of.parts) == 1 else (key, value, row.place.part.decode())


class Views:
    """See the module. `framed`: a message as a frame for all clients."""

    def __init__(self, log: Log, ask: Ask, framed: Callable[[bytes], bytes]) -> None:
        self.ask = ask
        self.log = log
        self._framed = framed
        self._views: dict[tuple[str, bytes, ListRange], View] = {}
        self._of_part: dict[tuple[str, str], dict[View, None]] = {}
        self._made = 0
        self._due: dict[View, None] = {}
        self._telling: Collection[View] = ()
        self._running: asyncio.Task[None] | None = None
        self._waiting: list[tuple[dict[View, float], Callable[[], None]]] = []
        self._hourly: asyncio.Task[None] | None = None
        self._moved = asyncio.Event()
        self._unlisten = (log.listen(lambda _events: self._moved.set()), log.listen_to_rows(self._changed))

    def number(self) -> int:
        """The next number of a view."""
        self._made += 1
        return self._made

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._views)

    def close(self) -> None:
        """Tell nobody any more."""
        for forget in self._unlisten:
            forget()
        self._due.clear()
        for task in (self._running, self._hourly):
            if task is not None:
                task.cancel()

    def enter(self, name: str, fields: Mapping[str, Any], of: ListRange, follower: Follower) -> View:
        """Let `follower` follow these rows from where it stands."""
        key = (name, msgspec.json.encode(fields, order="deterministic"), of)
        view = self._views.get(key)
        if view is None:
            view = self._views[key] = View(self.number(), name, fields, of)
            for part in of.parts:
                self._of_part.setdefault((of.table, part), {})[view] = None
        view.followers[follower] = None
        self.wake(view)
        if self._hourly is None:
            self._hourly = asyncio.get_running_loop().create_task(self._each_hour(), name="live lists age")
        return view

    def leave(self, view: View, follower: Follower) -> None:
        """The end of `enter`. Idempotent."""
        if view.followers.pop(follower, self) is self or view.followers:
            return
        del self._views[view.name, msgspec.json.encode(view.fields, order="deterministic"), view.of]
        self._due.pop(view, None)
        view.tellings = math.inf
        self._answer_waiting()
        for part in view.of.parts:
            place = view.of.table, part
            del self._of_part[place][view]
            if not self._of_part[place]:
                del self._of_part[place]

    def wake(self, view: View) -> None:
        """Rows changed, or a follower can take more."""
        self._due[view] = None
        if self._running is None:
            self._running = asyncio.get_running_loop().create_task(self._run(), name="live lists")

    def when_told(self, views: Iterable[View], then: Callable[[], None]) -> None:
        """Call `then` once the followers of these views were told of all that has changed by now."""
        awaited = {
            view: view.tellings + (view in self._due) + (view in self._telling)
            for view in views
            if view in self._due or view in self._telling
        }
        if awaited:
            self._waiting.append((awaited, then))
        else:
            then()

    def _answer_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for awaited, then in waiting:
            if all(view.tellings >= count for view, count in awaited.items()):
                then()
            else:
                self._waiting.append((awaited, then))

    async def _each_hour(self) -> None:
        """A cursor of a list in which nothing changes does not grow old."""
        while self._views:
            await asyncio.sleep(_HOUR_S)
            told, position = 0, self.log.position
            for view in tuple(self._views.values()):
                for follower in tuple(view.followers):
                    follower.reach(position)
                    told += 1
                    if not told % _TOLD_A_TURN:
                        await asyncio.sleep(0)
        self._hourly = None

    def judge_again(self, user_id: UserId | None = None) -> None:
        """Ask again which rows the followers of this user (None: all) may have."""
        for view in tuple(self._views.values()):
            for follower in tuple(view.followers):
                if user_id is None or follower.user_id == user_id:
                    follower.judge()

    def _changed(self, parts: Collection[tuple[str, str]] | None) -> None:
        if parts is None:
            parts = tuple(self._of_part)
        for part in parts:
            for view in self._of_part.get(part, ()):
                self.wake(view)

    async def _run(self) -> None:
        try:
            while self._due:
                views = tuple(self._due)[:_VIEWS_AT_ONCE]
                for view in views:
                    del self._due[view]
                self._telling = views
                try:
                    await self._tell(views)
                    for view in views:
                        view.tellings += 1
                    self._telling = ()
                    self._answer_waiting()
                except Closed:
                    return
                except EventStoreError as error:
                    _log.warning("lists_not_read", error=str(error))
                    self._due.update(dict.fromkeys(views))
                    await asyncio.sleep(_RETRY_S)
                self._telling = ()
        finally:
            self._telling, self._running = (), None

    async def _tell(self, views: Sequence[View]) -> None:
        """Bring the followers of these views up to date that can take it."""
        places: dict[tuple[View, Cursor | None], list[Follower]] = {}
        for view in views:
            for follower in view.followers:
                if follower.may_take():
                    places.setdefault((view, follower.cursor), []).append(follower)
                else:
                    follower.wait()
        if not places:
            return
        ranges: list[RowRange] = []
        spans: list[int] = []
        for view, cursor in places:
            ranges += asked(view.of, cursor)
            spans.append(len(ranges))
        found = await self.log.rows_at_once(ranges)
        while self.log.position < found.position:
            self._moved.clear()
            await self._moved.wait()
        start, told = 0, 0
        for ((view, cursor), followers), end in zip(places.items(), spans, strict=True):
            change = window(view.of, cursor, RowsAtOnce(found.position, found.rows[start:end]))
            frames = [self._framed(message) for message in view.messages(change)]
            start = end
            for follower in followers:
                if follower in view.followers and follower.cursor == cursor:
                    if follower.may_take():
                        follower.take(change, frames)
                    else:
                        follower.wait()
                told += 1
                if not told % _TOLD_A_TURN:
                    await asyncio.sleep(0)
