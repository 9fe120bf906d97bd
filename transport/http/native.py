"""Plain HTTP on the service's own port: every socket but those that bring a usual request for a WebSocket.

h11 parses requests and frames answers. Bytes that are not an HTTP request are refused here. An unusual
request for a WebSocket is judged by the library (`server.handshakes`).

A connection answers its requests one at a time and stays open between them; a task lives from the first
byte of a request to the end of its answer. Until a token was accepted, it waits in the lobby like every
other socket. When a reader of server-sent events begins, its outlet becomes the socket's protocol, and
nothing of this module is kept for it. Before a connection ends, the part of a refused request that has not
come is read and dropped. One timer of the loop (`TimeLimit`) bounds the wait for what comes next.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Final

import h11
import structlog
from websockets.datastructures import Headers as UpgradeHeaders
from websockets.http11 import Request as UpgradeRequest
from websockets.http11 import Response

from huahuo.transport.http import messages
from huahuo.transport.http.admission import Visit
from huahuo.transport.http.api import Api
from huahuo.transport.http.event_socket import NativeOutlet, Reader
from huahuo.transport.http.messages import Answer, Headers, Request, problem, worded
from huahuo.transport.protocol.codes import ErrorCode
from huahuo.transport.protocol.problem import code_of
from huahuo.transport.server.handshakes import peer_of
from huahuo.transport.server.server import Server
from huahuo.transport.words import http_zh

LINGER_SILENCE_S: Final = 1.0
"""A client that still sends a body which was refused is read until it pauses for this long."""
LINGER_S: Final = 10.0
"""At most this long. Closed with bytes unread, TCP would take the answer from such a client."""


class TimeLimit:
    """Calls `late` when the time is over, unless it was set anew."""

    def __init__(self, late: Callable[[], None]) -> None:
        self._late = late
        self._timer: asyncio.TimerHandle | None = None
        self._until_s = math.inf

    def set(self, after_s: float | None) -> None:
        """From now on it is this long. None: no limit but the last one."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if after_s is None and self._until_s == math.inf:
            return
        loop = asyncio.get_running_loop()
        ends_s = self._until_s if after_s is None else min(loop.time() + after_s, self._until_s)
        self._timer = loop.call_at(ends_s, self._over)

    def set_last(self, after_s: float) -> None:
        """This one holds whatever is set later."""
        self._until_s = asyncio.get_running_loop().time() + after_s
        self.set(after_s)

    def end(self) -> None:
        """There is no limit any more."""
        self._until_s = math.inf
        self.set(None)

    def _over(self) -> None:
        self._timer = None
        self._late()


BODY_S: Final = 60.0
"""A body must have come within this."""
_COPIED_BYTES_MAX: Final = 64 << 10
"""A longer body is not copied to be written in one piece with its head: a state of some MiB takes 2 ms."""

_log = structlog.get_logger(__name__)


KEEP_ALIVE_S: Final = 60.0
"""A connection without a request is closed after this."""
HALF_CLOSED_S: Final = 10.0
"""A client that sends nothing more gets its answers within this. Most have gone, which TCP does not tell."""
_PIPELINED_BYTES_MAX: Final = 64 << 10
_LINE_BYTES_MAX: Final = 8 << 10
_LINES_MAX: Final = 128
"""Of a request for a WebSocket. Usual ones have 20 lines of some 100 bytes."""
_CHUNKS_MAX: Final = 4_096
_CHUNK_BYTES_MIN: Final = 256
"""A body of more chunks than that needs as many bytes a chunk: each costs as much time as 20 KiB in one."""


_PREFIX: Final = "Failed to open a WebSocket connection: "
"""Refusals of the library begin with it."""


def _refusal(refusal: Response) -> Answer:
    """The answer where the library refuses a handshake, or `handshakes` with a text of the catalogue."""
    status = HTTPStatus(refusal.status_code)
    detail = refusal.body.decode().removeprefix(_PREFIX).partition("\n")[0].removesuffix(".")
    if detail.isascii():
        detail = http_zh.NO_HANDSHAKE.format(detail)
    kept = tuple(("Upgrade", value) for value in refusal.headers.get_all("Upgrade"))
    return problem(code_of(status), detail, status=status, headers=kept, ends=True)


