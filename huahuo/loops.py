"""One event loop per service: uvloop where it exists, asyncio's own elsewhere."""

import asyncio
import gc
from collections.abc import Coroutine
from typing import Any

_YOUNG_OBJECTS = 10_000
_COLLECTIONS_OF_THE_YOUNG = 20
"""With thousands of events under way all young objects are alive when Python's own 2,000 are reached."""


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run to the end on a fresh loop, as `asyncio.run`, in a process that does nothing else.

    What was imported so far lives as long as the process: the garbage collector is told to pass it over.
    """
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, _COLLECTIONS_OF_THE_YOUNG)
    try:
        from uvloop import new_event_loop
    except ImportError:
        asyncio.run(work)
    else:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(work)
