"""How many commands a second does an application's entity take, and what does it cost while it is idle?

The guess before the first run: over WebSocket 1,000 commands a second on one connection, bound by the disk's
commit, and 5,000 on 100; half of Pykka's plain actors, which keep nothing; five times pyeventsourcing with
many callers, whose commits SQLite makes one after the other. 1.5 KB a resident entity, 200 B a passivated
one, 0.3 ms to wake one.

Each caller sends one command after the other and waits for its answer. Ours are durable and answered, by the
clients of this process over WebSocket (`huahuo`) and by `app.send` inside the service (`app.send`). The
peers run inside the caller's process: without sockets, frames, rights or repeated command ids.
"""

import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any, Self

from bench.clients.raw_socket import RawSocket
from bench.harness.harness import OURS, Metric, Options, Sheet, interleaved
from bench.harness.procs import Child, cpu_s
from bench.servers.counters import EVENTS_EACH, PHASES, WARM_UP, call
from bench.servers.peers import counters
from huahuo.app import loops

ENTITIES, CALLERS = (1, 1_000), (1, 100)
IN_PROCESS = "app.send"
CASES = (OURS, IN_PROCESS, counters.PYKKA, counters.EVENTSOURCING)
THREADS_MAX = 4
"""Of pyeventsourcing: 16 and 100 threads were slower. One entity has one thread, or saves would conflict."""
RATES = (
    Metric("commands", "1/s", compare=True),
    Metric("p50", "ms", higher_is_better=False),
    Metric("p99", "ms", higher_is_better=False),
    Metric("cpu", "µs of the service a command", higher_is_better=False),
)
IDLE = (
    Metric("resident", "B each, its state included", higher_is_better=False),
    Metric("passivated", "B each", higher_is_better=False),
    Metric("wake_p50", f"ms, from {EVENTS_EACH} events", higher_is_better=False),
    Metric("wake_p99", "ms", higher_is_better=False),
)
NOTES = (
    "huahuo, app.send: durable, SQLite with synchronous=FULL, group commit",
    "pykka: a thread an actor, nothing is stored",
    f"eventsourcing: SQLite with synchronous=FULL, aggregates cached, at most {THREADS_MAX} threads",
)


class Connection:
    """One signed-in WebSocket with at most one command under way."""

    def __init__(self) -> None:
        self._answered: asyncio.Future[bytes] | None = None
        self._socket: RawSocket | None = None
        self._sent = 0

    @classmethod
    async def open(cls, port: int, token: str, name: str) -> Self:
        """Connect and sign in."""
        made = cls()
        made._socket = await RawSocket.connect(port, made._take, made._lost)
        said = await made._say({"action": "authenticate", "token": token, "client": name})
        assert said["success"], said
        return made

    async def command(self, key: str) -> None:
        """One command with its answer."""
        self._sent += 1
        said = await self._say({"action": "count_up", "id": f"c{self._sent}", "counter_id": key})
        assert said["type"] == "success", said

    def close(self) -> None:
        """Be gone."""
        assert self._socket is not None
        self._socket.abort()

    async def _say(self, message: dict[str, Any]) -> dict[str, Any]:
        assert self._socket is not None
        self._answered = asyncio.get_running_loop().create_future()
        self._socket.send(json.dumps(message).encode())
        said: dict[str, Any] = json.loads(await self._answered)
        return said

    def _take(self, message: bytes) -> None:
        waits = self._answered
        answers = message.startswith(
            (b'{"type":"success"', b'{"type":"error"', b'{"type":"authentication_result"')
        )
        if answers and waits is not None and not waits.done():
            waits.set_result(message)

    def _lost(self) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(ConnectionError("the service closed the connection"))


async def over_websocket(child: Child, entities: int, callers: int, seconds: float) -> dict[str, float]:
    """The figures of one case of ours."""
    port, token = child.hello["port"], child.hello["token"]
    names = [f"bench-{entities}-{callers}-{number}" for number in range(callers)]
    connections = [await Connection.open(port, token, name) for name in names]

    async def send(number: int) -> None:
        await connections[number % callers].command(f"c{number % entities}")

    await call(send, callers, seconds * WARM_UP)
    began_cpu_s = cpu_s([child.pid])
    found = await call(send, callers, seconds)
    spent_s = cpu_s([child.pid]) - began_cpu_s
    for connection in connections:
        connection.close()
    return {**found, "cpu": spent_s / (found["commands"] * seconds) * 1e6}


def rate(case: str, entities: int, callers: int, seconds: float, folder: Path) -> dict[str, float]:
    """The figures of one case."""
    if case in (OURS, IN_PROCESS):
        with Child([sys.executable, "-m", "bench.servers.counters", str(folder / "data")]) as child:
            if case == OURS:
                figures: dict[str, float] = {}

                async def measure() -> None:
                    figures.update(await over_websocket(child, entities, callers, seconds))

                loops.run(measure())
                return figures
            return child.ask(entities=entities, callers=callers, seconds=seconds)
    if case == counters.EVENTSOURCING:
        callers = min(callers, THREADS_MAX, entities)
    words = [case, str(entities), str(callers), str(seconds), str(folder)]
    with Child([sys.executable, "-m", "bench.servers.peers.counters", *words]) as child:
        return child.hello


def idle(entities: int, folder: Path) -> dict[str, float]:
    """What an entity costs that nobody uses, and how soon it is back; each phase a process of its own."""
    figures: dict[str, float] = {}
    for phase in PHASES:
        command = [sys.executable, "-m", "bench.servers.counters", str(folder / "data"), phase, str(entities)]
        with Child(command, start_timeout_s=600) as child:
            figures |= child.hello
    return figures


def run(options: Options) -> list[Sheet]:
    """See the module."""
    seconds, residents = (0.1, 50) if options.quick else (2.0, 10_000)
    sheets = []
    for entities in ENTITIES:
        for callers in CALLERS:
            title = f"{entities:,} entities, {callers} connections, each one command after the other"
            sheet = Sheet(title, RATES, notes=list(NOTES))
            sheets.append(sheet)

            def measure(
                case: str, sheet: Sheet = sheet, entities: int = entities, callers: int = callers
            ) -> None:
                with tempfile.TemporaryDirectory(dir=options.folder) as folder:
                    sheet.add(case, **rate(case, entities, callers, seconds, Path(folder)))

            interleaved(_wanted(options, sheet), options.rounds, measure, [sheet])
    sheet = Sheet(f"{residents:,} idle entities", IDLE)

    def measure_idle(case: str) -> None:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            sheet.add(case, **idle(residents, Path(folder)))

    interleaved([OURS], options.rounds, measure_idle, [sheet])
    return [*sheets, sheet]


def _wanted(options: Options, sheet: Sheet) -> list[str]:
    cases = []
    for case in CASES:
        if case in (OURS, IN_PROCESS):
            cases.append(case)
        elif options.wants(case):
            if why := counters.missing(case):
                sheet.miss(case, why)
            else:
                cases.append(case)
    return cases
