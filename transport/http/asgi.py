"""The service as an ASGI application: its WebSockets and its HTTP on the port of another server.

All promises of the service's own port hold. The other server parses, frames and pings, and bounds what it
reads before it hands it on. Lifespan events are not for this module.

A request's path below the mount and its headers come from the scope. Answers, and events to a reader
(`AsgiOutlet`), are messages of ASGI; a client may leave before its answer is there.
"""

import asyncio
import contextlib
from collections.abc import Coroutine, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, cast
from urllib.parse import unquote

from huahuo.transport.access.door import Entry, origin_allowed
from huahuo.transport.commands.gate import Paced
from huahuo.transport.http.admission import Visit
from huahuo.transport.http.api import Api
from huahuo.transport.http.asgi_socket import AsgiWire, Message, OutQueue, Receive, Send, Unwrapped
from huahuo.transport.http.event_socket import Reader
from huahuo.transport.http.messages import (
    HEAD_BYTES_MAX,
    Answer,
    Headers,
    Request,
    origin_form,
    problem,
    worded,
)
from huahuo.transport.http.native import LINGER_S, LINGER_SILENCE_S
from huahuo.transport.protocol.codes import ErrorCode
from huahuo.transport.protocol.problem import code_of
from huahuo.transport.server.server import Server
from huahuo.transport.session.outgoing import Speech
from huahuo.transport.words import http_zh


async def wait_until_gone(receive: Receive) -> None:
    """Return when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def unless_gone(work: Coroutine[Any, Any, Answer], receive: Receive) -> Answer | None:
    """The answer; None if the client leaves before it is there."""
    answering = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(wait_until_gone(receive))
    try:
        await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return answering.result() if answering.done() else None
    finally:
        await end_all(answering, leaving)


async def end_all(*tasks: asyncio.Future[Any]) -> None:
    """Cancel what still runs, and wait for its end. What the peer's leaving raised is no fault."""
    for task in tasks:
        task.cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await task


type Scope = Mapping[str, Any]


def path_of(scope: Scope) -> str:
    """The path below the place where the application is mounted. Some frameworks add or drop a slash."""
    path, _ = origin_form(str(scope["path"]), ())  # some servers hand on a whole URL
    root = str(scope.get("root_path") or "").rstrip("/")
    while root and not (path == root or path.startswith(f"{root}/")):
        # A proxy took the beginning of the root away, which the application was told to be below.
        root = root[root.find("/", 1) :] if "/" in root[1:] else ""
    return "/" + path[len(root) :].strip("/")


def must_be_utf8(scope: Scope) -> None:
    """Raises UnicodeDecodeError: the path is no UTF-8, for which servers put U+FFFD."""
    if "\ufffd" in scope["path"]:
        raw = bytes(scope.get("raw_path") or b"").partition(b"?")[0]  # some servers leave the query in it
        unquote(raw.decode("ascii"), errors="strict")


def root_of(scope: Scope) -> str:
    """Where the application is mounted, without a slash at the end."""
    root = str(scope.get("root_path") or "").rstrip("/")
    return root or _taken_away(scope)


def _taken_away(scope: Scope) -> str:
    """The beginning of the path that a framework took away without naming it (Litestar does)."""
    raw, rest = scope.get("raw_path"), "/" + str(scope["path"]).strip("/")
    if not raw:
        return ""
    # Some servers leave the query in it. With two slashes first, a `Location` would be another host.
    whole, _ = origin_form(unquote(bytes(raw).partition(b"?")[0].decode("latin-1")), ())
    whole = f"/{whole.lstrip('/')}".rstrip("/")
    if rest == "/":
        return whole
    return whole.removesuffix(rest).rstrip("/") if whole.endswith(rest) else ""


def all_of(scope: Scope, name: bytes) -> list[str]:
    """The values of a header."""
    return [value.decode("latin-1") for known, value in scope["headers"] if known.lower() == name]


def peer_of(scope: Scope) -> str:
    """The address of the other side."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def head_bytes(scope: Scope) -> int:
    """The size of a request's headers."""
    return sum(len(name) + len(value) for name, value in scope["headers"])


