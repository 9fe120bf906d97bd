"""What does an ordered log of others cost: an append over PostgreSQL and JetStream, and to the log alone?

The guess before the first run: a lone append takes three times as long as alone over one server (a round
trip, its sync, and the local commit), five times over three; in commits of 100 it is half as fast.

Each node is a process of its own, as in service. The servers are real and sync always; on one machine they
all share its disk and cores. Compare within one run.
"""

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.processes import Child, answer, resident_bytes
from bench.sheets import Metric, Options, Sheet, interleaved, quantile
from huahuo.app import process
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.eventstore.core.log import StoreLog
from huahuo.eventstore.model import Append, NewEvent, StoredEvent
from huahuo.eventstore.replicated.writer import ReplicaWriter
from huahuo.eventstore.sequencer.address import LogAddress
from huahuo.eventstore.sequencer.opening import sequencer_at
from huahuo.eventstore.sqlite.log import SqliteLog, open_log
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
KEY = bytes(32)
AT_ONCE = 32
"""Appends under way at each node."""
LONE = "lone"
"""The type of events whose way to other nodes is timed: their body says when they were made."""
_BODY = b'{"type":"parcel_progress","timestamp":"2026-01-01T00:00:00.000Z","email_id":1,"progress":75}'


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
            command = [sys.executable, "-m", "bench.questions.cluster", str(folder / name), name, url]
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


def measure(case: str, sheet: Sheet, count: int, seconds: float, folder: Path) -> None:
    """One round of one case."""
    with nodes(case, folder) as running:
        took_ms = running[0].ask(ANSWER_S, lone=count)["took_ms"]
        lags_ms = [lag for node in running[1:] for lag in node.ask(ANSWER_S, lags=True)["lags_ms"]]
        rates = {size: flood(running, size, seconds) for size in SIZES}
        memory = max(resident_bytes(node.pid) for node in running)
    sheet.add(
        case, p50=quantile(took_ms, 0.5), p99=quantile(took_ms, 0.99),
        **({"lag_p99": quantile(lags_ms, 0.99)} if lags_ms else {}),
        by_1=rates[1][0], by_10=rates[10][0], by_100=rates[100][0], cpu=rates[100][1], memory=memory / 2**20,
    )  # fmt: skip


def run(options: Options) -> list[Sheet]:
    """See the module."""
    count, seconds = (50, 0.3) if options.quick else (500, 3.0)
    sheet = Sheet("an append over an ordered log of others", METRICS, ALONE)
    interleaved(NODES, options, lambda case, folder: measure(case, sheet, count, seconds, folder), [sheet])
    return [sheet]


def append(count: int, number: int) -> Append:
    """An append of `count` events, spread over streams."""
    events = tuple(NewEvent(f"user/{(number + n) % 100 + 1}", "parcel_progress", _BODY) for n in range(count))
    return Append(ts_ms=0, events=events, principal="service")


class Node:
    """One node's log: it appends, and says what that took."""

    def __init__(self, log: StoreLog) -> None:
        self._log = log
        self._lags_ms: list[float] = []
        log.listen(self._hear)

    async def lone(self, count: int) -> dict[str, Any]:
        """The times of appends that nothing else is under way with."""
        took_ms = []
        for _ in range(count):
            began_s = time.perf_counter()
            body = json.dumps({"at": time.monotonic()}).encode()
            await self._log.append(Append(ts_ms=0, events=(NewEvent("user/1", LONE, body),), principal="s"))
            took_ms.append((time.perf_counter() - began_s) * 1e3)
        return {"took_ms": took_ms}

    async def flood(self, size: int, seconds: float) -> dict[str, Any]:
        """How many events were appended, and the processor time of this process meanwhile."""
        calls = 0
        began_s, began_cpu_s = time.perf_counter(), time.process_time()

        async def caller() -> None:
            nonlocal calls
            while time.perf_counter() - began_s < seconds:
                calls += 1
                await self._log.append(append(size, calls))

        await asyncio.gather(*(caller() for _ in range(AT_ONCE)))
        return {
            "events": calls * size,
            "seconds": time.perf_counter() - began_s,
            "cpu_s": time.process_time() - began_cpu_s,
        }

    def lags(self) -> dict[str, Any]:
        """How long each event of other nodes was on its way, in ms, since the last question."""
        lags_ms, self._lags_ms = self._lags_ms, []
        return {"lags_ms": lags_ms}

    def _hear(self, events: Sequence[StoredEvent]) -> None:
        now_s = time.monotonic()
        for event in events:
            if event.type == LONE:
                self._lags_ms.append(1e3 * (now_s - float(json.loads(event.body)["at"])))


async def opened(folder: Path, name: str, url: str) -> StoreLog:
    """The log of a node, or of a service alone where no ordered log is named."""
    ambient = SystemAmbient()
    if not url:
        return await SqliteLog.open(folder, ambient=ambient, master_key=KEY, build="bench")
    log = await open_log(
        folder, ambient=ambient, master_key=KEY, build="bench", node=name,
        sequencer=sequencer_at(LogAddress(url), ambient),
    )  # fmt: skip
    assert isinstance(log.writer, ReplicaWriter)
    await log.writer.joined()
    return log


async def serve(folder: Path, name: str, url: str) -> None:
    """Answer until the parent closes the pipe."""
    log = await opened(folder, name, url)
    node = Node(log)
    answer({})
    while line := await asyncio.to_thread(sys.stdin.readline):
        asked = json.loads(line)
        if "lone" in asked:
            answer(await node.lone(asked["lone"]))
        elif "flood" in asked:
            answer(await node.flood(asked["flood"], asked["seconds"]))
        else:
            answer(node.lags())
    await log.close()


def main() -> None:
    """The child: its folder, its name, the URL of the ordered log or nothing."""
    folder, name, url = sys.argv[1:]
    process.run(serve(Path(folder), name, url))


if __name__ == "__main__":
    main()
