"""A running application whose clients come by its own port, or by the port of an ASGI server around it."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn

from huahuo import Huahuo
from tests.support.worlds.wire import QuietUvicorn, until

WAYS = ("own port", pytest.param("asgi", marks=pytest.mark.slow))


@asynccontextmanager
async def running(app: Huahuo, way: str, host: Any = None) -> AsyncIterator[str]:
    """Run it; gives the address. `host`: the application in the ASGI server, if it is another one."""
    if way == "own port":
        async with app:
            yield app.url
        return
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(
            host or app.asgi,
            lifespan="on",
            log_config=None,
            ws="websockets-sansio",
            ws_per_message_deflate=False,
        )
        other = QuietUvicorn(config)
        serving = asyncio.create_task(other.serve([listening]))
        await until(lambda: other.started)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            await app.stop()
            other.should_exit = True
            await serving
