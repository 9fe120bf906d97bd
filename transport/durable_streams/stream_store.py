"""Streams in the log: one at a time per stream, and each change in one commit with its state.

The state of a stream and the places of its producers are rows next to its events. They are written in the
append that has the data, so a crash leaves both or neither, and a repeated request is known as one.

`Own` has the service's own streams, as streams of JSON that can only be read.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

import msgspec

from huahuo.eventstore.ambient import Ambient, rfc3339
from huahuo.eventstore.errors import Conflict
from huahuo.eventstore.model import Append, Appended, Duplicate, NewEvent, RowDrop, RowPut
from huahuo.eventstore.port import Log
from huahuo.transport.durable_streams import stream_rules
from huahuo.transport.durable_streams.stream_rules import (
    Accepted,
    Addition,
    Creation,
    Part,
    Producer,
    Repeated,
    State,
    Wrong,
    created_before,
    judge,
)
from huahuo.transport.http.admission import Visit
from huahuo.transport.http.reading import Denied, Reading
from huahuo.transport.protocol.kinds import Outcome, Place
from huahuo.transport.server.wires import Wires
from huahuo.transport.words import http_zh

TABLE: Final = "durable_streams"
_STATE_KEY: Final = b""
_ENTRIES_MAX: Final = 4096
_PRODUCERS_MAX: Final = 256
"""Kept in memory, of one stream; all are in the log."""
_TRIES: Final = 3
_SEEN_PART: Final = 10
"""Reading is noted on the disk when a tenth of the TTL has passed; a restart forgets no more than that."""


type Ended = Callable[[object], None]


class _Entry:
    """What is known of one stream. `head`: the seq of its newest event when `state` was true."""

    __slots__ = ("head", "kept_seen_ms", "known", "lock", "producers", "state")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.known = False
        self.state: State | None = None
        self.head = 0
        self.kept_seen_ms = 0
        self.producers: dict[str, Producer | None] = {}


def stream_of(path: str) -> str:
    """The name in the log."""
    return f"ds/{path}"


def missing() -> Wrong:
    """No stream is at this path."""
    return Wrong(HTTPStatus.NOT_FOUND, http_zh.NO_SUCH_STREAM)


class Keeping:
    """See the module. `depth_max` bounds the nesting of JSON."""

    def __init__(self, log: Log, ambient: Ambient, depth_max: int) -> None:
        self._log = log
        self._ambient = ambient
        self._depth_max = depth_max
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._working: set[asyncio.Task[object]] = set()

    async def find(self, path: str) -> State:
        """The stream at `path`. Raises Wrong: there is none, or it expired."""
        entry = self._entry(path)
        if not self._is_known(path, entry):
            async with entry.lock:
                await self._load(path, entry)
        return self._living(entry)

    async def saw(self, path: str) -> None:
        """It was read: its TTL begins anew."""
        entry, now_ms = self._entry(path), self._ambient.now_ms()
        if entry.state is None or entry.state.ttl_s is None or entry.state.expired(now_ms):
            return
        ttl_ms = entry.state.ttl_s * 1000
        entry.state = msgspec.structs.replace(entry.state, seen_ms=now_ms)
        if now_ms - entry.kept_seen_ms >= ttl_ms // _SEEN_PART:
            await self._alone(path, lambda: self._keep_seen(path, entry))

    async def create(
        self, path: str, asked: Creation, body: bytes, by: str, ended: Ended
    ) -> tuple[State, bool]:
        """The stream, and whether it is new. Raises Wrong: another one is there.

        `ended`: called when the work has ended, also if who asked for it left before.
        """
        return await self._alone(path, lambda: self._create(path, asked, body, by), ended)

    async def add(
        self, path: str, asked: Addition, body: bytes, by: str, ended: Ended
    ) -> tuple[State, Accepted | Repeated, Producer | None]:
        """Append, close, or both. The state after it, what was decided, and the place of the producer."""
        return await self._alone(path, lambda: self._add(path, asked, body, by), ended)

    async def delete(self, path: str, by: str) -> None:
        """Forget the stream. Raises Wrong: there is none."""
        await self._alone(path, lambda: self._delete(path, by))

    # One at a time ------------------------------------------------------------------------------------

    async def _alone[T](self, path: str, work: Callable[[], Awaitable[T]], ended: Ended | None = None) -> T:
        """Do it whole, even if who asked for it leaves."""
        task: asyncio.Task[T] = asyncio.create_task(self._locked(path, work))
        self._working.add(task)
        task.add_done_callback(self._worked)
        if ended is not None:
            task.add_done_callback(ended)
        return await asyncio.shield(task)

    def _worked(self, task: asyncio.Task[object]) -> None:
        self._working.discard(task)
        if not task.cancelled():
            task.exception()  # who asked has it, or has left

    async def _locked[T](self, path: str, work: Callable[[], Awaitable[T]]) -> T:
        entry = self._entry(path)
        async with entry.lock:
            for left in reversed(range(_TRIES)):
                await self._load(path, entry)
                try:
                    return await work()
                except Conflict:  # what we knew was old
                    entry.known = False
                    if not left:
                        raise
        raise AssertionError("a try returns or raises")

    async def _create(self, path: str, asked: Creation, body: bytes, by: str) -> tuple[State, bool]:
        entry, stream, now_ms = self._entry(path), stream_of(path), self._ambient.now_ms()
        state = entry.state
        if state is not None and not state.expired(now_ms):
            created_before(state, asked)
            return state, False
        facts = {"content_type": asked.content_type, "ttl_s": asked.ttl_s, "expires_ms": asked.expires_ms}
        created = stream_rules.note(stream, stream_rules.CREATED, rfc3339(now_ms), **facts)
        data = stream_rules.events_of(stream, asked.content_type, body, rfc3339(now_ms), self._depth_max)
        start = entry.head + 1
        made = State(
            start=start, tail=start + len(data), content_type=asked.content_type, seen_ms=now_ms,
            ttl_s=asked.ttl_s, expires_ms=asked.expires_ms, closed=asked.closed,
        )  # fmt: skip
        end = [stream_rules.note(stream, stream_rules.CLOSED, rfc3339(now_ms))] if asked.closed else []
        await self._commit(path, entry, made, [created, *data, *end], by, begins=True)
        return made, True

    async def _add(
        self, path: str, asked: Addition, body: bytes, by: str
    ) -> tuple[State, Accepted | Repeated, Producer | None]:
        entry, stream, now_ms = self._entry(path), stream_of(path), self._ambient.now_ms()
        state = self._living(entry)
        last = None if asked.producer is None else await self._last(path, entry, asked.producer.id)
        found = judge(state, last, asked, len(body))
        if isinstance(found, Repeated):
            return state, found, None
        data = stream_rules.events_of(stream, state.content_type, body, rfc3339(now_ms), self._depth_max)
        if body and not data:
            raise Wrong(HTTPStatus.BAD_REQUEST, http_zh.EMPTY_ARRAY)
        made = msgspec.structs.replace(
            state, tail=entry.head + len(data) if data else state.tail, seen_ms=now_ms,
            closed=found.closes, order=state.order if asked.order is None else asked.order,
        )  # fmt: skip
        end = [stream_rules.note(stream, stream_rules.CLOSED, rfc3339(now_ms))] if found.closes else []
        await self._commit(path, entry, made, [*data, *end], by, producer=found.producer)
        return made, found, found.producer

    async def _delete(self, path: str, by: str) -> None:
        entry, stream, now_ms = self._entry(path), stream_of(path), self._ambient.now_ms()
        self._living(entry)
        gone = stream_rules.note(stream, stream_rules.DELETED, rfc3339(now_ms))
        await self._commit(path, entry, None, [gone], by)

    async def _keep_seen(self, path: str, entry: _Entry) -> None:
        if entry.state is not None:
            await self._commit(path, entry, entry.state, [], "")

    # The log ------------------------------------------------------------------------------------------

    async def _commit(
        self,
        path: str,
        entry: _Entry,
        state: State | None,
        events: list[NewEvent],
        by: str,
        *,
        producer: Producer | None = None,
        begins: bool = False,
    ) -> None:
        rows: list[RowPut | RowDrop] = []
        if begins or state is None:
            rows.append(RowDrop(TABLE, path))
        if state is not None:
            rows.append(RowPut(TABLE, path, _STATE_KEY, msgspec.json.encode(state)))
        if producer is not None:
            rows.append(RowPut(TABLE, path, _producer_key(producer.id), msgspec.json.encode(producer)))
        stream = stream_of(path)
        append = Append(
            ts_ms=self._ambient.now_ms(), events=tuple(events), rows=tuple(rows), principal=by,
            expected={stream: entry.head},
        )  # fmt: skip
        entry.known = False

        def committed(future: asyncio.Future[Appended | Duplicate]) -> None:
            """Before any reader hears of the events: they must find the state that has them."""
            if future.cancelled() or future.exception() is not None:
                return
            entry.state, entry.known = state, True
            entry.head += len(events)
            entry.kept_seen_ms = 0 if state is None else state.seen_ms
            if begins or state is None:
                entry.producers.clear()
            if producer is not None:
                entry.producers[producer.id] = producer

        future = self._log.submit(append)
        future.add_done_callback(committed)
        await future

    def _is_known(self, path: str, entry: _Entry) -> bool:
        """Whether `entry` is of today: another node may have written since, or read, which moves a TTL."""
        if not entry.known or entry.head < self._log.head(stream_of(path)).seq:
            return False
        return entry.state is None or not entry.state.expired(self._ambient.now_ms())

    async def _load(self, path: str, entry: _Entry) -> None:
        if self._is_known(path, entry):
            return
        entry.head = self._log.head(stream_of(path)).seq
        row = await self._log.row(TABLE, path, _STATE_KEY)
        entry.state = None if row is None else msgspec.json.decode(row, type=State)
        entry.kept_seen_ms = 0 if entry.state is None else entry.state.seen_ms
        entry.producers.clear()
        entry.known = True

    async def _last(self, path: str, entry: _Entry, id_: str) -> Producer | None:
        if id_ not in entry.producers:
            if len(entry.producers) >= _PRODUCERS_MAX:
                entry.producers.clear()
            row = await self._log.row(TABLE, path, _producer_key(id_))
            entry.producers[id_] = None if row is None else msgspec.json.decode(row, type=Producer)
        return entry.producers[id_]

    def _living(self, entry: _Entry) -> State:
        if entry.state is None or entry.state.expired(self._ambient.now_ms()):
            raise missing()
        return entry.state

    def _entry(self, path: str) -> _Entry:
        entry = self._entries.get(path)
        if entry is None:
            entry = self._entries[path] = _Entry()
            if len(self._entries) > _ENTRIES_MAX:
                for old, other in self._entries.items():
                    if not other.lock.locked() and other is not entry:
                        del self._entries[old]
                        break
        else:
            self._entries.move_to_end(path)
        return entry


def _producer_key(id_: str) -> bytes:
    return b"p" + id_.encode()


_KINDS: Final = frozenset({"user", "group"})
_ALONE: Final = "system"


class Own:
    """The service's own streams under `/ds/`, as streams of JSON that can only be read.

    The path must be the whole name: `user/42` is one, `user/42/answer` is not.
    """

    def __init__(self, wires: Wires, reading: Reading) -> None:
        self._wires = wires
        self._reading = reading

    def has(self, path: str) -> bool:
        """Whether `path` is the name of a stream of the service."""
        kind, _, rest = path.partition("/")
        if not rest or "/" in rest:
            return path == _ALONE
        return kind in _KINDS or kind in self._wires.shared.judged.kinds

    async def check_right(self, visit: Visit, path: str) -> None:
        """Raises Wrong: the user may not read it now. It takes a token, also where `/ds/` is open."""
        try:
            await self._reading.check_right(visit, path)
        except Denied as denied:
            if denied.corrupt:
                raise Wrong(HTTPStatus.INTERNAL_SERVER_ERROR, http_zh.STREAM_DAMAGED) from None
            if denied.pending:
                raise Wrong(HTTPStatus.SERVICE_UNAVAILABLE, http_zh.RIGHT_NOT_KNOWN) from None
            raise Wrong(HTTPStatus.FORBIDDEN, http_zh.NOT_YOURS_TO_READ) from None

    def state(self, path: str) -> State:
        """The stream as it is now. One without events is empty: its first may be on its way."""
        head = self._wires.feed.head(path)
        return State(start=max(head.first - 1, 0), tail=head.seq, content_type=stream_rules.JSON, seen_ms=0)

    async def part(self, path: str, state: State, at: int, events_max: int, bytes_max: int) -> Part:
        """The events that follow `at`, up to these bounds. Each has its `stream` and `seq`."""
        page = await self._reading.events(path, Place(Outcome.RESUMED, at), events_max, bytes_max)
        body = b"[%b]" % b",".join(page.events)
        return Part(state, body, at, page.following, at_end=page.following >= state.tail)
