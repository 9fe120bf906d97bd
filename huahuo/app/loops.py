"""One event loop per service: uvloop where it exists, asyncio's own elsewhere."""

import asyncio
import gc
import sys
from collections.abc import Coroutine
from typing import Any

from huahuo.app import memory

_YOUNG_OBJECTS = 10_000
"""With thousands of events under way all young objects are alive when Python's own 2,000 are reached."""
_COLLECTIONS_OF_THE_YOUNG = 2
"""Then those that stayed are looked at again. When a crowd arrives all of them stay, and looking at 200,000
at a time held the loop for 90 ms; 20,000 take 7 ms, and each is looked at as often.
"""
_COLLECTIONS_OF_THE_MIDDLE = 100
"""Before all are looked at: 2,000,000 new objects at least."""


_SWITCH_S = 0.001
"""How long the loop may wait for a thread that computes, each time it comes back from the system. Python's
own 5 ms, half a dozen times on the way of an event, would be the whole latency while mails are parsed.
"""


def own_the_process() -> None:
    """Set up collector and allocator for a process that does nothing but serve; never in somebody else's.

    What was imported so far lives as long as the process: it is passed over from now on.
    """
    memory.tune_allocator()
    sys.setswitchinterval(_SWITCH_S)
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, _COLLECTIONS_OF_THE_YOUNG, _COLLECTIONS_OF_THE_MIDDLE)


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run to the end on a fresh loop, as `asyncio.run`."""
    try:
        from uvloop import new_event_loop
    except ImportError:
        asyncio.run(work)
    else:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(work)