def one_at_a_time(scope: Scope) -> bool:
    """Whether a connection has one request at a time, and a header that ends it."""
    return str(scope.get("http_version", "1.1")).startswith("1.")


def has_body(scope: Scope) -> bool:
    """Whether the head announces a body."""
    return any(
        name.lower() == b"transfer-encoding" or (name.lower() == b"content-length" and value != b"0")
        for name, value in scope["headers"]
    )


_DENIAL: Final = "websocket.http.response"
BODILESS: Final = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)


async def let_send(receive: Receive) -> None:
    """Throw away the rest of a body while it comes, for a short time."""
    loop = asyncio.get_running_loop()
    ends_s, more = loop.time() + LINGER_S, True
    with contextlib.suppress(TimeoutError):
        while more:
            async with asyncio.timeout_at(min(ends_s, loop.time() + LINGER_SILENCE_S)):
                more = (await receive()).get("more_body", False)


async def say_nobody(send: Send) -> None:
    """Answer a client that has left. Middleware of a host, as Starlette's, takes no answer for a fault."""
    with contextlib.suppress(OSError):  # a server may say so to who sends behind the end
        await send(head_message(HTTPStatus.REQUEST_TIMEOUT, ()))
        await send({"type": "http.response.body", "body": b""})


def head_message(status: HTTPStatus, headers: Headers) -> Message:
    """The message that begins an answer."""
    raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    return {"type": "http.response.start", "status": status.value, "headers": raw}


def whole_headers(answer: Answer) -> Headers:
    """The headers of an answer, with the length of its body if it may have one."""
    if answer.status in BODILESS:
        return answer.headers
    return (*answer.headers, ("Content-Length", str(len(answer.body))))


async def deny(scope: Scope, send: Send, answer: Answer) -> None:
    """Refuse a handshake, with the status where the server can say one."""
    if _DENIAL not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close"})
        return
    start = head_message(answer.status, whole_headers(answer))
    await send({**start, "type": f"{_DENIAL}.start"})
    await send({"type": f"{_DENIAL}.body", "body": answer.body})


class AsgiOutlet:
    """The way out to a reader of server-sent events. Implements `outlet.Outlet`."""

    __slots__ = ("_deadline", "_send", "_sending", "_speech", "_task", "out", "over", "socket")

    def __init__(self, send: Send, task: asyncio.Task[None], speech: Speech) -> None:
        """`task` waits for the reader to leave; it is cancelled when the answer has ended.

        `speech`: says a refusal.
        """
        self.out = OutQueue(self._filled, self._drained, self._begin)
        self.socket: Reader | None = None
        self.over = False
        self._send = send
        self._task = task
        self._speech: Speech | None = speech
        self._sending: asyncio.Task[None] | None = None
        self._deadline: asyncio.TimerHandle | None = None

    @property
    def paused(self) -> bool:
        """See `Outlet`."""
        return self.out.paused

    @property
    def unsent_bytes(self) -> int:
        """See `Outlet`."""
        return self.out.unsent_bytes

    def bound(self, bytes_max: int) -> None:
        """See `Outlet`."""
        self.out.bound(bytes_max)

    def refuse(self, answer: Answer) -> None:
        """See `Outlet`."""
        if self._speech is not None:
            answer = worded(answer, self._speech)
        self.out.put(head_message(answer.status, whole_headers(answer)), 0)
        self.out.end({"type": "http.response.body", "body": answer.body})

    def begin(self, status: HTTPStatus, headers: Headers) -> None:
        """See `Outlet`."""
        self._speech = None
        self.out.put(head_message(status, headers), 0)

    def write(self, text: bytes) -> None:
        """See `Outlet`."""
        self.out.put({"type": "http.response.body", "body": text, "more_body": True}, len(text))

    def write_shared(self, text: bytes, chunk: bytes) -> None:  # noqa: ARG002  see below
        """See `Outlet`. The server makes its chunks by itself."""
        self.write(text)

    def end(self, deadline_s: float) -> None:
        """See `Outlet`."""
        self.out.end({"type": "http.response.body", "body": b""})
        self._deadline = asyncio.get_running_loop().call_later(deadline_s, self.abort)

    def abort(self) -> None:
        """See `Outlet`."""
        if not self.over:
            self.over = True
            self._task.cancel()

    async def gone(self) -> None:
        """Nothing can be sent any more."""
        self.over = True
        if self._deadline is not None:
            self._deadline.cancel()
        if self._sending is not None:
            await end_all(self._sending)

    def _begin(self) -> None:
        """Send what waits, in a task that lasts no longer: an idle reader has one task, the server's.

        It begins at once: a server that has room takes what is sent without a turn of the loop.
        """
        if self._sending is None and not self.over:
            loop = asyncio.get_running_loop()
            sending = asyncio.Task(self._flush(), loop=loop, eager_start=True)
            self._sending = None if sending.done() else sending

    async def _flush(self) -> None:
        try:
            await self.out.flush(self._send)
        except Exception:  # noqa: BLE001  the reader has left
            self.abort()
        else:
            if self.out.ended:
                self.abort()
        finally:
            self._sending = None

    def _filled(self) -> None:
        if self.socket is not None:
            self.socket.filled()

    def _drained(self) -> None:
        if self.socket is not None:
            self.socket.drained()


