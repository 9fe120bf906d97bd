"""Reads of streams over HTTP: pages, at once or when the next event comes, and what clients have processed.

Long-polls wait for the next event of a stream, and are bounded per user (`Arrivals`). `POST /acks` says
what a client has processed; `GET /seen` asks (and waits) for it.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from http import HTTPStatus
from typing import Annotated, Final

import msgspec

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.deadline import Deadline
from huahuo.eventstore.errors import Corrupt, EventStoreError
from huahuo.eventstore.model import StoredEvent
from huahuo.eventstore.port import Log
from huahuo.replay.feed import Feed, Run
from huahuo.transport.access.door import Entry
from huahuo.transport.access.rights import may_read
from huahuo.transport.http import stream_pages
from huahuo.transport.http.admission import Visit
from huahuo.transport.http.messages import NO_CONTENT, Answer, json_answer, problem
from huahuo.transport.http.stream_pages import After, Page, etag_of, matches, page_headers
from huahuo.transport.load.fair_queueing import Crowded
from huahuo.transport.protocol.codes import ErrorCode
from huahuo.transport.protocol.frames import unframed, whole_events
from huahuo.transport.protocol.incoming import ID_CHARS_MAX, Seq, StreamName
from huahuo.transport.protocol.kinds import Outcome, Place
from huahuo.transport.server.wires import Wires
from huahuo.transport.session.session import FrameKind
from huahuo.transport.words import http_zh, zh


class Arrivals:
    """Waiting for the next event of a stream: long-polls and their bound per user.

    One tap of the feed serves all that wait; while nobody waits there is none.
    """

    def __init__(self, feed: Feed, ambient: Ambient) -> None:
        self._feed = feed
        self._ambient = ambient
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}
        self._untap: Callable[[], None] | None = None
        self.closed = False
        """Whether the service stops, so that nobody waits any more."""

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(map(len, self._waiting.values()))

    async def wait(self, stream: str, after: int, timeout_s: float) -> bool:
        """Wait until `stream` has an event behind `after`. False: there is none in time, or we stop."""
        if self._feed.head(stream).seq > after:
            return True
        if self.closed or timeout_s <= 0:
            return False
        if self._untap is None:
            self._untap = self._feed.tap(self._committed)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(stream, set())
        waiting.add(future)
        try:
            async with Deadline(self._ambient, timeout_s):
                await future
        except TimeoutError:
            pass
        finally:
            waiting.discard(future)
            if not waiting and self._waiting.get(stream) is waiting:
                del self._waiting[stream]
            self._stop_if_idle()
        return self._feed.head(stream).seq > after

    def close(self) -> None:
        """Let all that wait go, and later ones not begin."""
        self.closed = True
        self._committed(None)

    def _stop_if_idle(self) -> None:
        if self._untap is not None and not self._waiting:
            self._untap()
            self._untap = None

    def _committed(self, by_stream: Mapping[str, Sequence[StoredEvent]] | None) -> None:
        for stream in tuple(self._waiting) if by_stream is None else by_stream:
            for future in self._waiting.pop(stream, ()):
                if not future.done():
                    future.set_result(None)


PAGE_BYTES_MAX: Final = 512 << 10
"""A page has at most this many bytes of events, or one longer event."""
_RUN_EVENTS_MAX: Final = 256
_STATE: Final = "page state"
_WHOLE: Final = FrameKind(compressed=False, checked=False, in_parts=False)


class Denied(Exception):  # noqa: N818  a fact about a right
    """The user may not read the stream, or nobody can say in time (`pending`), or at all (`corrupt`)."""

    def __init__(self, *, pending: bool, corrupt: bool = False) -> None:
        super().__init__()
        self.pending = pending
        self.corrupt = corrupt

    def answer(self) -> Answer:
        """The refusal. It is the same for a stream that does not exist."""
        if self.corrupt:
            return problem(ErrorCode.CORRUPT, http_zh.STREAM_DAMAGED)
        if self.pending:
            return problem(ErrorCode.BUSY, http_zh.RIGHT_NOT_KNOWN)
        return problem(ErrorCode.FORBIDDEN, http_zh.NOT_YOURS_TO_READ)


class Reading:
    """Answers with pages of a stream: at once, or when the next event comes (long-poll)."""

    def __init__(self, wires: Wires, arrivals: Arrivals, *, shared: bool) -> None:
        self._wires = wires
        self._arrivals = arrivals
        self._shared = shared

    async def check_right(self, visit: Visit, stream: str) -> None:
        """Raises Denied: the user may not read `stream` now."""
        verdict: bool | None
        corrupt = False
        if not self._wires.shared.judged.asks(visit.principal, stream):
            verdict = may_read(visit.principal, stream)
        else:
            verdicts, late = await self._wires.verdicts.in_time(visit.principal, [stream])
            corrupt = any(task.done() for task in late.values())
            for task in late.values():
                task.cancel()
            verdict = verdicts[stream]
        if not verdict:
            raise Denied(pending=verdict is None, corrupt=corrupt)

    async def page(self, visit: Visit) -> Answer:
        """Answer `GET /streams/<stream>`."""
        query, stream = visit.request.query, visit.route.name
        after = stream_pages.place_asked(query, visit.request.joined("last-event-id"), "start")
        limit, wait_s = stream_pages.limit_of(query), stream_pages.wait_s_of(query)
        await self.check_right(visit, stream)
        feed, shared = self._wires.feed, self._wires.shared
        place = after.resolved(feed.head(stream), shared.log.log_id)
        if place.ahead and feed.catch_up is not None and isinstance(after.at, int):
            if not await feed.catch_up([(stream, after.at)]):
                return problem(ErrorCode.UNAVAILABLE, zh.NODE_BEHIND)
            place = after.resolved(feed.head(stream), shared.log.log_id)
        nothing_new = not place.needs_snapshot and feed.head(stream).seq <= place.after
        if wait_s and nothing_new and not await self._waited(visit, stream, place.after, wait_s):
            return problem(ErrorCode.RATE_LIMITED, http_zh.TOO_MANY_CONNECTIONS)
        turns = self._wires.supply.turns
        try:
            async with turns.turn(visit.principal.name):
                return await self._answer(visit, stream, after, place, limit)
        except Crowded:
            return problem(ErrorCode.BUSY, http_zh.QUERIES_WAIT)

    async def _waited(self, visit: Visit, stream: str, after: int, wait_s: float) -> bool:
        """Wait for an event. It counts as a connection. False: there are too many."""
        door = self._wires.door
        entry = door.enter(visit.address)
        if entry is Entry.REFUSED:
            return False
        try:
            if entry is Entry.OVER:
                return False
            await self._arrivals.wait(stream, after, wait_s)
        finally:
            door.leave(visit.address)
        self._check_token(visit)
        await self.check_right(visit, stream)
        return True

    def _check_token(self, visit: Visit) -> None:
        """A token may end while its request waits."""
        if self._wires.verifier.still_good(visit.verified, self._wires.ambient.now_ms()) is not None:
            raise Denied(pending=False)

    async def _answer(self, visit: Visit, stream: str, after: After, place: Place, limit: int) -> Answer:
        wires = self._wires
        wires.meter.resumed(place.outcome)
        held = PAGE_BYTES_MAX
        if place.needs_snapshot:
            held = wires.supply.estimates.of(stream, _STATE)
        if not visit.purse.reserve(held, wires.ambient.monotonic_s()):
            return problem(ErrorCode.BUSY, http_zh.ANSWERS_UNREAD)
        try:
            page = await self._page(visit.principal.name, stream, place, limit)
        except Corrupt:
            return problem(ErrorCode.CORRUPT, http_zh.STREAM_DAMAGED)
        except EventStoreError:
            return problem(ErrorCode.UNAVAILABLE, http_zh.LOG_NOT_READ)
        if page is None:
            return problem(ErrorCode.TOO_LARGE, http_zh.STATE_TOO_LARGE)
        turns, name = wires.supply.turns, visit.principal.name
        if page.snapshot is None:
            body = page.encoded()
            etag = etag_of(body)
        else:
            body = await turns.slice(name, page.encoded)
            etag = await turns.slice(name, partial(etag_of, body))
        visit.purse.correct(held, len(body))
        if page.snapshot is not None:
            wires.supply.estimates.learn(stream, _STATE, len(body))
        headers = page_headers(page, after, limit, etag, shared=self._shared)
        if matches(etag, visit.request.all("if-none-match")):
            return Answer(HTTPStatus.NOT_MODIFIED, headers)
        wires.meter.delivered(len(page.events), len(body))
        return json_answer(body, headers)

    async def _page(self, user: str, stream: str, place: Place, limit: int) -> Page | None:
        """The page of a place, for `user`. None: its state is too large."""
        log_id = self._wires.shared.log.log_id
        if place.needs_snapshot:
            picture = await self._wires.supply.pictures.get(stream, _WHOLE)
            if picture.frame is None:
                return None
            unframe = partial(unframed, picture.frame)
            ((_, snapshot),) = await self._wires.supply.turns.slice(user, unframe)
            more = self._wires.feed.head(stream).seq > picture.seq
            return Page(
                stream=stream, log=log_id, outcome=place.outcome, snapshot=snapshot, following=picture.seq,
                more=more,
            )  # fmt: skip
        return await self.events(stream, place, limit)

    async def events(self, stream: str, place: Place, limit: int, bytes_max: int = PAGE_BYTES_MAX) -> Page:
        """The events behind a place, up to `limit` and a bound in bytes. Raises Corrupt, EventStoreError."""
        feed = self._wires.feed
        events: list[bytes] = []
        skipped: list[tuple[int, int]] = []
        at, size = place.after, 0
        while len(events) < limit and size < bytes_max and feed.head(stream).seq > at:
            run = await self._run(stream, at, limit - len(events), bytes_max - size)
            if run.skipped_to:
                skipped.append((at + 1, run.skipped_to))
            else:
                found = list(whole_events(stream, at + 1, run.events))
                events += found
                size += sum(map(len, found))
            if run.last == at:
                break
            at = run.last
        outcome = Outcome.RESUMED if place.outcome is Outcome.RESUMED else place.outcome
        return Page(
            stream=stream, log=self._wires.shared.log.log_id, outcome=outcome, events=events,
            skipped=skipped, following=at, more=feed.head(stream).seq > at,
        )  # fmt: skip

    async def _run(self, stream: str, at: int, events_max: int, bytes_max: int) -> Run:
        feed = self._wires.feed
        read = partial(feed.fetch, events_max=min(events_max, _RUN_EVENTS_MAX), bytes_max=bytes_max)
        run = feed.peek(stream, at, events_max=min(events_max, _RUN_EVENTS_MAX), bytes_max=bytes_max)
        return await read(stream, at) if run is None else run


type Acked = Callable[[str, str, int, str], asyncio.Future[None]]
"""`Hub.acked`."""


class _Acks(msgspec.Struct):
    cursors: Annotated[dict[StreamName, Seq], msgspec.Meta(max_length=256)]
    client: Annotated[str, msgspec.Meta(min_length=1, max_length=ID_CHARS_MAX)] = ""


_acks = msgspec.json.Decoder(_Acks)


class Seeing:
    """What clients have processed: `POST /acks` says it, `GET /seen` asks (and waits) for it."""

    def __init__(self, wires: Wires, log: Log, acked: Acked, reading: Reading) -> None:
        self._wires = wires
        self._log = log
        self._acked = acked
        self._reading = reading

    async def acks(self, visit: Visit, body: bytes) -> Answer:
        """Answer `POST /acks`: all cursors count, or none."""
        try:
            said = _acks.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            return problem(ErrorCode.INVALID_FIELD, http_zh.FIELDS_WRONG.format(error))
        client = said.client or visit.request.header("huahuo-client") or ""
        if not 1 <= len(client) <= ID_CHARS_MAX:
            return problem(ErrorCode.INVALID_FIELD, http_zh.TEXT_NEEDED.format("client", ID_CHARS_MAX))
        for stream in said.cursors:
            try:
                await self._reading.check_right(visit, stream)
            except Denied as denied:
                return denied.answer()
        feed = self._wires.feed
        if feed.catch_up is not None and not await feed.catch_up(tuple(said.cursors.items())):
            return problem(ErrorCode.UNAVAILABLE, zh.NODE_BEHIND)
        for stream, seq in said.cursors.items():
            if seq > feed.head(stream).seq:
                return problem(ErrorCode.BAD_ACK, http_zh.NO_SUCH_EVENT.format(stream, seq))
        for stream, seq in said.cursors.items():
            self._wires.hub.note_ack(visit.principal.name, client, stream, seq)
        return NO_CONTENT

    async def seen(self, visit: Visit) -> Answer:
        """Answer `GET /seen?stream=&seq=&client=&wait=`: for administrators, and others about themselves."""
        query = visit.request.query
        stream, client = query.get("stream", ""), query.get("client", "")
        if not stream or not client:
            return problem(ErrorCode.INVALID_FIELD, http_zh.STREAM_AND_CLIENT)
        seq, wait_s = stream_pages.seq_of(query), stream_pages.wait_s_of(query)
        if not visit.principal.is_admin:
            try:
                await self._reading.check_right(visit, stream)
            except Denied as denied:
                return denied.answer()
        try:
            seen = await self._seen(visit, stream, client, seq, wait_s)
        except Corrupt:
            return problem(ErrorCode.CORRUPT, http_zh.ACK_DAMAGED)
        except EventStoreError:
            return problem(ErrorCode.UNAVAILABLE, http_zh.LOG_NOT_READ)
        said = {"type": "seen", "stream": stream, "client": client, "seq": seq, "seen": seen}
        return json_answer(msgspec.json.encode(said), status=HTTPStatus.OK)

    async def _seen(self, visit: Visit, stream: str, client: str, seq: int, wait_s: float) -> bool:
        only = "" if visit.principal.is_admin else visit.principal.name
        acked = self._acked(client, stream, seq, only)
        if acked.done():  # at a deadline of 0 s the wait below would end before it saw that
            return True
        try:
            for ack in await self._log.acks(only or None, client=client, stream=stream):
                if ack.seq >= seq:
                    return True
            async with Deadline(self._wires.ambient, wait_s):
                await asyncio.wait({acked})
                return not acked.cancelled()
        except TimeoutError:
            return acked.done() and not acked.cancelled()
        finally:
            acked.cancel()
