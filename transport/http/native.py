"""Plain HTTP on the service's own port: every socket but those that bring a usual request for a WebSocket.

h11 parses requests and frames answers. Bytes that are not an HTTP request are refused here. An unusual
request for a WebSocket is judged by the library (`server.handshakes`).

A connection answers its requests one at a time and stays open between them; each answer is made by one
task. Until a token was accepted, it waits in the lobby like every other socket. When a reader of
server-sent events begins, its outlet becomes the socket's protocol, and nothing of this module is kept for
it. Before a connection ends, the part of a refused request that has not come is read and dropped. One
timer of the loop (`TimeLimit`) bounds the wait for what comes next.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Awaitable, Callable
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
from huahuo.transport.session.outgoing import Speech
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
    """A connection of plain HTTP. h11 parses requests; `answer_writer` writes the answers.

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
        self._limit = TimeLimit(transport.abort)
        """In which a request, its body, or the reading of an answer must come."""
        self._trusted = False
        """Whether a token was accepted."""
        self._paused = False
        self._writing = False
        self._sending = False
        self._ends = False
        self._discards = False
        transport.set_write_buffer_limits(0)
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

    def pause_writing(self) -> None:
        """Part of an answer waits to be sent."""
        self._writing = True

    def resume_writing(self) -> None:
        """All of it was sent."""
        self._writing = False
        # Later: if the transport is closed in this call, asyncio tells twice that the connection is lost.
        asyncio.get_running_loop().call_soon(self._resumed)

    def _resumed(self) -> None:
        if self.transport.is_closing():
            return
        if self._sending:
            self._written()
        elif self._task is None:
            self._resume_reading()
        self._go_on()

    def _respond(self, answer: Answer) -> None:
        if self.transport.is_closing():
            return
        if self._task is not None:
            self._task.cancel()
            self._task = None
        if (
            self._request is not None
            and self._h11.their_state is h11.SEND_BODY
            and not messages.has_body(self._request)
        ):
            self._h11.next_event()  # the end of the request, so that nothing is waited for behind the answer
        answer = worded(answer, self._speech)
        ends = answer.ends or not self._owner.server.is_serving() or self._h11.their_state is h11.SEND_BODY
        said = [self._h11.send(messages.head_of(answer, ends=ends)) or b""]
        if answer.body and not messages.without_body(answer, self._request):
            said.append(self._h11.send(h11.Data(data=answer.body)) or b"")
        said.append(self._h11.send(h11.EndOfMessage()) or b"")
        self._ends, self._sending = ends, True
        if len(answer.body) > _COPIED_BYTES_MAX:
            for part in said:  # asyncio's `writelines` never gets rid of an empty part
                self.transport.write(part)
        else:
            self.transport.write(b"".join(said))
        if self._writing:
            # To read the answer in; no other request is looked at before.
            self._limit.set(BODY_S if self._trusted else self._owner.open_timeout_s)
        else:
            self._written()

    def _written(self) -> None:
        """The answer has left for the client."""
        self._sending = False
        self._end_visit()
        if self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE and not self._ends:
            self._next()
        elif self._h11.their_state in (h11.SEND_BODY, h11.ERROR):
            # Unread bytes would turn the close into a reset, and the answer would be lost.
            self._discards = True
            self._resume_reading()
            self._limit.set_last(LINGER_S)
            self._limit.set(LINGER_SILENCE_S)
        else:
            self.transport.close()

    def _resume_reading(self) -> None:
        if self._paused:
            self._paused = False
            self.transport.resume_reading()

    def _answer_bad(self, error: h11.RemoteProtocolError) -> None:
        """What came is no request. Where no answer is possible any more, only close."""
        if self._h11.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._refuse(HTTPStatus(error.error_status_hint))
        elif not self._sending:
            self.transport.close()

    def _refuse(self, status: HTTPStatus) -> None:
        """Refuse a request that cannot be read."""
        self._respond(problem(code_of(status), http_zh.NO_REQUEST, status=status, ends=True))

    @property
    def _speech(self) -> Speech:
        """Says texts in the language that the request prefers, if one was read."""
        return self._api.speech(messages.languages(self._request))

    def _start(self, work: "asyncio._CoroutineLike[None]") -> None:
        self._limit.set(None)
        self._task = asyncio.ensure_future(work)
        self._task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and task.exception() is not None:
            _log.error("http_connection_failed", exc_info=task.exception())
            self.transport.abort()

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
        if (refused := messages.refusal_of(head)) is not None:
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
            self._open_socket(event, request)
            return
        found = self._api.admit(request)
        if isinstance(found, Visit):
            self._admitted(event, found)
        elif isinstance(found, Answer):
            self._start(self._later(found))
        elif found is None and request.method in ("GET", "HEAD") and messages.has_body(event):
            self._respond(problem(ErrorCode.BAD_MESSAGE, http_zh.NO_BODY_HERE, ends=True))
        elif found is None:
            self._start(self._site(request))
        else:
            self._start(self._judged(event, found))

    def _open_socket(self, event: h11.Request, request: Request) -> None:
        """Hand the socket to a WebSocket, with what was read behind its request."""
        if messages.has_body(event):
            self._respond(problem(ErrorCode.BAD_MESSAGE, http_zh.NO_BODY_HERE, ends=True))
            return
        if len(event.target) > _LINE_BYTES_MAX:
            self._refuse(HTTPStatus.REQUEST_URI_TOO_LONG)
            return
        lines = [len(name) + len(value) for name, value in request.headers]
        if len(lines) > _LINES_MAX or max(lines) > _LINE_BYTES_MAX:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            return
        handshakes = self._owner.server.handshakes
        version = f"HTTP/{event.http_version.decode()}"
        asked = UpgradeRequest(request.path, UpgradeHeaders(request.headers), request.method, version)
        found = handshakes.judge(asked, request.peer)
        if isinstance(found, Response):
            self._respond(_refusal(found))
            return
        self._discards = True
        self._limit.set(None)
        self._owner.gone(self)
        said, address, entry = found
        handshakes.welcome(self.transport, said, self._h11.trailing_data[0], address, entry)

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
        announced = messages.body_bytes(event)
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
        self.transport.write(self._h11.send(messages.head_of_events(status, headers)) or b"")
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
