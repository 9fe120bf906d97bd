"""Answers of commands that are told together: each connection writes all of its own in one piece.

A system call for each answer would cost more than everything else that a short command does.
"""

import asyncio
from collections.abc import Callable


class Outbox:
    """The connections that have answers to write."""

    def __init__(self) -> None:
        self._waiting: list[Callable[[], None]] = []

    def add(self, write: Callable[[], None]) -> None:
        """Call `write` once, in the loop's next turn or when `flush` is called before. It must not raise."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self.flush)
        self._waiting.append(write)

    def flush(self) -> None:
        """All answers of one commit have been told: write them now."""
        waiting, self._waiting = self._waiting, []
        for write in waiting:
            write()
