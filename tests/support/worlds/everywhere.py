"""A running application whose clients come by its own port, or by the port of an ASGI server around it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from huahuo import Huahuo
from tests.support.worlds.wire import in_uvicorn

WAYS = ("own port", pytest.param("asgi", marks=pytest.mark.slow))


@asynccontextmanager
async def running(app: Huahuo, way: str, host: Any = None) -> AsyncIterator[str]:
    """Run it; gives the address. `host`: the application in the ASGI server, if it is another one."""
    if way == "own port":
        async with app:
            yield app.url
        return
    async with in_uvicorn(host or app.asgi, app.stop, lifespan="on") as port:
        yield f"http://127.0.0.1:{port}"
