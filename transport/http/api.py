"""The API over HTTP (docs/http.md): answers requests, and opens readers of server-sent events.

A shell (`native`, `asgi`) hands in a request's head (`admit`), reads the body if the request is admitted,
and then asks for the answer. The rest is the same in every shell. Durable Streams and other nodes of the
log are rooms above; the API hands requests on to them.

A request waits until its user owes no more time than is free, then for a turn of the loop (`Waits`).

`GET /who` tells whom the service takes the bearer of a token for. A token of an application's own
`authenticate`, an API key, or an issuer's token with renamed claims does not tell its bearer which user it
names. A client without a WebSocket, and tabs that share one, must know.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from http import HTTPStatus
from typing import Any, Final, Protocol
from urllib.parse import quote

import msgspec
import structlog

from huahuo.actors.plugins.actions import HttpRoute, is_coded
from huahuo.actors.plugins.calls import Principal, RefuseGrowth, error_reply
from huahuo.eventstore.executor import acting_for
from huahuo.eventstore.port import Log
from huahuo.transport.access.door import Entry, RequestLimit
from huahuo.transport.access.rights import ADMIN, CODES, AuthFailure, Verified
from huahuo.transport.commands.gate import Paced
from huahuo.transport.http import stream_pages
from huahuo.transport.http.admission import Admission, Visit
from huahuo.transport.http.calling import Calling, PluginCalls, state_of
from huahuo.transport.http.event_socket import EventSocket, Outlet, Reader, Shared
from huahuo.transport.http.lists import ListPages, follow_of
from huahuo.transport.http.messages import (
    EVENT_STREAM,
    Answer,
    Request,
    cors_headers,
    from_error,
    json_answer,
    problem,
)
from huahuo.transport.http.reading import Acked, Arrivals, Denied, Reading, Seeing
from huahuo.transport.http.routes import PluginRoutes, Target, told
from huahuo.transport.http.sign_in import BODY_BYTES_MAX, TICKET_S, SignIn, login
from huahuo.transport.http.site import Site
from huahuo.transport.http.stream_pages import AskedWrongly
from huahuo.transport.load.fair_queueing import Crowded, Turns
from huahuo.transport.load.intake import ROOM_S
from huahuo.transport.protocol.codes import ErrorCode
from huahuo.transport.protocol.dialects import SERVER_SENT
from huahuo.transport.protocol.frames import ServerSent
from huahuo.transport.server.server import Server
from huahuo.transport.server.wires import Wires
from huahuo.transport.session.outgoing import REFUSED, Speech, shown_user, timestamp
from huahuo.transport.words import http_zh


class DurableStreams(Protocol):
    """Serves what is under `/ds/` (`transport.durable_streams`)."""

    refuse_growth: RefuseGrowth | None

    def without_token(self, request: Request, address: str) -> Verified | None:
        """Who asks, if this request needs no token."""
        ...

    async def answer(self, visit: Visit, body: bytes) -> Answer:
        """Answer a request that does not ask for server-sent events."""
        ...

    def follow(self, visit: Visit, outlet: Outlet, gone: Callable[[], None]) -> Reader:
        """Open a reader of server-sent events; `gone` is called once, at its end."""
        ...


class NodesDoor(Protocol):
    """Answers other nodes of the log, under `/nodes/` (`huahuo.cluster.node_requests`)."""

    body_bytes_max: int

    def admit(self, request: Request, name: str, address: str) -> Verified | Answer:
        """Which node asks, by the request's head; or the refusal."""
        ...

    async def answer(self, visit: Visit, body: bytes) -> Answer:
        """Answer a request that was admitted."""
        ...


