"""What does an actor on the loop cost: to send to, to ask, to start, to have?

The guess before the first run, from a prototype: 400,000 tells a second to sync handlers and half of
that to async ones (a task a message), 50,000 starts a second, 650 bytes an idle actor, an awaited ask
within 10 µs. pykka's own ThreadingActor is measured on the same machine.
"""

import asyncio
import gc
import logging
import resource
import statistics
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pykka

from bench.harness.answers import answer
from bench.harness.harness import OURS, Metric, Options, Sheet, interleaved
from bench.harness.procs import Child
from huahuo.actors import LoopActor, LoopRef, Runtime
from huahuo.eventstore.ambient import SystemAmbient

ACTORS = 1000
IDLE_ACTORS = 100_000
THREADED_ACTORS = 200
_ambient = SystemAmbient()


class Counting(LoopActor):
    """Counts what it receives in a sync handler."""

    inbox_limit = 0

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def on_receive(self, message: Any) -> Any:
        """Count and echo."""
        self.count += 1
        return message


class CountingAsync(Counting):
    """Counts in an async handler, which becomes a task."""

    async def on_receive(self, message: Any) -> Any:
        """Count and echo, in a task."""
        self.count += 1
        return message


class CountingThread(pykka.ThreadingActor):
    """pykka's own, with a thread each."""

    use_daemon_thread = True

    def on_receive(self, message: Any) -> Any:
        """Echo."""
        return message


def clock() -> float:
    """Seconds, for differences."""
    return _ambient.monotonic_s()


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until `condition` holds."""
    while not condition():  # noqa: ASYNC110  the actors under test need the loop meanwhile
        await asyncio.sleep(0)


async def tells(kind: type[Counting], messages: int, *, eager: bool = False) -> dict[str, float]:
    """From the loop to a thousand actors in turn, the loop let go after each round."""
    loop = asyncio.get_running_loop()
    loop.set_task_factory(asyncio.eager_task_factory if eager else None)
    runtime = Runtime(loop)
    refs = [runtime.start(kind) for _ in range(ACTORS)]
    await until(lambda: runtime.resting)
    began_s = clock()
    for _ in range(messages // ACTORS):
        for ref in refs:
            ref.tell(1)
        await asyncio.sleep(0)
    for ref in refs:
        await ref.ask(1, block=False)
    took_s = clock() - began_s
    loop.set_task_factory(None)
    await runtime.stop()
    return {"tells_s": round(messages / took_s), "µs_each": round(took_s / messages * 1e6, 2)}


async def asks(kind: type[Counting], count: int) -> dict[str, float]:
    """One awaited ask after another, from a task on the loop."""
    runtime = Runtime(asyncio.get_running_loop())
    ref = runtime.start(kind)
    latencies_s: list[float] = []
    for _ in range(count):
        began_s = clock()
        await ref.ask(1, block=False)
        latencies_s.append(clock() - began_s)
    await runtime.stop()
    return times(latencies_s)


async def idle(count: int) -> dict[str, float]:
    """Start many, a thousand at a time, hand each a message, and measure their memory when they are idle.

    A burst of 100,000 starts would leave the memory allocated that 100,000 waiting messages used.
    """
    runtime = Runtime(asyncio.get_running_loop())
    gc.collect()
    before = resident_bytes()
    refs: list[LoopRef[Counting]] = []
    took_s = 0.0
    while len(refs) < count:
        began_s = clock()
        refs += [runtime.start(Counting) for _ in range(ACTORS)]
        await until(lambda: runtime.resting)
        took_s += clock() - began_s
        for ref in refs[-ACTORS:]:
            ref.tell(1)
        await until(lambda: runtime.resting)
    gc.collect()
    grown = resident_bytes() - before
    began_s = clock()
    await runtime.stop(timeout_s=120)
    stop_s = clock() - began_s
    return {
        "actors": count,
        "starts_s": round(count / took_s),
        "bytes_each": round(grown / count),
        "stops_s": round(count / stop_s),
    }


def blocking_asks(start: Callable[[], pykka.ActorRef[Any]], count: int) -> dict[str, float]:
    """One blocking ask after another, from a thread that has no loop."""
    ref = start()
    latencies_s: list[float] = []
    for _ in range(count):
        began_s = clock()
        ref.ask(1)
        latencies_s.append(clock() - began_s)
    ref.stop()
    return times(latencies_s)


def threaded(count: int) -> dict[str, float]:
    """Start pykka's threads and weigh them."""
    before = resident_bytes()
    began_s = clock()
    refs = [CountingThread.start() for _ in range(count)]
    took_s = clock() - began_s
    for ref in refs:
        ref.ask(1)
    grown = resident_bytes() - before
    threads = threading.active_count()
    for ref in refs:
        ref.stop()
    return {
        "actors": count,
        "starts_s": round(count / took_s),
        "bytes_each": round(grown / count),
        "threads": threads,
    }


