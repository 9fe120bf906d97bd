"""The client under test: a program that prints the seq of each event."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

WITHIN_S = 60.0


class Program:
    """See the module. `seqs`: what it has printed, over all its lives."""

    def __init__(self, command: Sequence[str], url: str, token: str, stream: str, cursor: Path) -> None:
        self.seqs: list[int] = []
        self._command = command
        self._environ = os.environ | {
            "HUAHUO_URL": url,
            "HUAHUO_TOKEN": token,
            "HUAHUO_STREAM": stream,
            "HUAHUO_CURSOR": str(cursor),
        }
        self._printed = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin a life."""
        self._process = await asyncio.create_subprocess_exec(
            *self._command, stdout=asyncio.subprocess.PIPE, env=self._environ
        )
        self._reading = asyncio.create_task(self._read(self._process))

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            if line.strip().isdigit():
                self.seqs.append(int(line))
                self._printed.set()

    async def until(self, seq: int, within_s: float = WITHIN_S) -> bool:
        """Whether it printed this seq in time."""
        try:
            async with asyncio.timeout(within_s):
                while seq not in self.seqs:
                    self._printed.clear()
                    await self._printed.wait()
        except TimeoutError:
            return False
        return True

    async def kill(self) -> None:
        """`kill -9`."""
        process, reading = self._process, self._reading
        if process is None or reading is None:
            return
        if process.returncode is None:
            process.kill()
        await process.wait()
        await reading
        self._process = None
