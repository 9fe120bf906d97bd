"""One event loop per service: uvloop if it is installed, else asyncio's own."""

import asyncio
import contextlib
import gc
import resource
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from huahuo.app import memory
from huahuo.eventstore.cancelling import cancel_all

_YOUNG_OBJECTS = 4_000
"""At Python's default of 2,000, events in flight are still referenced, so the collection frees nothing. At
10,000 the middle generation took 12 to 20 ms of the loop's time at half load, the longest stop of all, and at
this number 5 to 7 ms; all collections together took the same time.
"""
_COLLECTIONS_OF_THE_YOUNG = 2
"""Young collections before the middle generation is collected too. In a reconnect storm all objects survive:
collecting 200,000 at a time blocked the loop for 90 ms, and 20,000 take 7 ms. The number of times that each
object is examined is the same.
"""
_COLLECTIONS_OF_THE_MIDDLE = 250
"""Collections of the middle generation before a full one, which are at least 2,000,000 new objects."""

_SWITCH_S = 0.001
"""How long the loop waits for the GIL after each system call while another thread computes. An event takes
about six such waits, so with Python's default of 5 ms they would dominate its latency while mails are parsed.
"""
_END_S = 0.5
"""How long tasks that `work` left may take to heed their cancellation."""

_log = structlog.get_logger(__name__)


def own_the_process() -> None:
    """Tune garbage collector and allocator, and leave no core dump. Only for a process that only serves.

    Objects that exist now, mostly imported modules, live as long as the process, so collections skip them. A
    core dump would hold every key and secret that is in memory.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    memory.tune_allocator()
    sys.setswitchinterval(_SWITCH_S)
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, _COLLECTIONS_OF_THE_YOUNG, _COLLECTIONS_OF_THE_MIDDLE)


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run `work` to its end on a new loop.

    Unlike `asyncio.run`, it does not wait for tasks that ignore their cancellation, nor for threads of the
    loop's default executor, such as name lookups.
    """
    make_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    with contextlib.suppress(ImportError):
        from huahuo.app.forking_loop import ForkingLoop

        make_loop = ForkingLoop
    runner = asyncio.Runner(loop_factory=make_loop)
    try:
        runner.run(work)
    finally:
        loop = runner.get_loop()
        loop.run_until_complete(_end_tasks())
        loop.close()


async def _end_tasks() -> None:
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    if late := await cancel_all(others, _END_S):
        _log.error("tasks_left_behind", count=late)
    await asyncio.get_running_loop().shutdown_asyncgens()
