"""A connection of plain HTTP. h11 parses requests; `answer_writer` writes the answers.

Bytes that are not an HTTP request are refused here. An unusual request for a WebSocket is handed on to be
opened by the library (`server.handshakes`).

A connection answers its requests one at a time and stays open between them. Until a token was accepted, it
waits in the lobby like every other socket. When a reader of server-sent events begins, its outlet becomes the
socket's protocol, and nothing of this module is kept for it.
"""

import asyncio
from collections.abc import Awaitable
from http import HTTPStatus
from typing import Final, Protocol

import h11

from huahuo.transport.http import heads
from huahuo.transport.http.admission import Visit
from huahuo.transport.http.answer_writer import BODY_S, AnswerWriter, Service
from huahuo.transport.http.messages import Answer, Headers, Request
from huahuo.transport.http.native_outlet import NativeOutlet
from huahuo.transport.http.outlet import Reader
from huahuo.transport.http.problems import problem
from huahuo.transport.http.time_limit import LINGER_SILENCE_S
from huahuo.transport.protocol.codes import ErrorCode
from huahuo.transport.server.admission import peer_of
from huahuo.transport.words import http_zh

KEEP_ALIVE_S: Final = 60.0
"""A connection without a request is closed after this."""
HALF_CLOSED_S: Final = 10.0
"""A client that sends nothing more gets its answers within this. Most have gone, which TCP does not tell."""
_PIPELINED_BYTES_MAX: Final = 64 << 10
_CHUNKS_MAX: Final = 4_096
_CHUNK_BYTES_MIN: Final = 256
"""A body of more chunks than that needs as many bytes a chunk: each costs as much time as 20 KiB in one."""


class Owner(Service, Protocol):
    """Counts connections, and requests by user (`native.NativeHttp`)."""

    def begins(self, user: str) -> bool:
        """A request of this user was admitted. False: too many of them are not dealt with."""
        ...

    def ended(self, user: str) -> None:
        """One that was counted is dealt with."""
        ...

    def gone(self, connection: "HttpConnection") -> None:
        """A connection was lost, or its socket is another protocol's."""
        ...


