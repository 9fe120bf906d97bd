"""How quick are verify, the audit queries, and a server beside a query?

The guess before the first run: the chain is checked at 350,000 events a second and core, bound by making
Python values of SQLite's rows; a question by entity or principal is one index look-up and a page of rows,
a few milliseconds; a full-text search a little more, because of the counting. The writer does not notice a
query: it runs in another process and reads another file.

Goals: verify at 500,000 events/s, a question within 50 ms, a search within 200 ms, appends beside a running
query within 10 % of those alone.

    python -m bench.audit [--events N] [--quick] [--directory DIR] [--json FILE]

`--directory` keeps the log between runs. Every number is the best and the median of its rounds.
"""

import argparse
import asyncio
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from bench.make_log import MASTER_KEY, make
from eventstore.ambient import SystemAmbient
from eventstore.audit import Audit
from eventstore.audit_index import Where
from eventstore.model import LOG_STREAM, Append, NewEvent
from eventstore.schema import sqlite_version
from eventstore.sqlite import SqliteLog
from eventstore.verify import verify
from eventstore.view import SqliteView

EVENTS = 1_000_000
ROUNDS = 7
_APPEND_CALLERS = 64
_APPEND_S = 2.0
_ambient = SystemAmbient()
BODY = b'{"type":"check_progress","email_id":17,"progress":75,"message":"%s"}' % (b"x" * 188)


async def timed(work: Callable[[], Awaitable[object]], rounds: int) -> dict[str, float]:
    """Best and median milliseconds of `rounds` runs."""
    samples: list[float] = []
    for _ in range(rounds):
        began_s = _ambient.monotonic_s()
        await work()
        samples.append((_ambient.monotonic_s() - began_s) * 1000)
    return {"best_ms": round(min(samples), 2), "median_ms": round(statistics.median(samples), 2)}


async def verifying(view: SqliteView, rounds: int) -> dict[str, Any]:
    """Events a second over the whole log."""
    found: dict[str, Any] = {"events": view.position}
    for processes in (1, os.cpu_count() or 1):
        spent = await timed(lambda processes=processes: verify(view, view.path, processes=processes), rounds)  # type: ignore[misc]
        found[f"processes {processes}"] = spent | {
            "best_events_per_s": round(view.position / spent["best_ms"] * 1000),
            "median_events_per_s": round(view.position / spent["median_ms"] * 1000),
        }
    return found