class Waits:
    """How a request waits: until its user owes no more time than is free, then for a turn of the loop."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._waiting: set[asyncio.Future[None]] = set()
        self._closed = False

    def close(self) -> None:
        """End all waits, now. Whatever would wait from now on is refused."""
        self._closed = True
        for waiting in tuple(self._waiting):
            waiting.cancel()

    async def paid(self, user: str) -> bool:
        """Wait until `user` owes no more time than is free. False: the service stops. Raises Crowded."""
        turns = self._turns
        if turns.is_next(user):
            return True
        return await self._unless_closed(turns.paid_soon(user))

    async def has_turn(self, user: str) -> bool:
        """Wait in the line of `user` for a turn of the loop. False: the service stops."""
        rounds = self._turns.rounds
        return rounds.may_begin(user) or await self._unless_closed(rounds.turn(user))

    async def _unless_closed(self, waits: Coroutine[Any, Any, None]) -> bool:
        """Wait, at most until the service stops. False: it stops."""
        if self._closed:
            waits.close()
            return False
        waiting = asyncio.ensure_future(waits)
        self._waiting.add(waiting)
        try:
            await asyncio.wait((waiting,))
        finally:
            self._waiting.discard(waiting)
            waiting.cancel()
        if waiting.cancelled():
            return False
        waiting.result()
        return True


def who(visit: Visit, wires: Wires) -> Answer:
    """The user as `authentication_result` has it, with the members of the same names."""
    if not _may_connect(visit.principal):
        return problem(ErrorCode.FORBIDDEN, http_zh.KEY_CANNOT_CONNECT)
    said = {
        "type": "who",
        "user": shown_user(visit.verified),
        "expires_at": timestamp(visit.verified.expires_at_ms),
        "log": wires.shared.log.log_id,
        "heartbeat_s": wires.shared.settings.heartbeat_s,
    }
    return json_answer(msgspec.json.encode(said))


def _may_connect(principal: Principal) -> bool:
    """Whether a connection is of any use: its user may read, write, or call at least one action."""
    return principal.rights is None or not {CODES, ADMIN}.issuperset(principal.rights)


_WITH_BODY: Final = ("POST", "PUT")

_log = structlog.get_logger(__name__)


class Api:
    """See the module. `limit` bounds the requests of an address without a token.

    `page_at_login`: `GET /login` is a page of the site. `requests_per_user`: what one user may ask a
    second; 0 means no limit. `routes`: those of plug-ins. `shared_caches`: see `pages.page_headers`.
    """

    def __init__(
        self,
        server: Server,
        site: Site,
        *,
        log: Log,
        acked: Acked,
        limit: RequestLimit,
        requests_per_user: int = 0,
        shared_caches: bool = False,
        sign_in: SignIn | None = None,
        routes: Iterable[HttpRoute] = (),
        page_at_login: bool = False,
    ) -> None:
        self._sign_in = sign_in
        wires = server.wires
        self._server = server
        self._site = site
        self._wires = wires
        self._texts = Shared(ServerSent(wires.shared.log.log_id))
        self.arrivals = Arrivals(wires.feed, wires.ambient)
        self.users = RequestLimit(requests_per_user)
        plugins = PluginRoutes(routes)
        self._admission = Admission(server, limit, self.users, wires.shared.settings.origins, plugins)
        self._admission.page_at_login = page_at_login
        self._reading = Reading(wires, self.arrivals, shared=shared_caches)
        self._lists = ListPages(wires)
        self._calling = Calling(wires)
        self._plugin_calls = PluginCalls(wires, self._calling)
        self._seeing = Seeing(wires, log, acked, self._reading)
        self._durable: DurableStreams | None = None
        self._nodes: NodesDoor | None = None
        self._waits = Waits(wires.supply.turns)
        self.readers = 0
        """Readers of server-sent events now."""

    @property
    def tickets(self) -> int:
        """How many tickets wait to be used."""
        return len(self._admission.tickets)

    def serve_durable_streams(self, streams: DurableStreams) -> None:
        """Serve them under `/ds/` from now on."""
        self._durable = streams
        self._admission.durable = streams.without_token

    def serve_nodes(self, door: NodesDoor) -> None:
        """Answer other nodes from now on."""
        self._nodes = door
        self._admission.node = door.admit

    def refuse_growth(self, ask: RefuseGrowth | None) -> None:
        """From now on, ask `ask` before a request under `/ds/` stores something."""
        if self._durable is not None:
            self._durable.refuse_growth = ask

    async def admit(self, request: Request) -> Visit | Answer | None:
        """See `Admission.admit`."""
        return await self._admission.admit(request)

    def body_bytes_max(self, visit: Visit) -> int:
        """The largest body of this request; it has no business with any in a GET."""
        if visit.route.plugin is not None:
            return visit.route.plugin.body_bytes_max
        if visit.route.target is Target.NODE and self._nodes is not None:
            return self._nodes.body_bytes_max
        if visit.request.method not in _WITH_BODY:
            return 0
        most = self._wires.shared.settings.message_bytes_max
        return BODY_BYTES_MAX if visit.route.target is Target.LOGIN else most

    async def make_room(self, visit: Visit, size: int, held: int) -> Answer | None:
        """Make room for a body; the refusal if it is coded, too large, or finds no room in time.

        `held`: what was read of it. The bodies of nodes have a bound of their own.

        A plug-in gets its bodies as they came, with their headers.
        """
        if size > self.body_bytes_max(visit):
            return self.too_large(visit)
        if size and visit.route.plugin is None and is_coded(visit.request.header("content-encoding")):
            status, plain = HTTPStatus.UNSUPPORTED_MEDIA_TYPE, (("Accept-Encoding", "identity"),)
            coded = problem(
                ErrorCode.BAD_MESSAGE, http_zh.BODY_CODED, status=status, headers=plain, ends=True
            )
            return told(visit.route, coded, visit.speech).adding(visit.cors)
        if not (size and visit.payer) or visit.load.take(size) or await visit.load.waited(held, ROOM_S):
            return None
        full = problem(ErrorCode.BUSY, http_zh.NO_ROOM, ends=True)
        return told(visit.route, full, visit.speech).adding(visit.cors)

    def too_large(self, visit: Visit) -> Answer:
        """The refusal of a body that is larger than `body_bytes_max`."""
        return self._refused_body(visit, http_zh.BODY_TOO_LARGE.format(self.body_bytes_max(visit)))

    def too_many_chunks(self, visit: Visit) -> Answer:
        """The refusal of a body that comes in too many small pieces."""
        return self._refused_body(visit, http_zh.CHUNKS_TOO_SMALL)

    def _refused_body(self, visit: Visit, why: str) -> Answer:
        refusal = problem(ErrorCode.TOO_LARGE, why, ends=True)
        return told(visit.route, refusal, visit.speech).adding(visit.cors)

    def wants_events(self, visit: Visit) -> bool:
        """Whether the answer is a stream of server-sent events: call `follow`, else `answer`."""
        request = visit.request
        if visit.route.target is Target.DURABLE:
            return request.method == "GET" and request.query.get("live") == "sse"
        follows = visit.route.target in (Target.STREAM, Target.LIST)
        return follows and request.method == "GET" and request.accepts(EVENT_STREAM)

    async def answer(self, visit: Visit, body: bytes) -> Answer:
        """Answer a request. Whatever happens, there is one. Close its purse when it was sent."""
        try:
            answer = await self._paced(visit, body)
        except AskedWrongly as error:
            answer = problem(ErrorCode.INVALID_FIELD, str(error))
        except Denied as denied:
            answer = denied.answer()
        except Exception as error:  # noqa: BLE001  whatever it is, the client gets an answer
            answer = self._failed(visit, error)
        return told(visit.route, answer, visit.speech).adding(visit.cors)

    def _failed(self, visit: Visit, error: Exception) -> Answer:
        """The answer for an exception. Where it is a fault, a number to ask the operator about."""
        refusal = state_of(error)
        if refusal is not None:
            return from_error(msgspec.json.decode(visit.speech.reply(error_reply(refusal), None)))
        correlation_id = self._wires.ambient.token(8)
        path = visit.request.path
        _log.error("request_failed", path=path, correlation_id=correlation_id, exc_info=error)
        return problem(ErrorCode.INTERNAL, correlation_id)

    async def _paced(self, visit: Visit, body: bytes) -> Answer:
        """The answer, at the cost of the user that asks, once this user owes no more time than is free."""
        wires, name = self._wires, visit.payer
        if not name:
            return await self._answered(visit, body)
        try:
            if not (await self._waits.paid(name) and await self._waits.has_turn(name)):
                return problem(ErrorCode.UNAVAILABLE, http_zh.SERVICE_STOPS, ends=True)
        except Crowded:
            return problem(ErrorCode.BUSY, http_zh.QUERIES_WAIT)
        if (ended := self._ended(visit)) is not None:
            return problem(ended.code, REFUSED[ended.code], ends=True)
        with acting_for(name):
            return await Paced(
                self._answered(visit, body), name, wires.supply.turns, wires.ambient.monotonic_s
            )

    def _ended(self, visit: Visit) -> AuthFailure | None:
        """Why the token of a request is good no longer: it may have waited for a while."""
        if not visit.token or visit.verified.expires_at_ms <= 0:  # the route knows its client by itself
            return None
        return self._wires.verifier.still_good(visit.verified, self._wires.ambient.now_ms())

    async def _answered(self, visit: Visit, body: bytes) -> Answer:
        match visit.route.target:
            case Target.STREAM:
                return await self._reading.page(visit)
            case Target.LIST:
                return await self._lists.page(visit)
            case Target.SEEN:
                return await self._seeing.seen(visit)
            case Target.PUBLISH:
                return await self._calling.publish(visit, body)
            case Target.COMMAND:
                return await self._calling.command(visit, body)
            case Target.ACKS:
                return await self._seeing.acks(visit, body)
            case Target.DURABLE:
                assert self._durable is not None, "it was admitted"
                return await self._durable.answer(visit, body)
            case Target.PLUGIN:
                return await self._plugin_calls.answer(visit, body)
            case Target.NODE:
                assert self._nodes is not None, "it was admitted"
                return await self._nodes.answer(visit, body)
            case Target.LOGIN:
                if self._sign_in is None:
                    return problem(ErrorCode.NOT_FOUND, http_zh.NO_PASSWORDS)
                cookies = visit.request.header("cookie") or ""
                return await login(self._sign_in, body, visit.address, cookies)
            case Target.WHO:
                return who(visit, self._wires)
            case Target.TICKET:
                ticket = self._admission.tickets.make(visit.token, self._wires.ambient.monotonic_s())
                said = {"ticket": ticket, "expires_in_s": TICKET_S}
                return json_answer(msgspec.json.encode(said), status=HTTPStatus.CREATED)

    def follow(self, visit: Visit, outlet: Outlet) -> Reader | Answer:
        """Open a reader; tell the socket when it has gone. An answer: it is refused at once."""
        request, stream = visit.request, visit.route.name
        visit.close()  # its connection has parts of its own
        durable = visit.route.target is Target.DURABLE
        log = self._wires.shared.log
        begin: dict[str, Any] = {}
        try:
            if visit.route.target is Target.LIST:
                begin = follow_of(stream, request.query, request.joined("last-event-id"))
            elif not durable:  # it has another form there, which its room reads
                after = stream_pages.place_asked(request.query, request.joined("last-event-id"), "head")
                begin = after.subscription(stream, log.head(stream), log.log_id)
        except AskedWrongly as error:
            return problem(ErrorCode.INVALID_FIELD, str(error)).adding(visit.cors)
        door = self._wires.door
        entry = door.enter(visit.address)
        if entry is not Entry.ADMITTED:
            if entry is Entry.OVER:
                door.leave(visit.address)
            return problem(ErrorCode.RATE_LIMITED, http_zh.TOO_MANY_CONNECTIONS).adding(visit.cors)
        if durable:
            assert self._durable is not None, "it was admitted"
            self.readers += 1
            return self._durable.follow(visit, outlet, lambda: self._left(visit.address))
        socket = EventSocket(outlet, self._texts, visit.address, visit.cors, self._gone)
        self._server.follow(socket, SERVER_SENT)
        self.readers += 1
        sign_in = {"action": "authenticate", "token": visit.token, "language": visit.speech.language}
        socket.ask([msgspec.json.encode(said) for said in (sign_in, begin)])
        return socket

    async def site(self, request: Request) -> Answer:
        """Answer a request that is not the API's."""
        address = self._server.admission.address_of(request.peer, request.all("x-forwarded-for"))
        prefixes = request.all("x-forwarded-prefix")
        root = quote(request.root) or self._server.admission.root_of(request.peer, prefixes)
        answer = await self._site.respond(request, address, root)
        if answer.status < HTTPStatus.BAD_REQUEST:
            return answer
        # A page of another origin must be able to read why.
        return answer.adding(cors_headers(request, self._wires.shared.settings.origins) or ())

    def speech(self, preferred: Iterable[str]) -> Speech:
        """See `Admission.speech`. A shell says an answer with it as it sends it (`messages.worded`)."""
        return self._admission.speech(preferred)

    def close(self) -> None:
        """Answer all that wait, now. Whatever would wait from now on is refused."""
        self._waits.close()
        self.arrivals.close()
        self._plugin_calls.close()

    def _left(self, address: str) -> None:
        self.readers -= 1
        self._wires.door.leave(address)

    def _gone(self, socket: EventSocket) -> None:
        self.readers -= 1
        self._server.unfollow(socket)
