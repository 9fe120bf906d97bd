"""Requests under `/ds/`, answered: pages, long-polls, readers of server-sent events, refusals.

The rest of the room does not know of HTTP's connections.

A reader gets pages of a stream, each followed by where it ends. It is ended about every minute, so that
caches between can give one answer to many; the client comes back.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from http import HTTPStatus
from typing import Any, Final

import structlog

from huahuo.actors.plugins.calls import Principal, Refusal, RefuseGrowth
from huahuo.eventstore.ambient import rfc3339
from huahuo.eventstore.deadline import Deadline
from huahuo.eventstore.errors import Conflict, Corrupt, EventStoreError, QueueFull, TooLarge
from huahuo.eventstore.executor import acting_for
from huahuo.eventstore.limits import APPEND_EVENTS_MAX
from huahuo.eventstore.model import Head
from huahuo.eventstore.port import Log
from huahuo.replay.feed import Feed
from huahuo.transport.access.door import Entry
from huahuo.transport.access.rights import READ, WRITE, Verified
from huahuo.transport.accounts.accounts import Right
from huahuo.transport.commands.gate import Paced
from huahuo.transport.durable_streams import stream_rules
from huahuo.transport.durable_streams.stream_rules import (
    ANYBODY,
    NoRoom,
    Part,
    Repeated,
    State,
    Wrong,
    is_near,
    may_use,
    offset_text,
    place_headers,
)
from huahuo.transport.durable_streams.stream_store import Keeping, Own, missing, stream_of
from huahuo.transport.http.admission import Visit
from huahuo.transport.http.event_socket import Outlet
from huahuo.transport.http.messages import EVENT_STREAM, NO_STORE, Answer, Headers, Request, problem
from huahuo.transport.http.reading import Arrivals, Reading
from huahuo.transport.http.stream_pages import matches
from huahuo.transport.protocol.codes import ErrorCode
from huahuo.transport.server.wires import Wires
from huahuo.transport.words import http_zh, zh

_KEPT_S: Final = 60


def page(visit: Visit, part: Part, live: Headers = (), *, shared: bool, tagged: bool = True) -> Answer:
    """A part of a stream. `live`: the headers of a live answer.

    `shared`: a cache may give it to everybody; `tagged`: it has an ETag.
    """
    who = "public" if shared else "private"
    keep = f"{who}, max-age={_KEPT_S}, stale-while-revalidate=300"
    if live or not tagged:
        keep = NO_STORE
    elif part.at_end and not part.closed:
        keep = f"{who}, no-cache"
    of_somebody = not shared and visit.verified is not ANYBODY
    head = (
        ("Content-Type", part.state.content_type),
        ("Cache-Control", keep),
        *((("Vary", "Authorization"),) if of_somebody else ()),
        *end_headers(part),
        *live,
    )
    if not tagged:
        return Answer(HTTPStatus.OK, head, part.body)
    end = ":c" if part.closed else ""
    etag = f'"{part.state.start}:{part.after}:{part.following}{end}"'
    head = (*head, ("ETag", etag))
    if matches(etag, visit.request.all("if-none-match")):
        return Answer(HTTPStatus.NOT_MODIFIED, head)
    return Answer(HTTPStatus.OK, head, part.body)


def described(state: State, now_ms: int) -> Answer:
    """What is told of a stream without its content."""
    due_ms = state.due_ms
    life: Headers = ()
    if state.ttl_s is not None and due_ms is not None:
        life = (("Stream-TTL", str(-((now_ms - due_ms) // 1000))),)
    elif due_ms is not None:
        life = (("Stream-Expires-At", rfc3339(due_ms)),)
    fixed = (("Content-Type", state.content_type), ("Cache-Control", NO_STORE))
    return Answer(HTTPStatus.OK, (*fixed, *state.headers, *life))


def end_headers(part: Part) -> Headers:
    """Where a part ends, and whether more follows it."""
    up_to_date = (("Stream-Up-To-Date", "true"),) if part.at_end else ()
    closed = (("Stream-Closed", "true"),) if part.closed else ()
    return (("Stream-Next-Offset", offset_text(part.following)), *up_to_date, *closed)


SAFE: Final[Headers] = (
    ("X-Content-Type-Options", "nosniff"),
    ("Cross-Origin-Resource-Policy", "cross-origin"),
)

_CODES: Final = {
    HTTPStatus.BAD_REQUEST: ErrorCode.INVALID_FIELD,
    HTTPStatus.NOT_FOUND: ErrorCode.NOT_FOUND,
    HTTPStatus.FORBIDDEN: ErrorCode.FORBIDDEN,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: ErrorCode.TOO_LARGE,
    HTTPStatus.SERVICE_UNAVAILABLE: ErrorCode.UNAVAILABLE,
}


async def refusing(work: Coroutine[Any, Any, Answer]) -> Answer:
    """The answer of `work`, or the refusal that it ended in."""
    try:
        found = await work
    except Wrong as wrong:
        code = _CODES.get(wrong.status, "conflict" if wrong.status is HTTPStatus.CONFLICT else "refused")
        found = problem(code, str(wrong), status=wrong.status, headers=wrong.headers)
    except NoRoom as full:
        refusal = full.refusal
        found = problem(refusal.code, refusal.message, retry_s=refusal.retry_s)
    except TooLarge:
        found = problem(ErrorCode.TOO_LARGE, zh.EVENT_TOO_LARGE)
    except (QueueFull, Conflict):
        found = problem(ErrorCode.BUSY, http_zh.MUCH_WRITTEN)
    except Corrupt:
        found = problem(ErrorCode.CORRUPT, http_zh.STREAM_DAMAGED)
    except EventStoreError:
        found = problem(ErrorCode.UNAVAILABLE, http_zh.WRITTEN_UNKNOWN)
    return found.adding(SAFE)


LONG_POLL_S: Final = 20.0
PAGE_BYTES_MAX: Final = 1 << 20
PAGE_EVENTS_MAX: Final = 1024
assert stream_rules.MESSAGES_MAX + 2 <= APPEND_EVENTS_MAX

UNREAD: Final = Refusal(ErrorCode.BUSY, http_zh.ANSWERS_UNREAD)
_OF_STATE: Final = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.GONE})
"""Refusals that another event may change."""


type May = Callable[[Principal, str, Right], Awaitable[bool]]
"""Whether a user may read or write the stream `ds/<path>`."""


LIFE_S: Final = 60.0
LOOK_S: Final = 2.0
"""A reader whose token has ended is told nothing more, and ends within this."""
_END_S: Final = 2.0
_BUFFER_BYTES: Final = 256 << 10
_PART_BYTES_MAX: Final = 64 << 10
"""Of the events of one part. Ends of lines take six times as much in server-sent events."""

_log = structlog.get_logger(__name__)


class DurableStreams:
    """Everything under `/ds/`. Implements `http.api.DurableStreams`.

    `is_open`: nobody needs a token; `forced`: from other machines neither.
    """

    def __init__(
        self,
        wires: Wires,
        log: Log,
        arrivals: Arrivals,
        *,
        is_open: bool = False,
        forced: bool = False,
        shared: bool = False,
        may: May | None = None,
    ) -> None:
        """`may`: judges the paths that no rule gives to a user; None: nobody else uses them."""
        self._may = may
        self.wires = wires
        self.arrivals = arrivals
        self._log = log
        self._feed: Feed = wires.feed
        self._is_open = is_open
        self._forced = forced
        self._shared = shared
        self.refuse_growth: RefuseGrowth | None = None
        self._own = Own(wires, Reading(wires, arrivals, shared=shared))
        self.keeping = Keeping(log, wires.ambient, wires.shared.settings.json_depth_max)

    def without_token(self, request: Request, address: str) -> Verified | None:
        """Who asks, if this request needs no token."""
        return ANYBODY if self._is_open and (self._forced or is_near(request, address)) else None

    async def answer(self, visit: Visit, body: bytes) -> Answer:
        """Answer a request that does not ask for server-sent events."""
        return await refusing(self.current(visit, lambda: self._answered(visit, body)))

    async def current[T](self, visit: Visit, work: Callable[[], Awaitable[T]]) -> T:
        """The result of `work`. If this node may refuse only since others are ahead, it catches up first."""
        try:
            return await work()
        except Wrong as wrong:
            if self._feed.catch_up is None or wrong.status not in _OF_STATE:
                raise
        path = stream_rules.path_of(visit.route.name)
        await self.catch_up(path, self.head(path) + 1)
        return await work()

    async def catch_up(self, path: str, seq: int) -> None:
        """Wait for an event that another node may have shown. Raises Wrong: it is not known in time."""
        if self._feed.catch_up is not None and not await self._feed.catch_up([(self.stream_of(path), seq)]):
            raise Wrong(HTTPStatus.SERVICE_UNAVAILABLE, zh.NODE_BEHIND)

    async def opened(self, visit: Visit) -> tuple[str, State]:
        """The path and the stream that a reader may read. Raises Wrong."""
        path = await self._path(visit)
        return path, await self.current(visit, lambda: self.find(path))

    async def find(self, path: str) -> State:
        """The stream as it is now. Raises Wrong: there is none."""
        return self._own.state(path) if self._own.has(path) else await self.keeping.find(path)

    async def saw(self, path: str) -> None:
        """It was read: its TTL begins anew."""
        if not self._own.has(path):
            await self.keeping.saw(path)

    def stream_of(self, path: str) -> str:
        """The stream of the log that is served at `path`."""
        return path if self._own.has(path) else stream_of(path)

    def still_known(self, visit: Visit) -> bool:
        """Whether the token of a request is still good, if it needs one."""
        return visit.verified is ANYBODY or (
            self.wires.verifier.still_good(visit.verified, self.wires.ambient.now_ms()) is None
        )

    async def still_may(self, visit: Visit) -> bool:
        """Whether the token and the right of a request that waited are still good."""
        if visit.verified is ANYBODY:
            return True
        if not self.still_known(visit):
            return False
        try:
            await self._path(visit)
        except Wrong:
            return False
        return True

    async def part(self, path: str, state: State, after: int, bytes_max: int = PAGE_BYTES_MAX) -> Part:
        """What follows `after`, up to a bound in bytes of its events; one event alone may have more."""
        if 0 <= after < state.start:
            raise Wrong(HTTPStatus.GONE, http_zh.EARLIER_STREAM)
        at = min(max(after, state.start), state.tail)
        if self._own.has(path):
            return await self._own.part(path, state, at, PAGE_EVENTS_MAX, bytes_max)
        if at < (first := self.head_of(path).first) - 1:
            if after >= 0:
                raise Wrong(HTTPStatus.GONE, http_zh.WAS_REMOVED)
            at = first - 1
        found = await self._log.read(stream_of(path), at, events_max=PAGE_EVENTS_MAX, bytes_max=bytes_max)
        data = stream_rules.data_of(found)
        following = data[-1].seq if data else at
        body = stream_rules.joined(state.content_type, data)
        return Part(state, body, at, following, at_end=following >= state.tail)

    def cursor(self, request: Request) -> str:
        """The cursor of a live answer."""
        ambient = self.wires.ambient
        return stream_rules.cursor(request, ambient.now_ms(), ambient.random())

    def head(self, path: str) -> int:
        """The seq of the newest event, from which to wait for the next."""
        return self.head_of(path).seq

    def head_of(self, path: str) -> Head:
        """The ends of what is kept of a stream."""
        return self._feed.head(self.stream_of(path))

    # Methods ------------------------------------------------------------------------------------------

    async def _answered(self, visit: Visit, body: bytes) -> Answer:
        path, by = await self._path(visit), visit.principal.name
        if self._own.has(path) and visit.request.method not in ("GET", "HEAD"):
            raise Wrong(
                HTTPStatus.METHOD_NOT_ALLOWED,
                http_zh.ONLY_READ.format(path),
                (("Allow", "GET, HEAD"),),
            )
        match visit.request.method:
            case "PUT":
                self._need_room(visit)
                return await self._put(visit, path, body)
            case "POST":
                self._need_room(visit)
                return await self._post(visit, path, body)
            case "DELETE":
                await self.keeping.delete(path, by)
                return Answer(HTTPStatus.NO_CONTENT, (("Cache-Control", NO_STORE),))
            case "HEAD":
                return described(await self.find(path), self.wires.ambient.now_ms())
            case _:
                return await self._get(visit, path)

    def _need_room(self, visit: Visit) -> None:
        """Raise NoRoom if this user may store nothing more now."""
        if self.refuse_growth is None:
            return
        refusal = self.refuse_growth(visit.principal.name, visit.principal.is_admin)
        if refusal is not None:
            raise NoRoom(refusal)

    async def _put(self, visit: Visit, path: str, body: bytes) -> Answer:
        asked = stream_rules.creation_of(visit.request)
        state, new = await self.keeping.create(path, asked, body, visit.principal.name, visit.load.share())
        headers = (("Content-Type", state.content_type), ("Cache-Control", NO_STORE), *state.headers)
        if not new:
            return Answer(HTTPStatus.OK, headers)
        return Answer(HTTPStatus.CREATED, (("Location", stream_rules.location_of(visit.request)), *headers))

    async def _post(self, visit: Visit, path: str, body: bytes) -> Answer:
        asked = stream_rules.addition_of(visit.request)
        state, found, producer = await self.keeping.add(
            path, asked, body, visit.principal.name, visit.load.share()
        )
        kept = ("Cache-Control", NO_STORE)
        if isinstance(found, Repeated):
            return Answer(found.status, (kept, *found.headers))
        place = () if producer is None else place_headers(producer)
        return Answer(found.status, (kept, *state.headers, *place))

    async def _get(self, visit: Visit, path: str) -> Answer:
        request = visit.request
        live = request.query.get("live")
        if live not in (None, "long-poll"):
            raise Wrong(HTTPStatus.BAD_REQUEST, http_zh.LIVE_NEEDED)
        offset = stream_rules.offset_of(request)
        if live is not None and offset is None:
            raise Wrong(HTTPStatus.BAD_REQUEST, http_zh.OFFSET_WITH_LIVE)
        state = await self.find(path)
        await self.saw(path)
        if live is None and offset == stream_rules.NOW:
            empty = b"[]" if stream_rules.is_json(state.content_type) else b""
            return page(
                visit,
                Part(state, empty, state.tail, state.tail, at_end=True),
                shared=self._shared,
                tagged=False,
            )
        after = state.tail if offset == stream_rules.NOW else -1 if offset is None else int(offset)
        if after > state.tail:
            await self.catch_up(path, after)
            state = await self.find(path)
        part = await self._with_room(visit, path, state, after)
        if live is None:
            return page(visit, part, shared=self._shared)
        if part.empty and not part.closed:
            part = await self._waited(visit, path, part)
        live_headers = (("Stream-Cursor", self.cursor(request)),)
        if part.empty:
            said = (*end_headers(part), *live_headers, ("Cache-Control", NO_STORE))
            return Answer(HTTPStatus.NO_CONTENT, said)
        return page(visit, part, live_headers, shared=self._shared)

    async def _with_room(self, visit: Visit, path: str, state: State, after: int) -> Part:
        """As `part`, in the user's part of the budget: all of a page until it is there, then its size."""
        if not visit.purse.reserve(PAGE_BYTES_MAX, self.wires.ambient.monotonic_s()):
            raise NoRoom(UNREAD)
        part = await self.part(path, state, after)
        visit.purse.correct(PAGE_BYTES_MAX, 0 if part.empty else len(part.body))
        return part

    async def _waited(self, visit: Visit, path: str, part: Part) -> Part:
        """What came while the request waited; the empty part if nothing did. It counts as a connection."""
        door, now_s = self.wires.door, self.wires.ambient.monotonic_s
        entry = door.enter(visit.address)
        if entry is Entry.REFUSED:
            raise Wrong(HTTPStatus.TOO_MANY_REQUESTS, http_zh.TOO_MANY_CONNECTIONS)
        try:
            if entry is Entry.OVER:
                raise Wrong(HTTPStatus.TOO_MANY_REQUESTS, http_zh.TOO_MANY_CONNECTIONS)
            until_s = now_s() + LONG_POLL_S
            while True:
                head = self.head(path)
                state = await self.find(path)
                if state.start != part.state.start:
                    raise missing()
                part = await self._with_room(visit, path, state, part.after)
                if not part.empty or part.closed:
                    return part
                if not await self.arrivals.wait(self.stream_of(path), head, until_s - now_s()):
                    return part
                if not await self.still_may(visit):
                    raise Wrong(HTTPStatus.FORBIDDEN, http_zh.TOKEN_ENDED)
        finally:
            door.leave(visit.address)

    async def _path(self, visit: Visit) -> str:
        path = stream_rules.path_of(visit.route.name)
        if self._own.has(path):
            await self._own.check_right(visit, path)
        elif not await self._may_use(visit, path):
            raise Wrong(HTTPStatus.FORBIDDEN, http_zh.NOT_YOURS)
        return path

    async def _may_use(self, visit: Visit, path: str) -> bool:
        writes = visit.request.method not in ("GET", "HEAD")
        if may_use(visit.principal, path, is_open=visit.verified is ANYBODY, writes=writes):
            return True
        if not visit.principal.may(WRITE if writes else READ):
            return False
        right: Right = "publish" if writes else "read"
        return self._may is not None and await self._may(visit.principal, stream_of(path), right)

    def follow(self, visit: Visit, outlet: Outlet, gone: Callable[[], None]) -> "DurableReader":
        """See `http.api.DurableStreams`."""
        return DurableReader(self, visit, outlet, gone)


