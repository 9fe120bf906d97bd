"""Requests under `/ds/`, answered. The rest of the room does not know of HTTP's connections."""

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

from huahuo.actors.plugins.calls import Refusal, RefuseGrowth
from huahuo.actors.plugins.principal import Principal
from huahuo.eventstore.limits import APPEND_EVENTS_MAX
from huahuo.eventstore.model import Head
from huahuo.eventstore.port import Log
from huahuo.replay.live.feed import Feed
from huahuo.transport.access.door import Entry
from huahuo.transport.access.rights import READ, WRITE
from huahuo.transport.access.verified import Verified
from huahuo.transport.accounts.application import Right
from huahuo.transport.durable_streams import asking, bodies
from huahuo.transport.durable_streams.answers import described, end_headers, page
from huahuo.transport.durable_streams.asking import NoRoom, Wrong
from huahuo.transport.durable_streams.deciding import Repeated, State, place_headers
from huahuo.transport.durable_streams.keeping import Keeping, missing, stream_of
from huahuo.transport.durable_streams.own import Own
from huahuo.transport.durable_streams.part import Part
from huahuo.transport.durable_streams.refusals import refusing
from huahuo.transport.durable_streams.rights import ANYBODY, is_near, may_use
from huahuo.transport.http.admission import Visit
from huahuo.transport.http.arrivals import Arrivals
from huahuo.transport.http.messages import NO_STORE, Answer, Request
from huahuo.transport.http.reading import Reading
from huahuo.transport.protocol.codes import ErrorCode
from huahuo.transport.server.wires import Wires
from huahuo.transport.words import http_zh, zh

LONG_POLL_S: Final = 20.0
PAGE_BYTES_MAX: Final = 1 << 20
PAGE_EVENTS_MAX: Final = 1024
assert bodies.MESSAGES_MAX + 2 <= APPEND_EVENTS_MAX

UNREAD: Final = Refusal(ErrorCode.BUSY, http_zh.ANSWERS_UNREAD)
_OF_STATE: Final = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.GONE})
"""Refusals that another event may change."""


type May = Callable[[Principal, str, Right], Awaitable[bool]]
"""Whether a user may read or write the stream `ds/<path>`."""


class Serving:
    """See the module. `is_open`: nobody needs a token; `forced`: from other machines neither."""

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
        path = asking.path_of(visit.route.name)
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
        data = bodies.data_of(found)
        following = data[-1].seq if data else at
        body = bodies.joined(state.content_type, data)
        return Part(state, body, at, following, at_end=following >= state.tail)

    def cursor(self, request: Request) -> str:
        """The cursor of a live answer."""
        ambient = self.wires.ambient
        return asking.cursor(request, ambient.now_ms(), ambient.random())

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
        asked = asking.creation_of(visit.request)
        state, new = await self.keeping.create(path, asked, body, visit.principal.name, visit.load.share())
        headers = (("Content-Type", state.content_type), ("Cache-Control", NO_STORE), *state.headers)
        if not new:
            return Answer(HTTPStatus.OK, headers)
        return Answer(HTTPStatus.CREATED, (("Location", asking.location_of(visit.request)), *headers))

    async def _post(self, visit: Visit, path: str, body: bytes) -> Answer:
        asked = asking.addition_of(visit.request)
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
        offset = asking.offset_of(request)
        if live is not None and offset is None:
            raise Wrong(HTTPStatus.BAD_REQUEST, http_zh.OFFSET_WITH_LIVE)
        state = await self.find(path)
        await self.saw(path)
        if live is None and offset == asking.NOW:
            empty = b"[]" if bodies.is_json(state.content_type) else b""
            return page(
                visit,
                Part(state, empty, state.tail, state.tail, at_end=True),
                shared=self._shared,
                tagged=False,
            )
        after = state.tail if offset == asking.NOW else -1 if offset is None else int(offset)
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
        path = asking.path_of(visit.route.name)
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
