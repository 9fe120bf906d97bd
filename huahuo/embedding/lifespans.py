"""The lifespan events of an ASGI server, for the service and for another application that it is served with.

The service starts before the other one and stops after it. The other one need not know these events: Django
and the routers of Channels raise an error, and others return or answer as if they were a request.
"""

import contextlib
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from huahuo.errors import HuahuoError

type Scope = MutableMapping[str, Any]
type Message = MutableMapping[str, Any]
type Receive = Callable[[], Awaitable[Message]]
type Send = Callable[[Message], Awaitable[None]]
type AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]
type Living = Callable[[], AbstractAsyncContextManager[None]]


class _NotAskedError(Exception):
    """The other application answers before it has read what the server says."""


async def live_both(service: Living, other: AsgiApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Serve the lifespan of `other` within that of the service."""
    begun = [await receive()]
    async with contextlib.AsyncExitStack() as living:

        async def receive_next() -> Message:
            return begun.pop() if begun else await receive()

        async def send_when_ended(message: Message) -> None:
            if begun:
                raise _NotAskedError
            if message["type"] != "lifespan.startup.complete":
                await living.aclose()
            await send(message)

        try:
            await living.enter_async_context(service())
        except HuahuoError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        try:
            await other(scope, receive_next, send_when_ended)
        except Exception:
            if not begun:
                raise
        if begun:  # it does not know these events
            begun.clear()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send_when_ended({"type": "lifespan.shutdown.complete"})
