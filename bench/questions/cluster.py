"""What does an ordered log of others cost: an append over PostgreSQL and JetStream, and to the log alone?

The guess before the first run: a lone append takes three times as long as alone over one server (a round
trip, its sync, and the local commit), five times over three; in commits of 100 it is half as fast.

Each node is a process of its own, as in service. The servers are real and sync always; on one machine they
all share its disk and cores. Compare within one run.
"""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.harness.harness import Metric, Options, Sheet
from bench.harness.procs import Child, resident_bytes
from tests.support.servers.nats import nats_servers
from tests.support.servers.postgres import postgres

ALONE = "alone"
NODES = {ALONE: 1, "nats R1": 2, "nats R3": 3, "postgres": 2}
SIZES = (1, 10, 100)
ANSWER_S = 120.0
METRICS = (
    Metric("p50", "ms, lone append", higher_is_better=False, compare=True),
    Metric("p99", "ms", higher_is_better=False, compare=True),
    Metric("lag_p99", "ms from its making to another node", higher_is_better=False),
    Metric("by_1", "events/s, appends of 1", compare=True),
    Metric("by_10", "events/s, of 10", compare=True),
    Metric("by_100", "events/s, of 100", compare=True),
    Metric("cpu", "µs an event of 100, on each node", higher_is_better=False, compare=True),
    Metric("memory", "MiB, the largest node", higher_is_better=False),
)


@contextlib.contextmanager
def nodes(case: str, folder: Path) -> Iterator[Sequence[Child]]:
    """The nodes' processes. The first one begins the log."""
    with contextlib.ExitStack() as stack:
        url = ""
        if case == "postgres":
            url = stack.enter_context(postgres()).url
        elif case != ALONE:
            url = stack.enter_context(nats_servers(3 if case == "nats R3" else 1)).url
        running: list[Child] = []
        for number in range(NODES[case]):
            name = f"{case.replace(' ', '-')}-{number}"
            command = [sys.executable, "-m", "bench.servers.log_node", str(folder / name), name, url]
            running.append(stack.enter_context(Child(command)))
        yield running


def flood(running: Sequence[Child], size: int, seconds: float) -> tuple[float, float]:
    """Events a second over all nodes, and processor time in µs that each node spends on each event."""
    for node in running:
        node.send(flood=size, seconds=seconds)
    said = [node.receive(ANSWER_S) for node in running]
    events = sum(one["events"] for one in said)
    took_s = max(one["seconds"] for one in said)
    return events / took_s, sum(one["cpu_s"] for one in said) * 1e6 / events / len(running)


def at(sorted_s: Sequence[float], part: float) -> float:
    """The value of this part of them, in ms."""
    return sorted_s[min(len(sorted_s) - 1, int(len(sorted_s) * part))] * 1e3


def measure(case: str, sheet: Sheet, count: int, seconds: float, folder: Path) -> None:
    """One round of one case."""
    with nodes(case, folder) as running:
        took_s = sorted(running[0].ask(ANSWER_S, lone=count)["took_s"])
        lags_s = sorted(lag for node in running[1:] for lag in node.ask(ANSWER_S, lags=True)["lags_s"])
        rates = {size: flood(running, size, seconds) for size in SIZES}
        memory = max(resident_bytes(node.pid) for node in running)
    sheet.add(
        case, p50=at(took_s, 0.5), p99=at(took_s, 0.99), **({"lag_p99": at(lags_s, 0.99)} if lags_s else {}),
        by_1=rates[1][0], by_10=rates[10][0], by_100=rates[100][0], cpu=rates[100][1], memory=memory / 2**20,
    )  # fmt: skip


def run(options: Options) -> list[Sheet]:
    """See the module."""
    count, seconds = (50, 0.3) if options.quick else (500, 3.0)
    sheet = Sheet("an append over an ordered log of others", METRICS, ALONE)
    for turn in range(1 if options.quick else options.rounds):
        for case in NODES:
            measure(case, sheet, count, seconds, options.folder / f"{turn}")
    return [sheet]
