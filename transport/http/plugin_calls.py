"""Answers requests with the handlers of plug-ins. They were admitted like all others."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from http import HTTPStatus
from typing import Any

import msgspec
import structlog

from huahuo.actors.actor.errors import AskTimeout
from huahuo.actors.plugins.calls import Refusal
from huahuo.actors.plugins.http import HttpAnswer, HttpRefused, HttpRequest, HttpRoute
from huahuo.eventstore.core.fair_executor import acting_for
from huahuo.transport.access.door import Entry
from huahuo.transport.commands.answers import refusal_of
from huahuo.transport.commands.paced import Paced
from huahuo.transport.http.admission import Visit
from huahuo.transport.http.calling import Calling
from huahuo.transport.http.messages import NO_STORE, Answer
from huahuo.transport.http.plugin_forms import asked_of
from huahuo.transport.http.problems import problem, worded
from huahuo.transport.protocol.codes import ErrorCode
from huahuo.transport.protocol.incoming import Parsed
from huahuo.transport.server.intake import Load
from huahuo.transport.server.wires import Wires
from huahuo.transport.words import http_zh

type _Work = Callable[[], Coroutine[Any, Any, HttpAnswer]]

_log = structlog.get_logger(__name__)


class PluginCalls:
    """See the module."""

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
