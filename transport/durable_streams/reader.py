"""One reader of server-sent events: pages of a stream, each followed by where it ends.

It is ended about every minute, so that caches between can give one answer to many; the client comes back.
"""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

import structlog

from huahuo.eventstore.core.fair_executor import acting_for
from huahuo.eventstore.deadline import Deadline
from huahuo.transport.commands.paced import Paced
from huahuo.transport.durable_streams import asking, bodies
from huahuo.transport.durable_streams.asking import NoRoom, Wrong, offset_text
from huahuo.transport.durable_streams.deciding import State
from huahuo.transport.durable_streams.part import Part
from huahuo.transport.durable_streams.refusals import SAFE, refusing
from huahuo.transport.durable_streams.serving import UNREAD, Serving
from huahuo.transport.http.admission import Visit
from huahuo.transport.http.messages import EVENT_STREAM, Answer, Headers
from huahuo.transport.http.outlet import Outlet
from huahuo.transport.words import http_zh

LIFE_S: Final = 60.0
LOOK_S: Final = 2.0
"""A reader whose token has ended is told nothing more, and ends within this."""
_END_S: Final = 2.0
_BUFFER_BYTES: Final = 256 << 10
_PART_BYTES_MAX: Final = 64 << 10
"""Of the events of one part. Ends of lines take six times as much in server-sent events."""

_log = structlog.get_logger(__name__)


class DurableStreams(Serving):
    """Everything under `/ds/`. Implements `http.api.DurableStreams`."""

    def follow(self, visit: Visit, outlet: Outlet, gone: Callable[[], None]) -> "DurableReader":
        """See `http.api.DurableStreams`."""
        return DurableReader(self, visit, outlet, gone)


class DurableReader:
    """See the module. Implements `http.outlet.Reader`. `gone` is called once, at the end."""

    def __init__(self, serving: Serving, visit: Visit, outlet: Outlet, gone: Callable[[], None]) -> None:
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
        offset = asking.offset_of(visit.request)
        if offset is None:
            raise Wrong(HTTPStatus.BAD_REQUEST, http_zh.OFFSET_WITH_LIVE)
        path, state = await serving.opened(visit)
        at = state.tail if offset == asking.NOW else int(offset)
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
        encoding = () if bodies.is_text(state.content_type) else (("Stream-SSE-Data-Encoding", "base64"),)
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
        data = b"" if part.empty else bodies.sse_data(part.state.content_type, part.body)
        self._outlet.write(data + bodies.sse_control(**said))
        self._note_unsent()

    def _note_unsent(self) -> None:
        self._purse.buffer(self._outlet.unsent_bytes, self._serving.wires.ambient.monotonic_s())

    async def _read(self) -> None:
        """Wait until the outlet has room. Raises TimeoutError: the reader does not read."""
        async with Deadline(self._serving.wires.ambient, LIFE_S):
            while self._outlet.paused:
                self._room.clear()
                await self._room.wait()