def times(latencies_s: list[float]) -> dict[str, float]:
    """Rate, median and the slowest hundredth."""
    cuts = statistics.quantiles(latencies_s, n=100)
    return {
        "asks_s": round(len(latencies_s) / sum(latencies_s)),
        "p50_µs": round(cuts[49] * 1e6, 1),
        "p99_µs": round(cuts[98] * 1e6, 1),
    }


def resident_bytes() -> int:
    """What the process occupies now; where the system does not say, the most it ever did."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return pages * resource.getpagesize()


def measure(*, quick: bool) -> dict[str, dict[str, Any]]:
    """All questions; memory first, while the process is small."""
    few = 10 if quick else 1
    messages, count = 1_000_000 // few, 20_000 // few
    result: dict[str, dict[str, Any]] = {
        "idle": asyncio.run(idle(IDLE_ACTORS // few)),
        "tell_sync": asyncio.run(tells(Counting, messages)),
        "tell_async": asyncio.run(tells(CountingAsync, messages)),
        "tell_async_eager": asyncio.run(tells(CountingAsync, messages, eager=True)),
        "ask_await_sync": asyncio.run(asks(Counting, count)),
        "ask_await_async": asyncio.run(asks(CountingAsync, count)),
    }
    runtime = Runtime()
    result["ask_block"] = blocking_asks(lambda: runtime.start(Counting), count)
    runtime.close()
    result["thread_idle"] = threaded(THREADED_ACTORS)
    result["thread_ask_block"] = blocking_asks(CountingThread.start, count)
    return result


METRICS = (
    Metric("tells_s", "1/s"),
    Metric("µs_each", "µs/tell", higher_is_better=False),
    Metric("asks_s", "1/s"),
    Metric("p50_µs", "ask", higher_is_better=False),
    Metric("p99_µs", "ask", higher_is_better=False),
    Metric("actors"),
    Metric("starts_s", "1/s"),
    Metric("stops_s", "1/s"),
    Metric("bytes_each", higher_is_better=False),
    Metric("threads", higher_is_better=False),
)


def run(options: Options) -> list[Sheet]:
    """See the module. Each round is a process of its own, so that memory can be told apart."""
    sheet = Sheet("actors on the loop, compared with pykka's threads", METRICS, baseline="")

    def measure_once(case: str) -> None:
        del case
        command = [sys.executable, "-m", "bench.questions.actors", *(["quick"] if options.quick else [])]
        with Child(command, start_timeout_s=600) as child:
            for name, figures in child.hello.items():
                sheet.add(name, **figures)

    interleaved([OURS], options.rounds, measure_once, [sheet])
    return [sheet]


def main() -> None:
    """The child: all figures as a line of JSON."""
    logging.getLogger("pykka").setLevel(logging.ERROR)
    answer(measure(quick="quick" in sys.argv))


if __name__ == "__main__":
    main()
