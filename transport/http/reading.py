"""Answers with pages of a stream: at once, or when the next event comes (long-poll)."""

from functools import partial
from http import HTTPStatus
from typing import Final

from huahuo.eventstore.errors import Corrupt, EventStoreError
from huahuo.replay.live.feed import Run
from huahuo.transport.access.door import Entry
from huahuo.transport.access.rights import may_read
from huahuo.transport.http import asked
from huahuo.transport.http.admission import Visit
from huahuo.transport.http.arrivals import Arrivals
from huahuo.transport.http.asked import After
from huahuo.transport.http.messages import Answer, json_answer
from huahuo.transport.http.pages import Page, etag_of, matches, page_headers
from huahuo.transport.http.problems import problem
from huahuo.transport.protocol.codes import ErrorCode
from huahuo.transport.protocol.frames import unframed, whole_events
from huahuo.transport.protocol.place import Outcome, Place
from huahuo.transport.server.turns import Crowded
from huahuo.transport.server.wires import Wires
from huahuo.transport.session.session import FrameKind
from huahuo.transport.words import http_zh, zh

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
    """See the module."""

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
        after = asked.place_asked(query, visit.request.joined("last-event-id"), "start")
        limit, wait_s = asked.limit_of(query), asked.wait_s_of(query)
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
