"""Ctrl-C, SIGTERM and SIGHUP: the first asks the program to stop, and a second one of the first two ends it.

A terminal that closes may send SIGHUP twice, by its shell and by the system. So a second one changes
nothing. A program that was started with SIGHUP ignored, as by `nohup`, goes on ignoring it.
"""

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

_ENDS = (signal.SIGINT, signal.SIGTERM)
_STOPS = (*_ENDS, signal.SIGHUP)
_SAID = b"huahuo: ended at once by a second signal; nothing that was acknowledged is lost\n"


def stop_on_signals(stop: Callable[[], object]) -> None:
    """Call `stop` on the running loop at the first signal. Call this on the main thread, once.

    These are plain handlers and not those of the loop, which would not run while a callback blocks the loop.
    Plain handlers run on the main thread only, and the system may deliver the second signal to another one:
    then a main thread that is blocked stays so. From the first signal on, Python therefore writes their
    numbers into a pipe, and a thread waits for the next one.
    """
    loop = asyncio.get_running_loop()
    asked = False
    numbers, told = os.pipe()
    os.set_blocking(told, False)  # Python refuses one that could block

    def receive(number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            if number in _ENDS:
                _end(number)
            return
        signal.set_wakeup_fd(told, warn_on_full_buffer=False)
        asked = True
        with contextlib.suppress(RuntimeError):  # the loop is closed: the program is ending already
            loop.call_soon_threadsafe(stop)

    threading.Thread(target=_end_at_a_stop, args=(numbers,), name="second-signal", daemon=True).start()
    for number in _STOPS:
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, receive)


def _end_at_a_stop(numbers: int) -> None:
    """End the process as soon as the number of one of these signals comes."""
    while number := os.read(numbers, 1):
        if number[0] in _ENDS:
            _end(number[0])


def _end(number: int) -> NoReturn:
    # Not by print: the signal may have interrupted a write to the same file.
    os.write(2, _SAID)
    os._exit(128 + number)
