"""simloop's event loop, with a running trace hash, machines that can be stopped, and a quick clock."""

import asyncio
import contextlib
import itertools
import math
import time
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any
from unittest.mock import patch

from anyio._backends import _asyncio as anyio_backend
from httpcore._async import http11
from simloop import SimLoop
from simloop._loop import _host_of

_BATCH = 4096
_LOOK_STEPS = 256
STANDING_STEPS_MAX = 300_000
"""So many steps at one moment are a loop without a pause: the run ends, where it would never end."""


class OutOfTime(Exception):  # noqa: N818  nothing is wrong with the run
    """A run that was cut short: it proved nothing, and failed nothing."""


class RunningTrace:
    """simloop's recorder, without keeping what it hashed: a run has millions of steps."""

    def __init__(self) -> None:
        self.steps = 0
        self._hash = blake2b(digest_size=16)
        self._waiting: list[tuple[object, ...]] = []

    def record(self, kind: str, when: float, seq: int, label: str, host: str = "") -> None:
        """The next decision."""
        self._waiting.append((kind, when, seq, label, host))
        if len(self._waiting) >= _BATCH:
            self._fold()

    def _fold(self) -> None:
        self.steps += len(self._waiting)
        self._hash.update(repr(self._waiting).encode())
        self._waiting.clear()

    def __len__(self) -> int:
        return self.steps + len(self._waiting)

    def hash(self) -> str:
        """Of all decisions so far."""
        self._fold()
        return self._hash.hexdigest()


class _Numbered:
    """Hashed by its number: a set of these is walked in an order that does not hang on addresses."""

    number = 0

    def __hash__(self) -> int:
        return self.number


class _Task(_Numbered, asyncio.Task[Any]):
    pass


class _Future(_Numbered, asyncio.Future[Any]):
    pass


@contextlib.contextmanager
def ordered_scopes() -> Iterator[None]:
    """One hash for all cancel scopes, which anyio keeps in sets: they are walked as they came."""
    with patch.object(anyio_backend.CancelScope, "__hash__", lambda _scope: 0):
        yield


class _VirtualTime:
    """Stands in for the module `time`: inside a simulated loop it tells the virtual time."""

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


@contextlib.contextmanager
def virtual_idle_times() -> Iterator[None]:
    """No clock can be injected into httpx: how long a connection was idle is virtual time, too."""
    with patch.object(http11, "time", _VirtualTime()):
        yield


class Loop(SimLoop):
    """See the module."""

    def __init__(self, seed: int, until_s: float = math.inf) -> None:
        """`until_s`: by `time.monotonic`, when a run that is still going on raises OutOfTime."""
        super().__init__(seed)
        self._recorder: Any = RunningTrace()
        self._until_s = until_s
        self._steps_seen = 0
        self._stopped: dict[str, list[Any]] = {}
        self._stopped_at_s: dict[str, float] = {}
        self._stood_s: dict[str, float] = {}
        self._moment, self._moment_steps = -1.0, 0
        self.unhandled: list[str] = []
        self._numbers = itertools.count(1)
        self.set_task_factory(self._numbered_task)
        self.set_exception_handler(self._note)

    def create_future(self) -> asyncio.Future[Any]:
        """See `_Numbered`."""
        future = _Future(loop=self)
        future.number = next(self._numbers)
        return future

    def _numbered_task(self, _loop: Any, work: Any, **more: Any) -> asyncio.Task[Any]:
        task = _Task(work, loop=self, **more)
        task.number = next(self._numbers)
        return task

    def _note(self, _loop: Any, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is not None:
            self.unhandled.append(f"{context.get('message')}: {type(error).__name__}: {error}")

    def time(self) -> float:
        """Virtual seconds. No machine's clock is skewed here: `Clock` moves wall clocks."""
        now: float = self._now
        return now

    def stop_machine(self, host: str) -> None:
        """As SIGSTOP: nothing of this machine runs until `go_on`; its timers pass meanwhile."""
        self._stopped.setdefault(host, [])
        self._stopped_at_s.setdefault(host, self._now)

    def go_on(self, host: str) -> None:
        """As SIGCONT: all that was due runs now, in its order."""
        if host in self._stopped:
            self._stood_s[host] = self.stood_s(host)
            del self._stopped_at_s[host]
        for entry in self._stopped.pop(host, []):
            self._ready.append(entry)

    def stood_s(self, host: str) -> float:
        """For how long this machine was stopped so far, in all."""
        return self._stood_s.get(host, 0.0) + self._now - self._stopped_at_s.get(host, self._now)

    def _step(self) -> None:
        self._steps_seen += 1
        if not self._steps_seen % _LOOK_STEPS and time.monotonic() > self._until_s:
            self._until_s = math.inf  # what is left to end may run
            raise OutOfTime
        if self._stopped:
            for entry in [one for one in self._ready if _host_of(one[2]) in self._stopped]:
                self._ready.remove(entry)
                self._stopped[_host_of(entry[2])].append(entry)
            if not self._ready:
                self._advance_clock()
                return
        super()._step()
        if self._now == self._moment:
            self._moment_steps += 1
            if self._moment_steps > STANDING_STEPS_MAX:
                raise RuntimeError(f"the clock stands at {self._now}: something runs without a pause")
        else:
            self._moment, self._moment_steps = self._now, 0