async def asking(view: SqliteView, index: Path, rounds: int) -> dict[str, Any]:
    """The time to make the index, and questions of every kind: a page of 100 rows, and count and facets."""
    audit = await Audit.open(view, index)
    try:
        behind, began_s = await audit.behind(), _ambient.monotonic_s()
        await audit.catch_up()
        spent_s = _ambient.monotonic_s() - began_s
        found: dict[str, Any] = {}
        if behind:
            found["index"] = {"events_per_s": round(behind / spent_s), "bytes": bytes_of(index)}
        sample = (await view.read(LOG_STREAM, view.position // 2, events_max=1))[0]
        late = (await audit.page(Where(), after=view.position * 9 // 10, limit=1)).rows[0]
        questions = {
            "entity": Where(entity=sample.entity),
            "principal": Where(principal=sample.principal),
            "stream and type": Where(stream=sample.stream, types=(sample.type,)),
            "principal since": Where(principal=sample.principal, since=late.timestamp),
            "text, common": Where(text="正在"),
            "text, two words": Where(text="正在处理 邮件"),
            "text, rare": Where(text="nothing-of-the-kind"),
            "text and entity": Where(text="正在", entity=sample.entity),
        }
        for name, where in questions.items():
            counted = await audit.count(where)
            found[name] = {
                "matches": counted.count if counted.exact else f"more than {counted.count}",
                "page": await timed(lambda where=where: audit.page(where), rounds),  # type: ignore[misc]
                "count and facets": await timed(lambda where=where: audit.count(where), rounds),  # type: ignore[misc]
            }
        return found
    finally:
        await audit.close()


def bytes_of(path: Path) -> int:
    """The size of a file."""
    return path.stat().st_size


async def appending(log: SqliteLog, seconds: float) -> float:
    """Durable events a second by callers that append one event each, again and again."""
    count = 0
    until_s = _ambient.monotonic_s() + seconds

    async def caller(number: int) -> None:
        nonlocal count
        event = NewEvent(f"bench/{number}", "check_progress", BODY, 1, f"bench/{number}")
        while _ambient.monotonic_s() < until_s:
            await log.append(Append(ts_ms=_ambient.now_ms(), events=(event,), principal="bench"))
            count += 1

    began_s = _ambient.monotonic_s()
    await asyncio.gather(*(caller(number) for number in range(_APPEND_CALLERS)))
    return count / (_ambient.monotonic_s() - began_s)


async def beside(directory: Path, rounds: int, seconds: float) -> dict[str, Any]:
    """Appends alone and beside a process that asks without a pause, taking turns."""
    log = await SqliteLog.open(directory, ambient=_ambient, master_key=MASTER_KEY, build="bench")
    rates: dict[bool, list[float]] = {False: [], True: []}
    asker = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.audit", "--ask", str(directory), stdout=subprocess.PIPE
    )
    try:
        assert asker.stdout is not None
        await asker.stdout.readline()
        await appending(log, seconds)
        for number in range(rounds):
            # Each is first in every other round: what else the machine does hits both alike.
            for asks in (False, True) if number % 2 else (True, False):
                asker.send_signal(signal.SIGCONT if asks else signal.SIGSTOP)
                rates[asks].append(await appending(log, seconds))
    finally:
        asker.kill()
        await asker.wait()
        await log.close()
    alone, asked = rates[False], rates[True]
    ratio = statistics.median(b / a for a, b in zip(alone, asked, strict=True))
    return {
        "alone_events_per_s": [round(rate) for rate in alone],
        "beside_events_per_s": [round(rate) for rate in asked],
        "beside/alone, median": round(ratio, 3),
        "callers": _APPEND_CALLERS,
        "body_bytes": len(BODY),
        "synchronous": "FULL",
    }


async def ask_forever(directory: Path) -> None:
    """Questions about a live log, ten a second, each for a page, a count and facets; until it is killed."""
    view = await SqliteView.open(directory)
    audit = await Audit.open(view, directory / "audit.db")
    print("asking", flush=True)
    while True:
        for where in (Where(entity="mailbox/17"), Where(text="正在处理 邮件"), Where(principal="service")):
            await audit.page(where)
            await audit.count(where)
            await asyncio.sleep(0.1)


async def measure(directory: Path, events: int, rounds: int, seconds: float) -> dict[str, Any]:
    """Everything, over a log of `events` events that is made if it is not there."""
    if not (directory / "log.db").exists():
        await make(directory, events)
    result: dict[str, Any] = {
        "python": platform.python_version(), "sqlite": sqlite_version(), "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
    }  # fmt: skip
    view = await SqliteView.open(directory)
    try:
        result["verify"] = await verifying(view, max(1, rounds // 2))
        result["audit"] = await asking(view, directory / "audit.db", rounds)
    finally:
        await view.close()
    result["appends"] = await beside(directory, 2 * rounds, seconds)
    result["load_after"] = os.getloadavg()[0]
    return result


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m bench.audit", description=__doc__)
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--quick", action="store_true", help="20,000 events: says only that it still runs")
    parser.add_argument("--directory", type=Path, help="where the log lies, or is made")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--ask", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.ask is not None:
        asyncio.run(ask_forever(arguments.ask))
        return
    events, rounds, seconds = (20_000, 1, 0.5) if arguments.quick else (arguments.events, ROUNDS, _APPEND_S)
    with tempfile.TemporaryDirectory() as temporary:
        directory = arguments.directory or Path(temporary) / "log"
        result = asyncio.run(measure(directory, events, rounds, seconds))
    text = json.dumps(result, ensure_ascii=False, indent=2)
    print(text)
    if arguments.json is not None:
        arguments.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
