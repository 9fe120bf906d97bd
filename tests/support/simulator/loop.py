"""simloop's network under a loop of our own, with a running trace hash and machines that can be stopped.

What is replaced is how callbacks are queued, drawn and noted. simloop keeps a label for each callback and
decision, and tells each machine of the end of each task by one callback more. A run has millions of those.
"""
# ruff: noqa: SLF001  a loop works on handles, as asyncio's own loops do

import asyncio
import heapq
import itertools
import math
import time
from array import array
from collections.abc import Callable
from contextvars import Context, copy_context
from hashlib import blake2b
from random import Random
from typing import Any

from simloop import SimLoop
from simloop._loop import SimulationDeadlockError, _host_of
from simloop._net import _current_host

from tests.support.simulator.repeatable import NumberedFuture, NumberedTask

_BATCH = 8192
_LOOK_STEPS = 256
_CREW_LEAST = 64
STANDING_STEPS_MAX = 300_000
"""More steps at one moment are a loop without a pause, which would never end: the run fails."""
STEPS_MAX = 20_000_000
"""More steps, though the clock goes on, are a run that does not end by itself."""


class OutOfTime(Exception):  # noqa: N818  nothing is wrong with the run
    """A run that was cut short: it proved nothing, and failed nothing."""


class RunningTrace:
    """A hash of what was decided: two runs that differ somewhere have other numbers from there on."""

    def __init__(self) -> None:
        self.steps = 0
        self._hash = blake2b(digest_size=16)
        self._waiting = array("d")
        self.note = self._waiting.extend
        """Take numbers into the hash. A caller that notes much must call `fold` now and then."""

    def record(self, _kind: str, when: float, number: int, *_more: str) -> None:
        """As simloop's recorder: what its network decides, such as the crash of a machine."""
        self.note((when, number))

    def fold(self) -> None:
        """Hash what waits, if it is much."""
        if len(self._waiting) >= _BATCH:
            self._fold()

    def _fold(self) -> None:
        self._hash.update(self._waiting.tobytes())
        del self._waiting[:]

    def hash(self) -> str:
        """Of all decisions so far."""
        self._fold()
        return self._hash.hexdigest()


class _Handle(asyncio.Handle):
    """A handle without what only a debugging loop needs."""

    __slots__ = ()

    def __init__(self, callback: Any, args: Any, loop: Any, context: Context | None) -> None:
        self._context = copy_context() if context is None else context
        self._loop, self._callback, self._args = loop, callback, args
        self._cancelled, self._repr, self._source_traceback = False, None, None


class _TimerHandle(asyncio.TimerHandle):
    """As `_Handle`."""

    __slots__ = ()

    def __init__(self, when: float, callback: Any, args: Any, loop: Any, context: Context | None) -> None:
        self._context = copy_context() if context is None else context
        self._loop, self._callback, self._args = loop, callback, args
        self._cancelled, self._repr, self._source_traceback = False, None, None
        self._when, self._scheduled = when, False


