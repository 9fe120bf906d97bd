"""`Service.publish` from threads of the same process: how many a second, at which processor time each."""

import threading
import time
from pathlib import Path

from bench.harness.harness import Metric, Sheet
from bench.servers.peers.huahuo import ENVIRON
from huahuo import Service

THREADS = (1, 8, 64)
METRICS = (
    Metric("publishes", "1/s, durable", compare=True),
    Metric("cpu", "µs each, callers included", higher_is_better=False),
)
_FIELDS = {"percent": 75, "message": "x" * 80}


def case(threads: int) -> str:
    """The name of a row."""
    return f"{threads} threads" if threads > 1 else "1 thread"


def measure(folder: Path, threads: int, seconds: float, sheet: Sheet) -> None:
    """One round of one case: each thread publishes one event after the other."""
    service = Service(folder / "threads", environ=ENVIRON, plugins=[], port=0, log_level="error")
    service.start()
    counts = [0] * threads
    start_s, start_cpu_s = time.perf_counter(), time.process_time()

    def publish(number: int) -> None:
        while time.perf_counter() - start_s < seconds:
            service.publish(f"user/{number + 1}", "tick", _FIELDS)
            counts[number] += 1

    callers = [threading.Thread(target=publish, args=(number,)) for number in range(threads)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    took_s, cpu_s = time.perf_counter() - start_s, time.process_time() - start_cpu_s
    service.stop()
    total = max(1, sum(counts))
    sheet.add(case(threads), publishes=total / took_s, cpu=cpu_s / total * 1e6)
