"""Commands and queries over HTTP (`POST /commands/<action>`, `POST /publish`), and the handlers of plug-ins.

Commands go through the same gate as those of WebSockets. The id of a command is its `Idempotency-Key`, or
the member `id`; it counts for the user and the client installation that `Huahuo-Client` names. Requests
for handlers of plug-ins were admitted like all others.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from http import HTTPStatus
from typing import Any, Final, cast

import msgspec
import structlog

from huahuo.actors.actor.messages import AskTimeout
from huahuo.actors.plugins.actions import HttpAnswer, HttpRefused, HttpRequest, HttpRoute
from huahuo.actors.plugins.calls import Refusal, Reply
from huahuo.eventstore.executor import acting_for
from huahuo.transport.access.door import Entry
from huahuo.transport.commands.gate import Done, Paced, refusal_of
from huahuo.transport.http.admission import Visit
from huahuo.transport.http.messages import NO_STORE, Answer, from_error, json_answer, problem, worded
from huahuo.transport.http.routes import asked_of
from huahuo.transport.load.fair_queueing import Crowded
from huahuo.transport.load.intake import Load
from huahuo.transport.protocol import incoming
from huahuo.transport.protocol.codes import ErrorCode
from huahuo.transport.protocol.incoming import ID_CHARS_MAX, Invalid, Parsed
from huahuo.transport.server.wires import Wires
from huahuo.transport.session.calls import Calls
from huahuo.transport.session.interface import Execute, Record
from huahuo.transport.session.outgoing import Speech, with_position
from huahuo.transport.words import http_zh, zh

CLIENT: Final = "http"
"""The client installation of requests that name none."""
_ERROR: Final = b'{"type":"error"'
_REPLY: Final = "reply"


class _Publication(msgspec.Struct, forbid_unknown_fields=True):
    stream: str
    type: str
    fields: dict[str, Any] = {}


class Calling:
    """Commands and queries over HTTP: `POST /commands/<action>` and `POST /publish`."""

    def __init__(self, wires: Wires) -> None:
        self._wires = wires
        self._made = 0

    async def publish(self, visit: Visit, body: bytes) -> Answer:
        """Answer `POST /publish`: one event, or a list of them in one commit."""
        listed = body.lstrip()[:1] == b"["
        parsed = self._parsed(b'{"events":%b}' % body if listed else body, visit, "publish")
        if isinstance(parsed, Invalid):
            return _refused(parsed, visit.speech)
        given = parsed.fields["events"] if listed and parsed.fields.keys() == {"action", "events"} else [
            {name: value for name, value in parsed.fields.items() if name not in ("action", "id")}
        ]  # fmt: skip
        try:
            events = msgspec.convert(given, list[_Publication])
        except msgspec.ValidationError as error:
            return problem(ErrorCode.INVALID_FIELD, http_zh.EVENT_NEEDED.format(error))
        fields = {"action": "publish", "events": msgspec.to_builtins(events)}
        return await self._call(visit, Parsed("publish", parsed.id, fields))

    async def command(self, visit: Visit, body: bytes) -> Answer:
        """Answer `POST /commands/<action>`. The body holds the fields; none is as good as `{}`."""
        parsed = self._parsed(body or b"{}", visit, visit.route.name)
        if isinstance(parsed, Invalid):
            return _refused(parsed, visit.speech)
        return await self._call(visit, parsed)

    def _parsed(self, body: bytes, visit: Visit, action: str) -> Parsed | Invalid:
        settings = self._wires.shared.settings
        parsed = incoming.parse(body, bytes_max=settings.message_bytes_max, depth_max=settings.json_depth_max)
        if isinstance(parsed, Invalid):
            return parsed
        if len(visit.request.all("idempotency-key")) > 1:  # without any, a repeat would be carried out again
            return Invalid(ErrorCode.INVALID_FIELD, http_zh.ONE_NEEDED.format("Idempotency-Key"))
        key = visit.request.header("idempotency-key")
        if key is None:
            key = parsed.id
        elif key[:1] == '"' == key[-1:]:  # the draft standard has it as a quoted text
            key = key[1:-1]
        if key is not None and not 1 <= len(key) <= ID_CHARS_MAX:
            return Invalid(
                ErrorCode.INVALID_FIELD, http_zh.TEXT_NEEDED.format("Idempotency-Key", ID_CHARS_MAX)
            )
        return Parsed(action, key, {**parsed.fields, "action": action})

    async def _call(self, visit: Visit, parsed: Parsed) -> Answer:
        said = await self.reply(visit, parsed)
        if isinstance(said, Answer):
            return said
        return from_error(msgspec.json.decode(said)) if said.startswith(_ERROR) else json_answer(said)

    async def reply(self, visit: Visit, parsed: Parsed) -> bytes | Answer:
        """The reply to a call as its client gets it, or the refusal of a request that is not called."""
        wires = self._wires
        if len(visit.request.all("huahuo-client")) > 1:  # an id would count for all of the user's clients
            return problem(ErrorCode.INVALID_FIELD, http_zh.ONE_NEEDED.format("Huahuo-Client"))
        client = visit.request.header("huahuo-client") or CLIENT
        if len(client) > ID_CHARS_MAX:
            return problem(ErrorCode.INVALID_FIELD, http_zh.TEXT_NEEDED.format("Huahuo-Client", ID_CHARS_MAX))
        self._made += 1
        calls = Calls(f"h-{self._made}", wires.shared.commands, wires.shared.fingerprint_key)
        made = calls.make(parsed, visit.principal, client)
        if isinstance(made, Invalid):
            return _refused(made, visit.speech)
        try:
            reply = await self._executed(visit, made)
        except Crowded:
            return problem(ErrorCode.BUSY, http_zh.QUERIES_WAIT)
        if reply is None:
            return problem(ErrorCode.BUSY, http_zh.ANSWERS_UNREAD)
        reply = with_position(reply, wires.shared.log)
        said = visit.speech.reply(reply, made.request_id) if reply.body else b""
        if not said or len(said) > wires.shared.settings.reply_bytes_max:
            return problem(ErrorCode.TOO_LARGE, zh.REPLY_TOO_LARGE)
        return said

    async def _executed(self, visit: Visit, made: Execute | Record) -> Reply | None:
        """The reply; None if the user's bytes leave no room for it."""
        gate, turns = self._wires.gate, self._wires.supply.turns
        if isinstance(made, Record):
            return await _heard(partial(gate.record, made.call, made.reply), visit.load)
        if not made.spec.query:
            return await _heard(partial(gate.begin, made.call, made.spec), visit.load)
        async with turns.turn(visit.principal.name):
            return await self._queried(visit, made)

    async def _queried(self, visit: Visit, made: Execute) -> Reply | None:
        supply, now_s = self._wires.supply, self._wires.ambient.monotonic_s
        name, kind = visit.principal.name, f"{made.spec.action} {_REPLY}"
        held = supply.estimates.of(name, kind)
        if not visit.purse.reserve(held, now_s()):
            return None
        reply = await self._wires.gate.execute(made.call, made.spec)
        if reply.parted is not None:
            bytes_max = self._wires.shared.settings.reply_bytes_max
            whole = await supply.turns.join(name, reply.parted.pieces(), bytes_max)
            reply = msgspec.structs.replace(reply, body=whole or b"", parted=None)
        supply.estimates.learn(name, kind, len(reply.body))
        visit.purse.correct(held, len(reply.body))
        return reply


