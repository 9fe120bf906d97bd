"""The service as an ASGI application: its WebSockets and its HTTP on the port of another server.

All promises of the service's own port hold. The other server parses, frames and pings, and bounds what it
reads before it hands it on. Lifespan events are not for this module.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from http import HTTPStatus
from typing import Any, cast

from huahuo.transport.access.door import Entry
from huahuo.transport.access.origin import origin_allowed
from huahuo.transport.commands.paced import Paced
from huahuo.transport.http.admission import Visit
from huahuo.transport.http.api import Api
from huahuo.transport.http.asgi_answer import (
    BODILESS,
    deny,
    head_message,
    let_send,
    say_nobody,
    whole_headers,
)
from huahuo.transport.http.asgi_leaving import end_all, unless_gone, wait_until_gone
from huahuo.transport.http.asgi_outlet import AsgiOutlet
from huahuo.transport.http.asgi_scope import (
    Scope,
    all_of,
    has_body,
    head_bytes,
    must_be_utf8,
    one_at_a_time,
    path_of,
    peer_of,
    root_of,
)  # fmt: skip
from huahuo.transport.http.asgi_socket import AsgiSocket, Unwrapped
from huahuo.transport.http.heads import HEAD_BYTES_MAX
from huahuo.transport.http.messages import Answer, Request, origin_form
from huahuo.transport.http.out_queue import Receive, Send
from huahuo.transport.http.problems import problem, worded
from huahuo.transport.protocol.codes import CloseCode, ErrorCode
from huahuo.transport.protocol.problem import code_of
from huahuo.transport.server.server import Server
from huahuo.transport.words import http_zh


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
        found = self._api.admit(request)
        if not isinstance(found, Visit | Answer | None):
            found = await found
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
        refusal = self._api.make_room(visit, size, 0)
        if not isinstance(refusal, Answer | None):
            refusal = await refusal
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
        serving: asyncio.Task[None] | None = None

        def abort() -> None:
            if serving is not None:
                serving.cancel()

        socket = AsgiSocket(
            receive, abort, server=self._server, settings=self._settings, unwrapped=self._unwrapped,
            address=address, negotiated=negotiated, over_limit=over,
            root=root_of(scope),
        )  # fmt: skip
        self._server.connected(socket)
        serving = asyncio.ensure_future(self._server.attend(socket))
        sending: asyncio.Future[None] | None = None
        try:
            await send({"type": "websocket.accept", "subprotocol": negotiated.subprotocol})
            sending = asyncio.ensure_future(socket.out.run(send))
            sending.add_done_callback(socket.sent)
            await asyncio.wait({serving})
            socket.end(CloseCode.NORMAL, "", self._settings.close_timeout_s)
            await asyncio.wait({sending}, timeout=self._settings.close_timeout_s)
        finally:
            socket.gone()
            await end_all(serving, *(() if sending is None else (sending,)))

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