class HttpConnection(AnswerWriter):
    """See the module. Implements `ports.InLobby`."""

    is_open = False
    address = ""
    """Not counted at the door: only what waits is (`Reading`, `Api.follow`)."""
    _owner: Owner

    def __init__(self, owner: Owner, transport: asyncio.Transport, deadline_s: float) -> None:
        super().__init__(owner, transport)
        self._head = bytearray()
        """The bytes of a request until its head is read."""
        self._deadline_s = deadline_s
        self._held_bytes = 0
        self._visit: Visit | None = None
        self._asking = ""
        """Whose request is counted."""
        self._body = bytearray()
        self._chunks = 0
        self._now_s = owner.server.wires.ambient.monotonic_s
        self._reader: Reader | None = None
        self._limit.set(max(0.0, deadline_s - asyncio.get_running_loop().time()))

    # What the event loop calls ------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        began_s = self._now_s()
        self._receive(data)
        if self._visit is not None:  # without one, requests are bounded by their number
            self._charge(self._visit, began_s)

    def _receive(self, data: bytes) -> None:
        if self._discards:
            self._limit.set(LINGER_SILENCE_S)
            return
        if not self._trusted:
            self._held_bytes += len(data)
            self._owner.server.holds(self, self._held_bytes)
        if self._request is None:
            self._head += data
        try:
            self._h11.receive_data(data)
        except h11.RemoteProtocolError as error:
            self._answer_bad(error)
        self._go_on()
        busy = self._task is not None or self._writing
        if busy and not self._paused and len(self._h11.trailing_data[0]) > _PIPELINED_BYTES_MAX:
            self._paused = True
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        """The client will send nothing more. Requests that came are still answered, unless one must wait."""
        asked = {} if self._visit is None else self._visit.request.query
        waits = self._reader is not None or "wait" in asked or "live" in asked
        if waits or not (self._writing or self._task is not None):
            return False
        if self._h11.their_state is not h11.ERROR:
            self._h11.receive_data(b"")  # so that the connection ends after the last answer
        self._limit.set_last(HALF_CLOSED_S)
        return True

    def connection_lost(self, _exc: Exception | None) -> None:
        """TCP is gone."""
        self._limit.end()
        if self._task is not None:
            self._task.cancel()
        if self._reader is not None:
            self._reader.lost()
        self._end_visit()
        self._owner.gone(self)

    # Requests -----------------------------------------------------------------------------------------

    def close_if_idle(self) -> None:
        """Close, unless a request is being answered."""
        if self._task is None:
            self.transport.close()

    def _advance(self) -> None:
        while self._task is None and not (self._writing or self._discards or self.transport.is_closing()):
            event = self._h11.next_event()
            match event:
                case h11.Request():
                    self._begin(event)
                case h11.Data():
                    self._body += event.data
                    self._chunks += event.chunk_start
                    self._bound_body()
                case h11.EndOfMessage():
                    self._complete()
                case h11.ConnectionClosed():
                    self.transport.close()
                    return
                case _:
                    return

    def _begin(self, event: h11.Request) -> None:
        self._request = event
        self._chunks = 0
        read, self._head = bytes(self._head), bytearray()
        head = read[: len(read) - len(self._h11.trailing_data[0])]
        if (refused := heads.refusal_of(head)) is not None:
            self._refuse(refused)
            return
        try:
            target = event.target.decode("ascii")
            request = Request.of(
                event.method.decode(), target, event.headers.raw_items(), peer_of(self.transport)
            )
        except ValueError:
            self._respond(problem(ErrorCode.BAD_MESSAGE, http_zh.NO_TARGET, ends=True))
            return
        if request.is_upgrade:
            self._hand_on(read)
            return
        found = self._api.admit(request)
        if isinstance(found, Visit):
            self._admitted(event, found)
        elif isinstance(found, Answer):
            self._start(self._later(found))
        elif found is None and request.method in ("GET", "HEAD") and heads.has_body(event):
            self._respond(problem(ErrorCode.BAD_MESSAGE, http_zh.NO_BODY_HERE, ends=True))
        elif found is None:
            self._start(self._site(request))
        else:
            self._start(self._judged(event, found))

    def _hand_on(self, read: bytes) -> None:
        """Give the socket to the library, with what was read of it."""
        self._discards = True
        self._limit.set(None)
        self._owner.gone(self)
        handshakes = self._owner.server.handshakes
        handshakes.open_slowly(self.transport, read, self._deadline_s, self._speech)

    async def _judged(self, event: h11.Request, pending: Awaitable[Visit | Answer]) -> None:
        """Go on with a request when its token has been judged. What follows it waits."""
        found = await pending
        if isinstance(found, Answer):
            await self._later(found)
            return
        self._task = None
        if self.transport.is_closing():
            found.close()
            return
        self._admitted(event, found)
        if self._task is None:
            self._resume_reading()
        self._go_on()

    def _admitted(self, event: h11.Request, visit: Visit) -> None:
        """Read the body of an admitted request. Somebody without a token stays in the lobby meanwhile."""
        if not visit.stranger:
            if visit.payer and not self._owner.begins(visit.payer):
                visit.close()
                self._respond(problem(ErrorCode.RATE_LIMITED, http_zh.TOO_MANY_OF_USER).adding(visit.cors))
                return
            self._asking = visit.payer
            self._trust()
        self._visit = visit
        self._limit.set(BODY_S if self._trusted else self._owner.open_timeout_s)
        announced = heads.body_bytes(event)
        if announced is None:
            announced = self._api.body_bytes_max(visit)
        refusal = self._api.make_room(visit, announced, len(self._h11.trailing_data[0]))
        if isinstance(refusal, Answer | None):
            self._let_in(refusal)
            return
        if not self._paused:
            self._paused = True
            self.transport.pause_reading()
        self._start(self._let_in_later(refusal))

    async def _let_in_later(self, pending: Awaitable[Answer | None]) -> None:
        """Read a body on once there is room for it, and for what will be made of it."""
        refusal = await pending
        self._task = None
        if not self.transport.is_closing():
            self._limit.set(BODY_S if self._trusted else self._owner.open_timeout_s)
            self._resume_reading()
            self._let_in(refusal)
            self._go_on()

    def _let_in(self, refusal: Answer | None) -> None:
        if refusal is not None:
            self._respond(refusal)
        elif self._h11.they_are_waiting_for_100_continue:
            go_on = h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
            self.transport.write(self._h11.send(go_on) or b"")

    def _bound_body(self) -> None:
        if self._visit is None:
            return
        if len(self._body) > self._api.body_bytes_max(self._visit):
            self._respond(self._api.too_large(self._visit))
        elif self._chunks > max(_CHUNKS_MAX, len(self._body) // _CHUNK_BYTES_MIN):
            self._respond(self._api.too_many_chunks(self._visit))

    def _complete(self) -> None:
        visit, body = self._visit, bytes(self._body)
        self._body.clear()
        if visit is None:
            return
        if self._api.wants_events(visit):
            self._visit = None
            self._follow(visit)
        else:
            self._start(self._answered(visit, body))

    def _follow(self, visit: Visit) -> None:
        self._limit.set(None)
        self._end_count()
        outlet = NativeOutlet(self.transport, self._respond, self._opened)
        found = self._api.follow(visit, outlet)
        if isinstance(found, Answer):
            self._respond(found)
            return
        outlet.socket = found
        if not outlet.began:
            self._reader = found  # the socket is still this connection's: tell the reader of its loss
            if not outlet.settled:
                self._start(self._waiting())

    async def _waiting(self) -> None:
        """No other request is looked at until the answer begins."""
        await asyncio.get_running_loop().create_future()

    def _opened(self, status: HTTPStatus, headers: Headers) -> bool:
        """Write the head of a stream of events and leave the socket to its outlet. True: in chunks."""
        self.transport.write(self._h11.send(heads.head_of_events(status, headers)) or b"")
        chunked = self._request is not None and self._request.http_version == b"1.1"
        self._limit.set(None)
        self._reader = None
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
        self._owner.gone(self)
        return chunked

    async def _answered(self, visit: Visit, body: bytes) -> None:
        answer = await self._api.answer(visit, body)
        began_s = self._now_s()
        self._finish(answer)
        self._charge(visit, began_s)

    def _charge(self, visit: Visit, began_s: float) -> None:
        """Let the user pay for the loop's time since then, by the clock that pays debts off."""
        if visit.payer:
            self._owner.server.wires.supply.turns.charge_since(visit.payer, began_s)

    async def _later(self, answer: Answer) -> None:
        if answer.hold_s:
            await asyncio.sleep(answer.hold_s)
        self._finish(answer)

    async def _site(self, request: Request) -> None:
        self._finish(await self._api.site(request))

    def _finish(self, answer: Answer) -> None:
        self._task = None
        self._respond(answer)
        self._go_on()

    def _go_on(self) -> None:
        """Look at the next request, if it came already."""
        try:
            self._advance()
        except h11.RemoteProtocolError as error:
            self._answer_bad(error)

    def _next(self) -> None:
        """Ready for another request on this connection."""
        self._h11.start_next_cycle()
        self._request = None
        self._head += self._h11.trailing_data[0]
        self._deadline_s = asyncio.get_running_loop().time() + KEEP_ALIVE_S
        self._held_bytes = len(self._h11.trailing_data[0])
        if self._trusted:
            self._trusted = False
            self._owner.server.connected(self)
        self._owner.server.holds(self, self._held_bytes)
        self._limit.set(KEEP_ALIVE_S)
        self._resume_reading()

    def _trust(self) -> None:
        if not self._trusted:
            self._trusted = True
            self._owner.server.authenticated(self)

    def _end_visit(self) -> None:
        if self._visit is not None:
            self._visit.close()
            self._visit = None
        self._end_count()

    def _end_count(self) -> None:
        if self._asking:
            self._owner.ended(self._asking)
            self._asking = ""
