"""pymap as a program with its connections kept alive: `python -m huahuo.demo.pymap_child ARGUMENTS`.

asyncio keeps only weak references to tasks, and pymap 0.36 keeps none to those of its connections, so the
garbage collector can end a connection in the middle of a conversation. Here each task is referenced until it
is done. The demo starts this program, which does not import huahuo.

The program ends when its standard input does: the demo holds the other end, and may be killed.
"""

import asyncio
import os
import sys
from collections.abc import Coroutine
from typing import Any

from pymap.main import main

_running: set[asyncio.Task[Any]] = set()
_create_task = asyncio.BaseEventLoop.create_task


def _create_and_keep(
    loop: asyncio.BaseEventLoop, work: Coroutine[Any, Any, Any], **options: Any
) -> asyncio.Task[Any]:
    if not _running:
        loop.add_reader(sys.stdin, _end_with_the_starter)
    task: asyncio.Task[Any] = _create_task(loop, work, **options)
    _running.add(task)
    task.add_done_callback(_running.discard)
    return task


def _end_with_the_starter() -> None:
    if not os.read(sys.stdin.fileno(), 1024):
        os._exit(0)


if __name__ == "__main__":
    asyncio.BaseEventLoop.create_task = _create_and_keep  # type: ignore[method-assign, assignment]
    main()
