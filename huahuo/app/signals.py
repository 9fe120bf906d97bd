"""Ctrl-C and SIGTERM: the first asks the program to stop, the second ends it at once."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from types import FrameType

_SAID = b"huahuo: ended at once by a second signal; nothing that was acknowledged is lost\n"


def stop_on_signals(stop: Callable[[], object]) -> None:
    """Call `stop` on the running loop at the first signal. Call this on the main thread.

    These are plain handlers and not those of the loop, which would not run while a callback blocks the loop.
    """
    loop = asyncio.get_running_loop()
    asked = False

    def receive(number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            # Not by print: the signal may have interrupted a write to the same file.
            os.write(2, _SAID)
            os._exit(128 + number)
        asked = True
        with contextlib.suppress(RuntimeError):  # the loop is closed: the program is ending already
            loop.call_soon_threadsafe(stop)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, receive)
