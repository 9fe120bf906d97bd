"""How fast does a command come back, from the socket to the disk and back, and how many at once?

The guess before the first run: one at a time within 2× of a bare SQLite commit of the same size on the same
disk; with 256 in flight some 6,000 a second, bound by Python, not by the disk.

`publish` through the real service over a loopback WebSocket; the bare commit is one INSERT with
`synchronous=FULL` in WAL mode, in turns with the commands in the same run. The second sheet has a lean client
in a process of its own (`clients/commander.py`), with its ids, over 1, 8 and 64 connections: the guess was
20,000 a second at 50 µs of the server's processor time each, and 100,000 events a second by 100 a command.
Then a sheet for each number of connections with other systems that answer when an event is durable (`--peers
jetstream,redis,fastapi`; those that are installed). The guess was four times JetStream's rate, as much as
that of Redis, and ten times that of an INSERT a request.
The last sheet is `Service.publish` from threads: the guess was 12,000 a second from 8.
"""

import asyncio
import sqlite3
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Protocol

from bench.harness.harness import OURS, Metric, Options, Sheet, interleaved
from bench.harness.procs import Child
from bench.questions import threads
from bench.servers import accepting
from bench.servers.peers.huahuo import Huahuo
from huahuo.transport.client.client import Client

IN_FLIGHT = 256
_ANSWER_S = 60.0
BODY = "x" * 200
METRICS = (
    Metric("p50", "ms, one at a time", higher_is_better=False, compare=True),
    Metric("commands", "1/s, durable and answered"),
)


CASES = {
    "1 connection, 256 in flight": (1, 256, 1),
    "8 connections, 64 in flight each": (8, 64, 1),
    "64 connections, 8 in flight each": (64, 8, 1),
    "8 connections, 8 in flight each, 100 events a command": (8, 8, 100),
    "1 connection, one at a time": (1, 1, 1),
}
"""Connections, commands in flight on each, events of a command."""
LEAN_METRICS = (
    Metric("commands", "1/s, durable and answered", compare=True),
    Metric("events", "1/s"),
    Metric("cpu", "server µs/command", higher_is_better=False),
    Metric("p50", "ms, where one at a time", higher_is_better=False),
    Metric("refused", higher_is_better=False),
)


BESIDE = tuple(CASES)[:3]
"""The cases in which other systems are measured too."""


class Costing(Protocol):
    """A started system."""

    @property
    def port(self) -> int:
        """Where it listens."""
        ...

    def cpu_s(self) -> float:
        """Processor seconds of the server so far."""
        ...


def lean(
    case: str, sheet: Sheet, running: Costing, token: str, seconds: float, *, system: str = OURS
) -> None:
    """One round of one case. The row of another system has its name."""
    connections, in_flight, events = CASES[case]
    given = [str(running.port), token, str(connections), str(in_flight), str(events), system]
    with Child([sys.executable, "-m", "bench.clients.commander", *given]) as child:
        cpu_s = running.cpu_s()
        done = child.ask(_ANSWER_S, seconds=seconds)
        cpu_s = running.cpu_s() - cpu_s
    per_s = done["answered"] / done["seconds"]
    p50 = {"p50": statistics.median(done["took_s"]) * 1000} if done["took_s"] else {}
    sheet.add(
        case if system == OURS else system,
        commands=per_s,
        events=per_s * events,
        cpu=cpu_s / max(1, done["answered"]) * 1e6,
        refused=done["refused"],
        **p50,
    )


def bare_commit(connection: sqlite3.Connection) -> float:
    """Seconds of one durable INSERT."""
    began_s = time.perf_counter()
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO event (body) VALUES (?)", (BODY.encode(),))
    connection.execute("COMMIT")
    return time.perf_counter() - began_s


async def measure(url: str, token: str, folder: Path, rounds: int, total: int, sheet: Sheet) -> None:
    """One round of both figures."""
    database = sqlite3.connect(folder / "bare.db", isolation_level=None)
    for pragma in ("page_size=8192", "journal_mode=WAL", "synchronous=FULL"):
        database.execute(f"PRAGMA {pragma}")
    database.execute("CREATE TABLE event (position INTEGER PRIMARY KEY, body BLOB) STRICT")
    bare, commands = [], []
    async with Client(url, token=token, messages_per_s=0) as client:
        await client.send("publish", stream="group/bench", type="tick", body=BODY)
        for _ in range(rounds):
            bare.append(bare_commit(database))
            began_s = time.perf_counter()
            await client.send("publish", stream="group/bench", type="tick", body=BODY)
            commands.append(time.perf_counter() - began_s)
        limit = asyncio.Semaphore(IN_FLIGHT)

        async def one() -> None:
            async with limit:
                await client.send("publish", stream="group/bench", type="tick", body=BODY)

        began_s = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(total)))
        took_s = time.perf_counter() - began_s
    database.close()
    sheet.add(OURS, p50=statistics.median(commands) * 1000, commands=total / took_s)
    sheet.add("a bare commit", p50=statistics.median(bare) * 1000)


def run(options: Options) -> list[Sheet]:
    """See the module."""
    sheet = Sheet(f"publish over one connection, {IN_FLIGHT} in flight", METRICS)
    rounds, total = (20, 100) if options.quick else (200, 5_000)

    def measure_once(case: str) -> None:
        del case
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            folder = Path(name)
            peer = Huahuo()
            with peer.start(folder) as running:
                url = f"http://127.0.0.1:{running.port}"
                token = peer.token(1, admin=True)
                asyncio.run(measure(url, token, folder, rounds, total, sheet))

    interleaved([OURS], options.rounds, measure_once, [sheet])
    leanly = Sheet("publish with ids by a lean client", LEAN_METRICS)

    def measure_leanly(case: str) -> None:
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            peer = Huahuo()
            with peer.start(Path(name)) as running:
                lean(case, leanly, running, peer.token(1, admin=True), 0.2 if options.quick else 3.0)

    interleaved(list(CASES), options.rounds, measure_leanly, [leanly])
    others = beside(leanly, options)
    threaded = Sheet("Service.publish from threads of the same process", threads.METRICS)
    by_name = {threads.case(count): count for count in threads.THREADS}

    def measure_threads(case: str) -> None:
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            threads.measure(Path(name), by_name[case], 0.2 if options.quick else 2.0, threaded)

    interleaved(list(by_name), options.rounds, measure_threads, [threaded])
    return [sheet, leanly, *others, threaded]


def beside(ours: Sheet, options: Options) -> list[Sheet]:
    """A sheet for each of `BESIDE`: what others do, beside what was just measured of huahuo."""
    asked = {name: system for name, system in accepting.ALL.items() if options.wants(name)}
    missing = {name: why for name, system in asked.items() if (why := system.missing())}
    names = [name for name in asked if name not in missing]
    sheets = {case: Sheet(f"durable publishes, {case}", LEAN_METRICS) for case in BESIDE if asked}
    for case, sheet in sheets.items():
        sheet.samples[OURS] = dict(ours.samples[case])
        sheet.absent |= missing
        for name in names:
            sheet.note(f"{name}: {asked[name].note}")

    def measure_once(name: str) -> None:
        with (
            tempfile.TemporaryDirectory(dir=options.folder) as folder,
            asked[name].start(Path(folder)) as running,
        ):
            for case, sheet in sheets.items():
                lean(case, sheet, running, "", 1.0 if options.quick else 3.0, system=name)

    interleaved(names, options.rounds, measure_once, list(sheets.values()))
    return list(sheets.values())
