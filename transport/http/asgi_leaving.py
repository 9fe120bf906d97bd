"""Clients that leave before their answer is there."""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

from huahuo.transport.http.messages import Answer
from huahuo.transport.http.out_queue import Receive


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
