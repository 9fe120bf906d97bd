"""Processes of the demo that may be killed, frozen and healed. They end with the demo, however it ends."""

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec

type State = Literal["up", "killed", "frozen"]
type Fault = Literal["kill", "freeze", "heal"]

_PR_SET_PDEATHSIG: Final = 1
_END_S: Final = 5.0


class ChildFact(msgspec.Struct, frozen=True):
    """A process as the console shows it. `last`: what was done to it last, and when; "" for nothing."""

    name: str
    kind: str
    state: State
    last: str = ""
    last_ms: int = 0


class Child:
    """One process. `kind` is `node`, or `log` for a server of the ordered log."""

    def __init__(
        self,
        name: str,
        kind: str,
        command: Sequence[str],
        environ: Mapping[str, str],
        log: Path,
        now_ms: Callable[[], int],
    ) -> None:
        self.name = name
        self._kind = kind
        self._command = command
        self._environ = environ
        self._log = log
        self._now_ms = now_ms
        self._process: asyncio.subprocess.Process | None = None
        self._state: State = "up"
        self._last, self._last_ms = "", 0

    @property
    def fact(self) -> ChildFact:
        """How it is now."""
        return ChildFact(self.name, self._kind, self._state, self._last, self._last_ms)

    @property
    def ended(self) -> bool:
        """Whether it ended by itself."""
        process = self._process
        return self._state == "up" and process is not None and process.returncode is not None

    async def start(self) -> None:
        """Start it. It is ready later."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                env={**os.environ, **self._environ},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C ends the demo first
                preexec_fn=_end_with_the_demo if sys.platform == "linux" else None,
            )
        self._state = "up"

    async def do(self, fault: Fault) -> None:
        """Kill it, freeze it, or heal it, whatever it is now."""
        self._last, self._last_ms = fault, self._now_ms()
        match fault:
            case "kill":
                await self._end(signal.SIGKILL)
                self._state = "killed"
            case "freeze":
                if self._state == "up":
                    self._signal(signal.SIGSTOP)
                    self._state = "frozen"
            case "heal":
                if self._state == "frozen":
                    self._signal(signal.SIGCONT)
                    self._state = "up"
                elif self._process is None or self._process.returncode is not None:
                    await self.start()

    async def stop(self) -> None:
        """End it, politely first."""
        self._signal(signal.SIGCONT)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_S):
                await self._end(signal.SIGTERM)
                return
        await self._end(signal.SIGKILL)

    async def _end(self, number: signal.Signals) -> None:
        self._signal(number)
        if self._process is not None:
            await self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)


_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def _end_with_the_demo() -> None:
    """In the child, before its program: the kernel kills it when the demo is gone."""
    assert _libc is not None
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