async def _heard(begin: Callable[[Done], object], load: Load) -> Reply:
    """The reply to a command. Its body counts until then, also if the client leaves."""
    answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

    def done(reply: Reply | None) -> None:
        ended(None)
        if answer.done():
            return
        if reply is None:
            answer.cancel()
        else:
            answer.set_result(reply)

    ended = load.share()
    begin(done)
    return await answer


def _refused(invalid: Invalid, speech: Speech) -> Answer:
    text = speech.text(invalid.message)
    said: Mapping[str, Any] = {
        "code": invalid.code,
        "message": text,
        "details": speech.explain(invalid.details),
    }
    return from_error(cast("Mapping[str, Any]", {**said, **({"id": invalid.id} if invalid.id else {})}))


type _Work = Callable[[], Coroutine[Any, Any, HttpAnswer]]

_log = structlog.get_logger(__name__)


class PluginCalls:
    """Answers requests with the handlers of plug-ins. They were admitted like all others."""

    def __init__(self, wires: Wires, calling: Calling) -> None:
        self._wires = wires
        self._calling = calling
        self._waiting: set[asyncio.Future[HttpAnswer]] = set()
        self._running: set[asyncio.Future[HttpAnswer]] = set()

    async def answer(self, visit: Visit, body: bytes) -> Answer:
        """The plug-in's answer, or its refusal."""
        route = visit.route.plugin
        assert route is not None, "it was found"
        request = msgspec.structs.replace(
            asked_of(visit.request, visit.route, visit.address),
            body=body,
            principal=None if visit.stranger else visit.principal,
            caller=_Caller(self._calling, visit),
        )
        try:
            work = partial(self._worked, route, request, visit.principal.name)
            found = await (
                self._waited(work, request.address) if route.waits else self._finished(work, visit.load)
            )
        except HttpRefused as refused:
            status = None if refused.status is None else HTTPStatus(refused.status)
            return problem(refused.code, refused.detail, status=status, retry_s=refused.retry_s)
        if not visit.purse.reserve(len(found.body), self._wires.ambient.monotonic_s()):
            return problem(ErrorCode.BUSY, http_zh.ANSWERS_UNREAD)
        named = {name.lower() for name, _ in found.headers}
        fixed = {
            "Content-Type": found.content_type,
            "Cache-Control": NO_STORE,
            "X-Content-Type-Options": "nosniff",
        }
        kept = tuple((name, value) for name, value in fixed.items() if name.lower() not in named)
        return Answer(HTTPStatus(found.status), (*kept, *found.headers), found.body)

    async def _worked(self, route: HttpRoute, request: HttpRequest, user: str) -> HttpAnswer:
        """Run a handler in a task of its own, charged to the user that asks. It may outlive its client."""
        wires = self._wires
        with acting_for(user):
            return await Paced(route.handler(request), user, wires.supply.turns, wires.ambient.monotonic_s)

    async def _finished(self, work: _Work, load: Load) -> HttpAnswer:
        """Run a handler to its end, also if the client leaves: what it began is then done whole."""
        working = asyncio.ensure_future(work())
        self._running.add(working)
        working.add_done_callback(self._running.discard)
        working.add_done_callback(load.share())
        try:
            return await asyncio.shield(working)
        except asyncio.CancelledError:
            working.add_done_callback(_tell_fault)  # nobody else hears of it
            raise

    async def _waited(self, work: _Work, address: str) -> HttpAnswer:
        """Run a handler that may wait: it counts as a connection, and ends with its client and with us."""
        door = self._wires.door
        entry = door.enter(address)
        if entry is Entry.REFUSED:
            raise HttpRefused(ErrorCode.RATE_LIMITED, http_zh.TOO_MANY_CONNECTIONS)
        try:
            if entry is Entry.OVER:
                raise HttpRefused(ErrorCode.RATE_LIMITED, http_zh.TOO_MANY_CONNECTIONS)
            working = asyncio.ensure_future(work())
            self._waiting.add(working)
            try:
                await asyncio.wait({working})
            finally:
                self._waiting.discard(working)
                working.cancel()
            if working.cancelled():
                raise HttpRefused(ErrorCode.UNAVAILABLE, http_zh.SERVICE_STOPS)
            return working.result()
        finally:
            door.leave(address)

    def close(self) -> None:
        """Answer all that wait, now."""
        for working in tuple(self._waiting):
            working.cancel()