class DurableReader:
    """One reader of server-sent events: pages of a stream, each followed by where it ends.

    Implements `event_socket.Reader`. `gone` is called once, at the end.
    """

    def __init__(
        self, serving: DurableStreams, visit: Visit, outlet: Outlet, gone: Callable[[], None]
    ) -> None:
        self._serving = serving
        self._visit = visit
        self._outlet = outlet
        self._room = asyncio.Event()
        self._begun = False
        self._purse = serving.wires.supply.budget.purse(visit.principal.name)
        self._task = asyncio.ensure_future(self._serve())
        self._task.add_done_callback(lambda _: self._purse.close())
        self._task.add_done_callback(lambda _: gone())

    def filled(self) -> None:
        """The outlet is full. Nothing to do: each part that is told of events looks itself."""

    def drained(self) -> None:
        """The outlet has room again."""
        self._note_unsent()
        self._room.set()

    def lost(self) -> None:
        """The reader is gone."""
        self._task.cancel()

    async def _serve(self) -> None:
        name, wires = self._visit.principal.name, self._serving.wires
        try:
            with acting_for(name):
                refusal = await Paced(
                    refusing(self._told()), name, wires.supply.turns, wires.ambient.monotonic_s
                )
        except TimeoutError:
            self._outlet.abort()  # it does not read
            return
        except Exception:
            _log.exception("durable_reader_failed", path=self._visit.request.path)
            self._outlet.abort()
            raise
        if self._begun:
            self._outlet.end(_END_S)
        else:
            self._outlet.refuse(refusal.adding(self._visit.cors))

    async def _told(self) -> Answer:
        """Tell the reader all there is. The answer is not used."""
        serving, visit, ambient = self._serving, self._visit, self._serving.wires.ambient
        offset = stream_rules.offset_of(visit.request)
        if offset is None:
            raise Wrong(HTTPStatus.BAD_REQUEST, http_zh.OFFSET_WITH_LIVE)
        path, state = await serving.opened(visit)
        at = state.tail if offset == stream_rules.NOW else int(offset)
        if at > state.tail:
            await serving.catch_up(path, at)
            state = await serving.find(path)
        start, until_s = state.start, ambient.monotonic_s() + LIFE_S
        told = False
        while state.start == start and (not told or await serving.still_may(visit)):
            head = serving.head(path)
            state = await serving.find(path)
            if not self._purse.reserve(_PART_BYTES_MAX, ambient.monotonic_s()):
                raise NoRoom(UNREAD)  # one that has begun ends, and comes back with its offset
            part = await serving.part(path, state, at, _PART_BYTES_MAX)
            await serving.saw(path)
            if not self._begun:
                self._begin(state)
            tells = not part.empty or not told or part.closed
            if tells:
                told, at = True, part.following
                self._tell(part)
            closed, at_end = part.closed, part.at_end
            del part  # a slow reader has it in its buffer only
            self._purse.release(_PART_BYTES_MAX)
            if tells:
                await self._read()
            if closed or (at_end and not await self._more(serving.stream_of(path), head, until_s)):
                break
        return Answer(HTTPStatus.OK)

    async def _more(self, stream: str, head: int, until_s: float) -> bool:
        """Wait for an event behind `head`. False: it is time to end, or the token has ended."""
        serving, now_s = self._serving, self._serving.wires.ambient.monotonic_s
        while (left_s := until_s - now_s()) > 0 and not serving.arrivals.closed:
            if await serving.arrivals.wait(stream, head, min(left_s, LOOK_S)):
                return True
            self._note_unsent()
            if not serving.still_known(self._visit):
                return False
        return False

    def _begin(self, state: State) -> None:
        self._begun = True
        fixed: Headers = (
            ("Content-Type", EVENT_STREAM), ("Cache-Control", "no-cache"), ("X-Accel-Buffering", "no"),
        )  # fmt: skip
        encoding = (
            () if stream_rules.is_text(state.content_type) else (("Stream-SSE-Data-Encoding", "base64"),)
        )
        self._outlet.begin(HTTPStatus.OK, (*fixed, *encoding, *SAFE, *self._visit.cors))
        self._outlet.bound(_BUFFER_BYTES)

    def _tell(self, part: Part) -> None:
        said: dict[str, object] = {"streamNextOffset": offset_text(part.following)}
        if part.closed:
            said["streamClosed"] = True
        else:
            said["streamCursor"] = self._serving.cursor(self._visit.request)
        if part.at_end:
            said["upToDate"] = True
        data = b"" if part.empty else stream_rules.sse_data(part.state.content_type, part.body)
        self._outlet.write(data + stream_rules.sse_control(**said))
        self._note_unsent()

    def _note_unsent(self) -> None:
        self._purse.buffer(self._outlet.unsent_bytes, self._serving.wires.ambient.monotonic_s())

    async def _read(self) -> None:
        """Wait until the outlet has room. Raises TimeoutError: the reader does not read."""
        async with Deadline(self._serving.wires.ambient, LIFE_S):
            while self._outlet.paused:
                self._room.clear()
                await self._room.wait()
