"""A server of streams in a simulated world, on each version of Python."""

import asyncio
from collections.abc import Awaitable, Callable

type Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def listen(serve: Serve, host: str, port: int) -> asyncio.Server:
    """As `asyncio.start_server`. A connection whose task is cancelled is closed and its task is over.

    Python 3.13 closes it itself, and 3.12.1 raises the cancellation again in a callback of the loop.
    """

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except asyncio.CancelledError:
            writer.close()

    return await asyncio.start_server(one, host, port)
