"""Answers, as the messages of ASGI."""

import asyncio
import contextlib
from http import HTTPStatus
from typing import Final

from huahuo.transport.http.asgi_scope import Scope
from huahuo.transport.http.messages import Answer, Headers
from huahuo.transport.http.out_queue import Message, Receive, Send
from huahuo.transport.http.time_limit import LINGER_S, LINGER_SILENCE_S

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