class Loop(SimLoop):
    """See the module."""

    def __init__(self, seed: int, until_s: float = math.inf) -> None:
        """`until_s`: by `time.monotonic`, when a run that is still going on raises OutOfTime."""
        super().__init__(seed)
        self.steps = 0
        self.unhandled: list[str] = []
        self._recorder: Any = RunningTrace()
        self._note_numbers = self._recorder.note
        self._draw = Random(f"{seed} schedule").random
        self._until_s = until_s
        self._moment_began = 0
        self._steps_max = STEPS_MAX
        self._stopped: dict[str, list[Any]] = {}
        self._stopped_at_s: dict[str, float] = {}
        self._stood_s: dict[str, float] = {}
        self._numbers = itertools.count(1)
        self._crew_max: dict[str, int] = {}
        vars(self._net)["_trace"] = self._note_packet
        self.set_exception_handler(self._note)

    # -- futures and tasks

    def create_future(self) -> asyncio.Future[Any]:
        """See `NumberedFuture`."""
        return NumberedFuture(loop=self, number=next(self._numbers))

    def create_task(
        self, coro: Any, *, name: str | None = None, context: Any = None, eager_start: bool | None = None
    ) -> asyncio.Task[Any]:
        """See `NumberedTask`. It belongs to the machine whose code makes it."""
        assert not eager_start, "each step is drawn"
        self._check_closed()
        number = next(self._numbers)
        task = NumberedTask(coro, loop=self, name=name, context=context, number=number)
        host = _current_host.get()
        crew = self._net._tasks[host]
        crew.append(task)
        if len(crew) > self._crew_max.get(host, _CREW_LEAST):
            crew[:] = [one for one in crew if not one.done()]
            self._crew_max[host] = max(_CREW_LEAST, 2 * len(crew))
        return task

    def _note(self, _loop: Any, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is not None:
            self.unhandled.append(f"{context.get('message')}: {type(error).__name__}: {error}")

    # -- time

    def time(self) -> float:
        """Virtual seconds. No machine's clock is skewed here: `Clock` moves wall clocks."""
        now: float = self._now
        return now

    def call_soon[*Ts](
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """As every loop's."""
        self._check_closed()
        handle = _Handle(callback, args, self, context)
        self._next_seq = seq = self._next_seq + 1
        self._ready.append((seq, "", handle, callback))
        return handle

    def call_later[*Ts](
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """As every loop's."""
        return self._at(self._now + delay, callback, args, context)

    def call_at[*Ts](
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """As every loop's."""
        return self._at(when, callback, args, context)

    def _at(
        self, when: float, callback: Callable[..., object], args: Any, context: Context | None
    ) -> asyncio.TimerHandle:
        self._check_closed()
        handle = _TimerHandle(when, callback, args, self, context)
        self._next_seq = seq = self._next_seq + 1
        heapq.heappush(self._timers, (when, seq, "", handle, callback))
        return handle

    # -- machines that crash or are stopped

    def crash(self, host: str) -> None:
        """Kill a machine. None of its timers fires any more: simloop would leave them to the next life."""
        self._net.crash(host)
        self._drop_timers(host)

    def sweep(self, host: str) -> bool:
        """End what the cleaning up of a crashed machine has begun; whether there was something."""
        left = [task for task in self._net._tasks[host] if not task.done()]
        for task in left:
            task.cancel()
        return self._drop_timers(host) or bool(left)

    def _drop_timers(self, host: str) -> bool:
        dropped = False
        due = (entry[2] for entry in (*self._ready, *self._stopped.get(host, ())))
        for handle in (*(entry[3] for entry in self._timers), *due):
            is_timer = isinstance(handle, asyncio.TimerHandle)
            if is_timer and not handle._cancelled and _host_of(handle) == host:
                handle.cancel()
                dropped = True
        return dropped

    def stop_machine(self, host: str) -> None:
        """As SIGSTOP: nothing of this machine runs until `go_on`; its timers pass meanwhile."""
        self._stopped.setdefault(host, [])
        self._stopped_at_s.setdefault(host, self._now)

    def go_on(self, host: str) -> None:
        """As SIGCONT: all that was due runs now."""
        if host in self._stopped:
            self._stood_s[host] = self.stood_s(host)
            del self._stopped_at_s[host]
        self._ready.extend(self._stopped.pop(host, []))

    def all_go_on(self) -> None:
        """No machine is stopped any more."""
        for host in list(self._stopped):
            self.go_on(host)

    def stood_s(self, host: str) -> float:
        """For how long this machine was stopped so far, in all."""
        return self._stood_s.get(host, 0.0) + self._now - self._stopped_at_s.get(host, self._now)

    # -- steps

    def _step(self) -> None:
        ready = self._ready
        self.steps = steps = self.steps + 1
        if not steps % _LOOK_STEPS:
            self._look()
        if not ready:
            self._advance_clock()
        count = len(ready)
        entry = ready.pop(int(self._draw() * count) if count > 1 else 0)
        handle = entry[2]
        if handle._cancelled:
            return
        if self._stopped and (host := _host_of(handle)) in self._stopped:
            self._stopped[host].append(entry)
            return
        self._note_numbers((self._now, entry[0]))
        handle._run()

    def _look(self) -> None:
        self._recorder.fold()
        if time.monotonic() > self._until_s:
            self._until_s = math.inf  # what is left to end may run
            raise OutOfTime
        if self.steps - self._moment_began > STANDING_STEPS_MAX:
            raise RuntimeError(f"the clock stands at {self._now}: something runs without a pause")
        if self.steps > self._steps_max:
            self._steps_max += STEPS_MAX  # what is left to end may run
            raise RuntimeError(f"the run is not over at {self._now} s, after {self.steps} steps")

    def _advance_clock(self) -> None:
        timers, ready = self._timers, self._ready
        while not ready:
            if not timers:
                raise SimulationDeadlockError("nothing is left to run")
            if timers[0][3]._cancelled:
                heapq.heappop(timers)
                continue
            if timers[0][0] > self._now:
                self._now, self._moment_began = timers[0][0], self.steps
            while timers and timers[0][0] <= self._now:
                _, seq, label, timer, callback = heapq.heappop(timers)
                if not timer._cancelled:
                    ready.append((seq, label, timer, callback))

    def _note_packet(self, _verb: str, packet: Any) -> None:
        self._note_numbers((packet.uid, len(packet.payload)))