class HttpConnection(asyncio.Protocol):
    """A connection of plain HTTP: `_serve` reads requests with h11 and answers one after the other.

    Implements `ports.InLobby`.
    """

    is_open = False
    address = ""
    """Not counted at the door: only what waits is (`Reading`, `Api.follow`)."""

    def __init__(self, owner: "NativeHttp", transport: asyncio.Transport, deadline_s: float) -> None:
        self.transport = transport
        self._owner = owner
        self._api = owner.api
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=messages.HEAD_BYTES_MAX)
        self._request: h11.Request | None = None
        self._task: asyncio.Task[None] | None = None
        """Serves the requests that came."""
        self._awaited: asyncio.Future[None] | None = None
        """Done when more of a body has come."""
        self._drained: asyncio.Future[None] | None = None
        """Done when all that was written has left. None: it has."""
        self._limit = TimeLimit(transport.abort)
        """In which a request, its body, or the reading of an answer must come."""
        self._trusted = False
        """Whether a token was accepted."""
        self._paused = False
        self._discards = False
        transport.set_write_buffer_limits(0)
        self._head = bytearray()
        """The bytes of a request until its head is read."""
        self._held_bytes = 0
        self._visit: Visit | None = None
        self._asking = ""
        """Whose request is counted."""
        self._now_s = owner.server.wires.ambient.monotonic_s
        self._reader: Reader | None = None
        self._limit.set(max(0.0, deadline_s - asyncio.get_running_loop().time()))

    # What the event loop calls ------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        if self._discards:
            self._limit.set(LINGER_SILENCE_S)
            return
        if not self._trusted:
            self._held_bytes += len(data)
            self._owner.server.holds(self, self._held_bytes)
        if self._request is None:
            self._head += data
        self._h11.receive_data(data)
        if not self._busy:
            # At once, in this call: most requests are answered without a wait.
            loop = asyncio.get_running_loop()
            self._task = asyncio.Task(self._serve(), loop=loop, eager_start=True)
            self._task.add_done_callback(self._ended)
        elif self._awaited is not None:
            _settle(self._awaited, None)
        elif len(self._h11.trailing_data[0]) > _PIPELINED_BYTES_MAX:
            self._pause_reading()

    def eof_received(self) -> bool:
        """The client will send nothing more. Requests that came are still answered, unless one must wait."""
        asked = {} if self._visit is None else self._visit.request.query
        waits = self._reader is not None or "wait" in asked or "live" in asked
        if waits or self._awaited is not None or not self._busy:
            return False
        if self._h11.their_state is not h11.ERROR:
            self._h11.receive_data(b"")  # so that the connection ends after the last answer
        self._limit.set_last(HALF_CLOSED_S)
        return True

    def pause_writing(self) -> None:
        """Part of an answer waits to be sent."""
        self._drained = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        """All of it was sent."""
        drained, self._drained = self._drained, None
        if drained is not None:
            _settle(drained, None)

    def connection_lost(self, _exc: Exception | None) -> None:
        """TCP is gone."""
        self._limit.end()
        if self._task is not None:
            self._task.cancel()
        if self._reader is not None:
            self._reader.lost()
        self._end_visit()
        self._owner.gone(self)

    def close_if_idle(self) -> None:
        """Close, unless a request is being answered."""
        if not self._busy or self._awaited is not None:
            self.transport.close()

    # Requests -----------------------------------------------------------------------------------------

    @property
    def _busy(self) -> bool:
        return self._task is not None and not self._task.done()

    async def _serve(self) -> None:
        """Answer the requests that came, until more must come or the connection is no longer ours."""
        try:
            while not self.transport.is_closing():
                began_s = self._now_s()
                event = self._h11.next_event()
                if isinstance(event, h11.ConnectionClosed):
                    self.transport.close()
                if not isinstance(event, h11.Request):
                    return
                self._request = event
                answer = await self._answer(event, began_s)
                if answer is None or not await self._respond(answer):
                    return
        except h11.RemoteProtocolError as error:
            if self._h11.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                await self._respond(_unreadable(HTTPStatus(error.error_status_hint)))
            else:  # no answer is possible any more
                self.transport.close()

    def _ended(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and task.exception() is not None:
            _log.error("http_connection_failed", exc_info=task.exception())
            self.transport.abort()

    async def _answer(self, event: h11.Request, began_s: float) -> Answer | None:
        """The answer to a request. None: its socket is another's now."""
        read, self._head = bytes(self._head), bytearray()
        head = read[: len(read) - len(self._h11.trailing_data[0])]
        if (refused := messages.refusal_of(head)) is not None:
            return _unreadable(refused)
        try:
            target = event.target.decode("ascii")
            request = Request.of(
                event.method.decode(), target, event.headers.raw_items(), peer_of(self.transport)
            )
        except ValueError:
            return problem(ErrorCode.BAD_MESSAGE, http_zh.NO_TARGET, ends=True)
        if request.is_upgrade:
            return self._open_socket(event, request)
        self._limit.set(None)
        parsing_s = self._now_s() - began_s
        found = await self._api.admit(request)
        if isinstance(found, Visit):  # others may have judged the token: only our own time is charged
            return await self._admitted(event, found, self._now_s() - parsing_s)
        if found is None:
            if request.method in ("GET", "HEAD") and messages.has_body(event):
                return problem(ErrorCode.BAD_MESSAGE, http_zh.NO_BODY_HERE, ends=True)
            return await self._api.site(request)
        if found.hold_s:
            await asyncio.sleep(found.hold_s)
        return found

    def _open_socket(self, event: h11.Request, request: Request) -> Answer | None:
        """Hand the socket to a WebSocket, with what was read behind its request; or the refusal."""
        if messages.has_body(event):
            return problem(ErrorCode.BAD_MESSAGE, http_zh.NO_BODY_HERE, ends=True)
        if len(event.target) > _LINE_BYTES_MAX:
            return _unreadable(HTTPStatus.REQUEST_URI_TOO_LONG)
        lines = [len(name) + len(value) for name, value in request.headers]
        if len(lines) > _LINES_MAX or max(lines) > _LINE_BYTES_MAX:
            return _unreadable(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        handshakes = self._owner.server.handshakes
        version = f"HTTP/{event.http_version.decode()}"
        asked = UpgradeRequest(request.path, UpgradeHeaders(request.headers), request.method, version)
        found = handshakes.judge(asked, request.peer)
        if isinstance(found, Response):
            return _refusal(found)
        self._limit.set(None)
        self._owner.gone(self)
        said, address, entry = found
        handshakes.welcome(self.transport, said, self._h11.trailing_data[0], address, entry)
        return None

    async def _admitted(self, event: h11.Request, visit: Visit, began_s: float) -> Answer | None:
        """The answer to an admitted request. Somebody without a token stays in the lobby meanwhile."""
        if not visit.stranger:
            if visit.payer and not self._owner.begins(visit.payer):
                visit.close()
                return problem(ErrorCode.RATE_LIMITED, http_zh.TOO_MANY_OF_USER).adding(visit.cors)
            self._asking = visit.payer
            self._trust()
        self._visit = visit
        body = await self._body(event, visit, began_s)
        if isinstance(body, Answer):
            return body
        self._limit.set(None)
        if self._api.wants_events(visit):
            return await self._follow(visit)
        return await self._api.answer(visit, body)

    async def _body(self, event: h11.Request, visit: Visit, began_s: float) -> bytes | Answer:
        """The body of a request, or its refusal. The user pays for the time since `began_s`.

        While it waits for room, no more than `_PIPELINED_BYTES_MAX` of it is read.
        """
        bytes_max = self._api.body_bytes_max(visit)
        announced = messages.body_bytes(event)
        size = bytes_max if announced is None else announced
        self._charge(visit, began_s)
        refusal = await self._api.make_room(visit, size, len(self._h11.trailing_data[0]))
        if refusal is not None:
            return refusal
        began_s = self._now_s()
        self._limit.set(self._reading_s)
        if self._h11.they_are_waiting_for_100_continue:
            go_on = h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
            self.transport.write(self._h11.send(go_on) or b"")
        body, chunks = bytearray(), 0
        while not isinstance(part := self._h11.next_event(), h11.EndOfMessage):
            if isinstance(part, h11.Data):
                body += part.data
                chunks += part.chunk_start
                if len(body) > bytes_max:
                    return self._api.too_large(visit)
                if chunks > max(_CHUNKS_MAX, len(body) // _CHUNK_BYTES_MIN):
                    return self._api.too_many_chunks(visit)
                continue
            self._charge(visit, began_s)
            self._resume_reading()
            self._awaited = asyncio.get_running_loop().create_future()
            await self._awaited
            self._awaited = None
            began_s = self._now_s()
        self._charge(visit, began_s)
        return bytes(body)

    async def _follow(self, visit: Visit) -> Answer | None:
        """Open a reader of server-sent events, to which the socket goes; or the refusal."""
        self._visit = None
        self._end_count()
        decided: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()

        def opened(status: HTTPStatus, headers: Headers) -> bool:
            """Write the head of a stream of events. True: it comes in chunks."""
            self.transport.write(self._h11.send(messages.head_of_events(status, headers)) or b"")
            self._reader = None
            self._owner.gone(self)
            _settle(decided, None)
            return self._request is not None and self._request.http_version == b"1.1"

        outlet = NativeOutlet(self.transport, partial(_settle, decided), opened)
        found = self._api.follow(visit, outlet)
        if isinstance(found, Answer):
            return found
        outlet.socket = found
        if not outlet.began:
            self._reader = found  # the socket is still this connection's: tell the reader of its loss
        return await decided

    # Answers ------------------------------------------------------------------------------------------

    async def _respond(self, answer: Answer) -> bool:
        """Send an answer. True: the connection may have another request."""
        if self.transport.is_closing():
            return False
        began_s = self._now_s()
        if (
            self._request is not None
            and self._h11.their_state is h11.SEND_BODY
            and not messages.has_body(self._request)
        ):
            self._h11.next_event()  # the end of the request, so that nothing is waited for behind the answer
        answer = worded(answer, self._api.speech(messages.languages(self._request)))
        ends = answer.ends or not self._owner.server.is_serving() or self._h11.their_state is h11.SEND_BODY
        said = [self._h11.send(messages.head_of(answer, ends=ends)) or b""]
        if answer.body and not messages.without_body(answer, self._request):
            said.append(self._h11.send(h11.Data(data=answer.body)) or b"")
        said.append(self._h11.send(h11.EndOfMessage()) or b"")
        if len(answer.body) > _COPIED_BYTES_MAX:
            for part in said:  # asyncio's `writelines` never gets rid of an empty part
                self.transport.write(part)
        else:
            self.transport.write(b"".join(said))
        if self._visit is not None:
            self._charge(self._visit, began_s)
        if self._drained is not None:  # to read the answer in; no other request is looked at before
            self._limit.set(self._reading_s)
            await self._drained
        self._end_visit()
        if self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE and not ends:
            self._next()
            return True
        if self._h11.their_state in (h11.SEND_BODY, h11.ERROR):
            # Unread bytes would turn the close into a reset, and the answer would be lost.
            self._discards = True
            self._resume_reading()
            self._limit.set_last(LINGER_S)
            self._limit.set(LINGER_SILENCE_S)
        else:
            self.transport.close()
        return False

    def _next(self) -> None:
        """Ready for another request on this connection."""
        self._h11.start_next_cycle()
        self._request = None
        self._head += self._h11.trailing_data[0]
        self._held_bytes = len(self._h11.trailing_data[0])
        if self._trusted:
            self._trusted = False
            self._owner.server.connected(self)
        self._owner.server.holds(self, self._held_bytes)
        self._limit.set(KEEP_ALIVE_S)
        self._resume_reading()

    @property
    def _reading_s(self) -> float:
        """Within which the client must have sent a body, or read an answer."""
        return BODY_S if self._trusted else self._owner.open_timeout_s

    def _pause_reading(self) -> None:
        if not self._paused:
            self._paused = True
            self.transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._paused:
            self._paused = False
            self.transport.resume_reading()

    def _charge(self, visit: Visit, began_s: float) -> None:
        """Let the user pay for the loop's time since then, by the clock that pays debts off."""
        if visit.payer:
            self._owner.server.wires.supply.turns.charge_since(visit.payer, began_s)

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


def _settle[T](future: asyncio.Future[T], result: T) -> None:
    if not future.done():  # as when the connection was lost meanwhile
        future.set_result(result)


def _unreadable(status: HTTPStatus) -> Answer:
    """The refusal of a request that cannot be read."""
    return problem(code_of(status), http_zh.NO_REQUEST, status=status, ends=True)


REQUESTS_PER_USER: Final = 512
"""So many requests of one user are read, answered and sent at a time. Each takes a socket and some KiB."""


class NativeHttp:
    """Implements `ports.PlainHttp`."""

    def __init__(self, server: Server, api: Api) -> None:
        self.server = server
        self.api = api
        self.open_timeout_s = server.wires.shared.settings.open_timeout_s
        """A client without a token must have read its answer within this."""
        self._open: dict[HttpConnection, None] = {}  # no set: a drain closes them in order
        self.running: Counter[str] = Counter()
        """How many requests of each user are not dealt with."""

    def __len__(self) -> int:
        """How many connections are open, without readers of server-sent events."""
        return len(self._open)

    def take_over(self, transport: asyncio.Transport, data: bytes, deadline_s: float) -> None:
        """See `ports.PlainHttp`."""
        connection = HttpConnection(self, transport, deadline_s)
        transport.set_protocol(connection)
        self._open[connection] = None
        self.server.connected(connection)
        connection.data_received(data)

    def begins(self, user: str) -> bool:
        """Count a request of `user`, until `ended`. False: there are too many."""
        if self.running[user] >= REQUESTS_PER_USER:
            return False
        self.running[user] += 1
        return True

    def ended(self, user: str) -> None:
        """A request that was counted is dealt with."""
        self.running[user] -= 1
        if not self.running[user]:
            del self.running[user]

    def drain(self) -> None:
        """Close what is idle; the rest closes after its answer."""
        for connection in tuple(self._open):
            connection.close_if_idle()

    def gone(self, connection: "HttpConnection") -> None:
        """A connection was lost, or handed its socket to an outlet."""
        self._open.pop(connection, None)
        self.server.disconnected(connection)