class AsgiTransport:
    """See the module. Call `http` or `websocket` with what the server gave."""

    def __init__(self, server: Server, api: Api) -> None:
        self._server = server
        self._api = api
        self._settings = server.wires.shared.settings
        self._unwrapped = Unwrapped()

    # HTTP -----------------------------------------------------------------------------------------------

    async def http(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        try:
            must_be_utf8(scope)
            query = bytes(scope.get("query_string") or b"").decode("ascii")
            _, headers = origin_form(str(scope["path"]), scope["headers"])
            method, root = str(scope["method"]), root_of(scope)
            request = Request.at(method, path_of(scope), query, headers, peer_of(scope), root)
        except ValueError:
            await self._say(
                scope, send, problem(ErrorCode.BAD_MESSAGE, http_zh.NO_TARGET, ends=True), receive
            )
            return
        if head_bytes(scope) > HEAD_BYTES_MAX:
            status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            refusal = problem(code_of(status), http_zh.NO_REQUEST, status=status, ends=True)
            await self._say(scope, send, refusal, receive)
            return
        if scope.get("http_version") == "1.1" and len(request.all("host")) != 1:
            await self._say(scope, send, problem(ErrorCode.BAD_MESSAGE, http_zh.NO_HOST, ends=True), receive)
            return
        found = await self._api.admit(request)
        if not isinstance(found, Visit):
            answer = await self._api.site(request) if found is None else found
            if answer.hold_s:
                await asyncio.sleep(answer.hold_s)
            await self._say(scope, send, answer, receive)
            return
        close = found.close
        try:
            body, more = await self._body(found, scope, receive)
            if isinstance(body, Answer):
                await self._say(scope, send, body, receive if more else None)
            elif body is not None and self._api.wants_events(found):
                following = self._follow(found, scope, receive, send)
                del found, body, request  # some KiB, unused while the reader waits
                await following
            else:
                said = None if body is None else await unless_gone(self._api.answer(found, body), receive)
                if said is None:
                    await say_nobody(send)
                else:
                    await self._charged(found, self._say(scope, send, said))
        finally:
            close()

    async def _body(
        self, visit: Visit, scope: Scope, receive: Receive
    ) -> tuple[bytes | Answer | None, bool]:  # fmt: skip
        """The body, and whether more of it comes. None: the client has left."""
        announced = visit.request.header("content-length")
        size = int(announced) if announced is not None and announced.isdecimal() else 0
        if visit.request.header("transfer-encoding") is not None or (
            announced is None and not one_at_a_time(scope)  # HTTP/2 needs no header for a body
        ):
            size = self._api.body_bytes_max(visit)
        refusal = await self._api.make_room(visit, size, 0)
        if refusal is not None:
            return refusal, True
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return None, False
            body += message.get("body", b"")
            more = bool(message.get("more_body", False))
            if len(body) > self._api.body_bytes_max(visit):
                return self._api.too_large(visit), more
            if not more:
                return bytes(body), False

    async def _charged(self, visit: Visit, saying: Coroutine[Any, Any, None]) -> None:
        """Send an answer. Its user pays for the loop's time, by the clock that pays debts off."""
        if visit.payer:
            wires = self._server.wires
            await Paced(saying, visit.payer, wires.supply.turns, wires.ambient.monotonic_s, waits=False)
        else:
            await saying

    async def _say(self, scope: Scope, send: Send, answer: Answer, unread: Receive | None = None) -> None:
        """Send an answer. `unread`: gives the rest of a body, if there is one that was not read."""
        answer = worded(answer, self._api.speech(all_of(scope, b"accept-language")))
        headers, ends = whole_headers(answer), answer.ends and one_at_a_time(scope)
        if ends:
            headers = (*headers, ("Connection", "close"))
        await send(head_message(answer.status, headers))
        body = b"" if scope["method"] == "HEAD" or answer.status in BODILESS else answer.body
        if ends and unread is not None and has_body(scope):
            # Closed with bytes unread, TCP would take the answer from a client that is still sending.
            await send({"type": "http.response.body", "body": body, "more_body": True})
            await let_send(unread)
            body = b""
        await send({"type": "http.response.body", "body": body})

    async def _follow(self, visit: Visit, scope: Scope, receive: Receive, send: Send) -> None:
        task = cast("asyncio.Task[None]", asyncio.current_task())
        outlet = AsgiOutlet(send, task, visit.speech)
        found = self._api.follow(visit, outlet)
        del visit
        if isinstance(found, Answer):
            await self._say(scope, send, found)
            return
        outlet.socket = found
        try:
            await wait_until_gone(receive)
        except asyncio.CancelledError:
            if not outlet.over or task.uncancel():  # else it was the outlet, whose answer has ended
                raise
        finally:
            found.lost()
            await outlet.gone()

    # WebSocket ------------------------------------------------------------------------------------------

    async def websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a WebSocket until it ends."""
        if (await receive())["type"] != "websocket.connect":
            return
        headers = [
            (name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"]
        ]
        refusal, address, over = self._admitted(headers, peer_of(scope))
        if refusal is not None:
            refusal = worded(refusal, self._api.speech(all_of(scope, b"accept-language")))
            await deny(scope, send, refusal)
            return
        negotiated = self._server.handshakes.negotiate(tuple(scope.get("subprotocols") or ()))
        reading: asyncio.Task[None] | None = None

        def abort() -> None:
            if reading is not None:
                reading.cancel()

        def gave_up(sent: asyncio.Future[None]) -> None:
            if not sent.cancelled() and sent.exception() is not None:
                abort()  # the client is gone

        wire = AsgiWire(self._unwrapped, abort)
        sending: asyncio.Future[None] | None = None
        socket = self._server.handshakes.open(wire, negotiated.dialect, address, root_of(scope), over=over)
        reading = asyncio.create_task(wire.read(receive))
        try:
            await send({"type": "websocket.accept", "subprotocol": negotiated.subprotocol})
            sending = asyncio.ensure_future(wire.out.run(send))
            sending.add_done_callback(gave_up)
            await asyncio.wait({reading})
            wire.close()
            await asyncio.wait({sending}, timeout=self._settings.close_timeout_s)
        finally:
            socket.connection_lost(None)
            await end_all(reading, *(() if sending is None else (sending,)))

    def _admitted(
        self, headers: Sequence[tuple[str, str]], peer: str
    ) -> tuple[Answer | None, str, bool]:  # fmt: skip
        """The refusal, or the address, counted in at the door, and whether it has too many connections."""

        def all_of(name: str) -> list[str]:
            return [value for known, value in headers if known == name]

        address = self._server.admission.address_of(peer, all_of("x-forwarded-for"))
        if not self._server.is_serving():
            return problem(ErrorCode.UNAVAILABLE, http_zh.SERVICE_STOPS), address, False
        origins = all_of("origin")
        if not origin_allowed(origins, all_of("host"), self._settings.origins):
            self._server.admission.tell_refused_origin(origins)
            return problem(ErrorCode.FORBIDDEN, http_zh.ORIGIN_REFUSED), address, False
        entry = self._server.wires.door.enter(address)
        if entry is Entry.REFUSED:
            return problem(ErrorCode.RATE_LIMITED, http_zh.TOO_MANY_CONNECTIONS), address, False
        return None, address, entry is Entry.OVER
