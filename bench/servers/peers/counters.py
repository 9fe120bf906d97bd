"""Counters of others: Pykka's plain actors, which keep nothing, and pyeventsourcing's aggregates on SQLite.

python -m bench.servers.peers.counters pykka|eventsourcing ENTITIES CALLERS SECONDS FOLDER
"""

import importlib.util
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.harness.answers import answer

PYKKA, EVENTSOURCING = "pykka", "eventsourcing"


def missing(case: str) -> str:
    """Why it cannot run here, "" if it can."""
    return "" if importlib.util.find_spec(case) else "not installed: python -m bench install"


def pykka_actors(entities: int) -> Callable[[int], object]:
    """A thread each, as Pykka has them; a command is an ask that blocks."""
    import pykka

    class Counter(pykka.ThreadingActor):
        use_daemon_thread = True

        def __init__(self) -> None:
            super().__init__()
            self.number = 0

        def on_receive(self, message: Any) -> int:  # noqa: ARG002  every message counts
            self.number += 1
            return self.number

    refs = [Counter.start() for _ in range(entities)]
    return lambda number: refs[number % entities].ask(1)


def aggregates(entities: int, path: Path) -> Callable[[int], object]:
    """As quick as one process can have it: aggregates cached and not copied, others' events not sought."""
    from eventsourcing.application import Application
    from eventsourcing.domain import Aggregate, event

    class Counter(Aggregate):
        def __init__(self) -> None:
            self.number = 0

        @event("Counted")
        def count_up(self) -> None:
            self.number += 1

    app: Any = Application(
        env={
            "PERSISTENCE_MODULE": "eventsourcing.sqlite",
            "SQLITE_DBNAME": str(path),
            "AGGREGATE_CACHE_MAXSIZE": str(entities),
            "AGGREGATE_CACHE_FASTFORWARD": "n",
            "DEEPCOPY_FROM_AGGREGATE_CACHE": "n",
        }
    )
    counters = [Counter() for _ in range(entities)]
    app.save(*counters)
    ids = [one.id for one in counters]

    def command(number: int) -> int:
        found: Any = app.repository.get(ids[number % entities])
        found.count_up()
        app.save(found)
        return int(found.number)

    return command


def call(command: Callable[[int], object], callers: int, seconds: float) -> dict[str, float]:
    """`callers` threads, each one command after the other."""
    times_s: list[float] = []
    start_s, cpu_s = time.perf_counter(), time.process_time()

    def caller(number: int) -> None:
        mine = []
        began_s = time.perf_counter()
        while began_s - start_s < seconds:
            command(number)
            number += callers
            began_s, since_s = time.perf_counter(), began_s
            mine.append(began_s - since_s)
        times_s.extend(mine)

    threads = [threading.Thread(target=caller, args=(number,)) for number in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took_s = time.perf_counter() - start_s
    cuts = statistics.quantiles(times_s, n=100) if len(times_s) > 1 else times_s * 99
    return {
        "commands": len(times_s) / took_s,
        "p50": cuts[49] * 1e3,
        "p99": cuts[98] * 1e3,
        "cpu": (time.process_time() - cpu_s) / len(times_s) * 1e6,
    }


def main() -> None:
    """The child: its figures as a line of JSON."""
    case, entities, callers, seconds, folder = sys.argv[1:]
    if case == PYKKA:
        command = pykka_actors(int(entities))
    else:
        command = aggregates(int(entities), Path(folder) / "aggregates.db")
    answer(call(command, int(callers), float(seconds)))


if __name__ == "__main__":
    main()
