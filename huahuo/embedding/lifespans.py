"""The lifespan events of an ASGI server, for the service and for another application that it is served with.

The service starts before the other one and stops after it. The other one need not know these events: Django
and the routers of Channels raise an error, and others return or answer as if they were a request.
"""

import contextlib
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

import structlog

from huahuo.actors.actor.errors import where
from huahuo.errors import HuahuoError

type Scope = MutableMapping[str, Any]
type Message = MutableMapping[str, Any]
type Receive = Callable[[], Awaitable[Message]]
type Send = Callable[[Message], Awaitable[None]]
type AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]
type Living = Callable[[], AbstractAsyncContextManager[None]]


_log = structlog.get_logger(__name__)

_STARTED: Final = "lifespan.startup.complete"


class _NotAskedError(Exception):
    """The other application answers before it has read what the server says, or as if it were a request."""


async def live_both(service: Living, other: AsgiApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Serve the lifespan of `other` within that of the service."""
    unread, said, asked = [await receive()], "", 1
    async with contextlib.AsyncExitStack() as living:

        async def receive_next() -> Message:
            nonlocal asked
            if unread:
                return unread.pop()
            message = await receive()
            asked += 1
            return message

        async def send_when_ended(message: Message) -> None:
            nonlocal said
            if unread or not message["type"].startswith("lifespan."):
                raise _NotAskedError
            said = message["type"]
            if message["type"] != _STARTED:
                await living.aclose()
            await send(message)

        try:
            await living.enter_async_context(service())
        except HuahuoError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        try:
            await other(scope, receive_next, send_when_ended)
        except Exception as error:
            if said:
                raise
            if not unread:
                _log.warning("lifespan_not_answered", error=type(error).__name__, at=where(error))
        unread.clear()
        if not said:  # it does not know these events
            await send_when_ended({"type": _STARTED})
        if said == _STARTED:  # it has nothing to do at the end
            if asked == 1:
                await receive()
            await send_when_ended({"type": "lifespan.shutdown.complete"})
