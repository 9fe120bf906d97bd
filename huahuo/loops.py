"""One event loop per service: uvloop where it exists, asyncio's own elsewhere."""

import asyncio
from collections.abc import Coroutine
from typing import Any


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run to the end on a fresh loop, as `asyncio.run`."""
    try:
        from uvloop import new_event_loop
    except ImportError:
        asyncio.run(work)
    else:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(work)