def state_of(error: BaseException) -> Refusal | None:
    """The refusal for an exception of a request that says how the service is. None: it is a fault.

    A time-out of a handler's own is one: what it asked may have been done, and nobody else logs it.
    """
    if isinstance(error, TimeoutError) and not isinstance(error, AskTimeout):
        return None
    return refusal_of(error)


def _tell_fault(working: "asyncio.Future[HttpAnswer]") -> None:
    fault = None if working.cancelled() else working.exception()
    if fault is not None and not isinstance(fault, HttpRefused) and state_of(fault) is None:
        _log.error("request_failed_after_its_client_left", exc_info=fault)


class _Caller:
    """Implements `http.Caller` for one request."""

    __slots__ = ("_calling", "_visit")

    def __init__(self, calling: Calling, visit: Visit) -> None:
        self._calling = calling
        self._visit = visit

    async def __call__(
        self, action: str, fields: Mapping[str, Any], command_id: str | None
    ) -> dict[str, Any]:
        """See `HttpRequest.call`."""
        said = await self._calling.reply(
            self._visit, Parsed(action, command_id, {**fields, "action": action})
        )
        if isinstance(said, Answer):
            refusal = msgspec.json.decode(worded(said, self._visit.speech).body)
            return {"type": "error", "code": refusal["code"], "message": refusal["detail"]}
        found: dict[str, Any] = msgspec.json.decode(said)
        return found
