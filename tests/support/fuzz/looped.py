"""One event loop for all inputs of a target that needs one."""

import asyncio
from collections.abc import Coroutine
from functools import cache
from typing import Any


def done[T](work: Coroutine[Any, Any, T]) -> T:
    """What it gives, once it is done."""
    return _loop().run_until_complete(work)


@cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()
