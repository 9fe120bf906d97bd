"""How many events a second does the log make durable, and what does one append cost?

The guess before the first run: with 256 appends in flight the log is at more than half of what raw
SQLite takes in batches, because numbering and hashing cost about as much as the insert; a lone append
costs about twice a bare commit, for the two changes of thread.

Every number comes with a raw one from the same run: the same file system, the same PRAGMAs, the same
tables, one `executemany` and one COMMIT a batch, no numbering, no hash chain, no loop. Disks are noisy:
compare within a run, never between runs.

    python -m bench.append [--quick] [--directory DIR] [--json FILE]
"""

import argparse
import asyncio
import json
import platform
import sqlite3
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from eventstore.ambient import SystemAmbient
from eventstore.model import Append, NewEvent
from eventstore.schema import connect_writer, prepare
from eventstore.sqlite import SqliteLog
from eventstore.sqlite_store import INSERT_EVENT

IN_FLIGHT = 256
STREAMS = 1000
BODY = b'{"type":"check_progress","email_id":17,"progress":75,"message":"%s"}' % (b"x" * 188)
_ambient = SystemAmbient()


def clock() -> float:
    """Seconds, for differences."""
    return _ambient.monotonic_s()


def quantile(samples_s: list[float], share: float) -> float:
    """The sample below which `share` of all lie, in milliseconds."""
    ordered = sorted(samples_s)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000


def times(samples_s: list[float]) -> dict[str, float]:
    """p50 and p99 in milliseconds."""
    return {"p50_ms": round(quantile(samples_s, 0.5), 3), "p99_ms": round(quantile(samples_s, 0.99), 3)}


class Raw:
    """SQLite alone: the same tables and settings, rows made beforehand."""

    def __init__(self, path: Path) -> None:
        self._connection = connect_writer(path)
        self._connection.execute("BEGIN")
        prepare(self._connection)
        self._connection.execute("COMMIT")
        self._position = 0

    def close(self) -> None:
        """Leave the file."""
        self._connection.close()

    def facts(self) -> dict[str, object]:
        """The settings that decide what a commit costs."""
        names = ("journal_mode", "synchronous", "page_size", "wal_autocheckpoint", "secure_delete")
        return {name: self._connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names}

    def batch(self, count: int) -> float:
        """Insert and commit `count` events; returns the seconds."""
        rows = list(self._rows(count))
        start = clock()
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(INSERT_EVENT, rows)
        self._connection.execute("COMMIT")
        return clock() - start

    def checkpoint(self) -> None:
        """Empty the write-ahead log, as the log does beside its commits."""
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _rows(self, count: int) -> Iterator[tuple[object, ...]]:
        for _ in range(count):
            self._position += 1
            at = self._position
            stream, seq = at % STREAMS, at // STREAMS + 1
            yield (at, stream, seq, 1, 1, 0, f"mailbox/{stream}", "user/42", "", 0, 1, BODY, bytes(32))


def of(number: int) -> NewEvent:
    """The event number `number`."""
    stream = number % STREAMS
    return NewEvent(f"user/{stream}", "check_progress", BODY, 1, f"mailbox/{stream}")


async def one(log: SqliteLog, start: int, count: int) -> float:
    """One append of `count` events; returns the seconds."""
    events = tuple(of(start + number) for number in range(count))
    began = clock()
    await log.append(Append(ts_ms=0, events=events, principal="user/42"))
    return clock() - began


async def in_flight(log: SqliteLog, total: int) -> tuple[float, list[float]]:
    """`total` appends of one event by `IN_FLIGHT` callers; returns seconds and each one's latency."""
    latencies: list[float] = []

    async def caller(number: int) -> None:
        for step in range(total // IN_FLIGHT):
            took_s = await one(log, number + step * IN_FLIGHT, 1)
            latencies.append(took_s)

    start = clock()
    await asyncio.gather(*(caller(number) for number in range(IN_FLIGHT)))
    return clock() - start, latencies


async def measure(directory: Path, *, effort: int) -> dict[str, object]:
    """All questions, raw and log by turns so that both meet the same minutes of the disk."""
    log = await SqliteLog.open(directory / "log", ambient=_ambient, master_key=bytes(32), build="bench")
    result: dict[str, object] = {}
    with closing(Raw(directory / "raw.db")) as raw:
        result["settings"] = raw.facts() | {
            "fsync": "one for every commit, of the write-ahead log (synchronous=FULL)",
            "sqlite": sqlite3.sqlite_version,
            "python": platform.python_version(),
            "body_bytes": len(BODY),
            "streams": STREAMS,
        }
        result["single"] = await single(log, raw, rounds=2 * effort)
        for count in (100, 1000):
            result[f"batch_{count}"] = await batches(log, raw, count, rounds=4 * effort)
        result["in_flight_256"] = await flights(log, raw, rounds=effort)
    await log.close()
    return result


async def single(log: SqliteLog, raw: Raw, *, rounds: int) -> dict[str, object]:
    """One command at a time, against a bare commit of one row."""
    bare: list[float] = []
    ours: list[float] = []
    for number in range(rounds):
        bare += [raw.batch(1) for _ in range(50)]
        ours += [await one(log, number, 1) for _ in range(50)]
    ratio = statistics.median(ours) / statistics.median(bare)
    return {"bare_commit": times(bare), "append": times(ours), "ratio_p50": round(ratio, 2)}


async def batches(log: SqliteLog, raw: Raw, count: int, *, rounds: int) -> dict[str, object]:
    """One append of many events at a time."""
    bare: list[float] = []
    ours: list[float] = []
    for number in range(rounds):
        bare.append(raw.batch(count))
        ours.append(await one(log, number * count, count))
    raw.checkpoint()
    return compared(count * rounds, sum(bare), sum(ours)) | times(ours)


async def flights(log: SqliteLog, raw: Raw, *, rounds: int) -> dict[str, object]:
    """Appends of one event with 256 in flight, against raw batches of 256."""
    total = IN_FLIGHT * 20
    bare_s = ours_s = 0.0
    latencies: list[float] = []
    for _ in range(rounds):
        bare_s += sum(raw.batch(IN_FLIGHT) for _ in range(20))
        took, some = await in_flight(log, total)
        ours_s += took
        latencies += some
    return compared(total * rounds, bare_s, ours_s) | times(latencies)


def compared(events: int, bare_s: float, ours_s: float) -> dict[str, object]:
    """Both rates and the share of raw SQLite that the log reaches."""
    return {
        "log_events_s": round(events / ours_s),
        "raw_events_s": round(events / bare_s),
        "share": round(bare_s / ours_s, 2),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rounds")
    parser.add_argument("--directory", type=Path, help="measure the file system of this directory")
    parser.add_argument("--json", type=Path, help="also write the result there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory, prefix="bench-append-") as directory:
        result = asyncio.run(measure(Path(directory), effort=1 if options.quick else 10))
    for question, answer in result.items():
        print(f"{question:14} {json.dumps(answer)}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
