"""A log of which columns of one event, or of one tombstone, are changed; and what it then answers.

All cases: `python -m tests.support.worlds.changed_columns`, for pairs of columns with `pairs`, for
events that exchanged their positions with `exchanged`.
"""

import asyncio
import json
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import combinations, product
from pathlib import Path
from typing import NamedTuple

from huahuo.eventstore.errors import Corrupt, EventStoreError, Lost
from huahuo.eventstore.model import Append, NewEvent, Pruning, StoredEvent
from huahuo.eventstore.sqlite.damage import find_damage
from huahuo.eventstore.sqlite.directory_lock import LOCK
from huahuo.eventstore.sqlite.log import SqliteLog
from huahuo.eventstore.sqlite.schema import DATABASE
from tests.support.worlds.spoilt import as_killed
from tests.support.worlds.sqlite_logs import opened

FAR: int = 1_000_000
OLD_EVENTS = 1100
"""More than an opening looks at."""

type Truth = dict[str, list[StoredEvent]]


class Case(NamedTuple):
    """`event`: which one, see `EVENTS`; `left`: `killed` or `closed`; `column` gets the value of `sql`."""

    event: str
    left: str
    column: str
    sql: str

    @property
    def table(self) -> str:
        return "pruned" if self.event.startswith("tombstone") else "event"


EVENTS = {
    "old, alone": "old-alone 1",
    "old, the last of its stream": "old 3",
    "old, with others behind it": "old 2",
    "new, alone": "alone 1",
    "new, with others behind it": "many 2",
    "new, the last of its stream": "many 4",
    "new, the newest, alone": "newest 1",
    "tombstone": "pruned 2",
    "tombstone, the last before an event": "pruned 3",
}
"""Events by name, each with its stream and seq. The newest of all is that of `newest`."""

CHANGES = {
    "seq": (f"{FAR}", "seq - 1", "seq + 1", "-7"),
    "stream": ("(SELECT id FROM stream WHERE name = 'old')", "9999", "0",
               "(SELECT id FROM stream WHERE name = 'other')"),
    "position": (f"{FAR}", "-5", "0", "(SELECT max(position) + 1 FROM event)"),
    "chain": ("CAST(substr(chain, 1, 31) || x'78' AS BLOB)", "x'" + 32 * "ab" + "'"),
    "body": ("x'7b7d20'",), "type": ("77", "(SELECT id FROM name WHERE text = 'u')"),
    "version": ("version + 1",), "ts": ("ts + 1",), "cause": ("cause + 3",),
    "entity": ("'x'",), "principal": ("'x'",), "command_id": ("'x'",), "build": ("77",),
}  # fmt: skip
_FEW_COLUMNS = ("seq", "stream", "position", "chain", "body", "type")
_IN_PAIRS = ("position", "stream", "seq", "chain", "body", "type", "cause")
_EXCHANGED = "exchanged with"
_OF_TOMBSTONES = ("stream", "seq", "position", "chain")


def cases(*, few: int = 0) -> Iterator[Case]:
    """All of them. `few`: at most so many values of the columns that matter most."""
    for event in EVENTS:
        columns = _OF_TOMBSTONES if event.startswith("tombstone") else tuple(CHANGES)
        for column in columns:
            if few and column not in _FEW_COLUMNS:
                continue
            for sql in CHANGES[column][: few or None]:
                for left in ("killed", "closed"):
                    yield Case(event, left, column, sql)


def pairs() -> Iterator[Case]:
    """Two columns of an event at once."""
    for event, left in product(EVENTS, ("killed", "closed")):
        for one, other in combinations(_IN_PAIRS, 2):
            if not event.startswith("tombstone"):
                yield Case(event, left, f"({one}, {other})", f"({CHANGES[one][0]}, {CHANGES[other][0]})")


def exchanges() -> Iterator[Case]:
    """Two events, of which each has the position of the other."""
    events = [event for event in EVENTS if not event.startswith("tombstone")]
    for (one, other), left in product(combinations(events, 2), ("killed", "closed")):
        yield Case(one, left, _EXCHANGED, other)


async def make(directory: Path) -> Truth:
    """The log, killed and closed, in the directories `killed` and `closed`. What it holds."""
    truth: Truth = {}

    async def add(log: SqliteLog, *names: str) -> None:
        events = tuple(NewEvent(name, "u" if name == "other" else "t", b'{"n":"%s"}' % name.encode())
                       for name in names)  # fmt: skip
        done = await log.append(Append(ts_ms=5, events=events))
        for event in done.events:  # type: ignore[union-attr]
            truth.setdefault(event.stream, []).append(event)

    first = directory / "closed"
    log = await opened(first)
    await add(log, "pruned", "old", "pruned", "pruned", "pruned", "old", "old-alone", "old", "pruned")
    gone = tuple(event.position for event in truth["pruned"][:3])
    await log.append(Append(ts_ms=0, prune=Pruning(gone, {"pruned": 4})))
    for _ in range(OLD_EVENTS // 100):
        await add(log, *["filler"] * 100)
    await log.close()
    log = await opened(first)
    await add(log, "many", "other", "many", "alone", "many", "filler", "other", "many", "newest")
    as_killed(first, directory / "killed")
    await log.close()
    truth["pruned"] = truth["pruned"][3:]
    return truth


def change(directory: Path, case: Case) -> None:
    stream, seq = EVENTS[case.event].split()
    with closing(sqlite3.connect(directory / DATABASE, isolation_level=None)) as connection:
        number = "(SELECT id FROM stream WHERE name = ?)"
        if case.column == _EXCHANGED:
            _exchange(connection, [EVENTS[event].split() for event in (case.event, case.sql)])
            return
        sql = f"UPDATE {case.table} SET {case.column} = {case.sql} WHERE stream = {number} AND seq = ?"
        assert connection.execute(sql, (stream, int(seq))).rowcount == 1


def _exchange(connection: sqlite3.Connection, places: list[list[str]]) -> None:
    sql = "SELECT position FROM event JOIN stream ON stream.id = stream WHERE name = ? AND seq = ?"
    one, other = (connection.execute(sql, place).fetchone()[0] for place in places)
    for before, after in ((one, -1), (other, one), (-1, other)):
        connection.execute("UPDATE event SET position = ? WHERE position = ?", (after, before))


class Verdict(NamedTuple):
    """What came of it. `wrong`: a promise that was broken, "" if none was."""

    outcome: str
    wrong: str = ""


async def judge(made: Path, directory: Path, truth: Truth, case: Case) -> Verdict:
    """Damage a copy, in `directory`, of the log `made`, and ask for everything."""
    shutil.copytree(made / case.left, directory)
    as_it_was(directory)
    change(directory, case)
    truth = {stream: list(events) for stream, events in truth.items()}
    try:
        log = await opened(directory)
    except EventStoreError as error:
        told = find_damage(directory / DATABASE) or isinstance(error, Lost)
        return Verdict(f"refused: {error}", "" if told else "doctor finds nothing")
    outcome, wrong = await _asked(log, truth)
    for stream, events in truth.items():
        try:
            done = await log.append(Append(ts_ms=9, events=(NewEvent(stream, "t", b"{}"),)))
        except EventStoreError as error:
            wrong = wrong or f"an append to {stream} is refused: {error}"
            continue
        [event] = done.events  # type: ignore[union-attr]
        if event.seq != events[-1].seq + 1:
            wrong = wrong or f"{stream} goes on at {event.seq} behind {events[-1].seq}"
        events.append(event)
    wrong = wrong or (await _asked(log, truth))[1]
    await log.close()
    try:
        log = await opened(directory)
    except EventStoreError as error:
        return Verdict(f"{outcome}, then refused: {error}", wrong)
    again, wrong_again = await _asked(log, truth)
    await log.close()
    if again != "served" and not find_damage(directory / DATABASE):
        wrong = wrong or "doctor finds nothing"
    return Verdict(outcome, wrong or (wrong_again and f"the next start: {wrong_again}"))


def as_it_was(directory: Path) -> None:
    """The lock of a copied directory names its own file."""
    lock = directory / LOCK
    left = json.loads(lock.read_bytes()) | {"inode": lock.stat().st_ino}
    lock.write_bytes(json.dumps(left).encode())


async def _asked(log: SqliteLog, truth: Truth) -> tuple[str, str]:
    refused: list[str] = []
    wrong = ""
    for stream, events in truth.items():
        if log.head(stream).seq != events[-1].seq:
            wrong = wrong or f"the head of {stream} is {log.head(stream).seq}, not {events[-1].seq}"
        for event in events if stream != "filler" else events[-3:]:
            try:
                found = await log.read(stream, event.seq - 1, events_max=1)
            except Corrupt:
                refused.append(f"{stream} {event.seq}")
                continue
            if found != [event]:
                wrong = wrong or f"{stream} {event.seq} is answered with {found}"
    known = set(log.streams(""))
    if known - truth.keys():
        wrong = wrong or f"streams that were never begun: {known - truth.keys()}"
    told = await log.probe()
    if refused and told is None:
        wrong = wrong or f"{refused} withheld while ready"
    return ("served" if not refused else f"refused alone: {', '.join(refused)}"), wrong


async def sweep(directory: Path, chosen: Iterable[Case]) -> None:
    """Print the verdict of each case."""
    truth = await make(directory)
    for n, case in enumerate(chosen):
        verdict = await judge(directory, directory / str(n), truth, case)
        told = f"{case.event}, {case.left}: {case.column} = {case.sql}: {verdict.outcome}"
        print(told if not verdict.wrong else f"WRONG {told}: {verdict.wrong}")
        shutil.rmtree(directory / str(n), ignore_errors=True)


CASES = {"pairs": pairs, "exchanged": exchanges}

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        chosen = next((CASES[word] for word in sys.argv if word in CASES), cases)
        asyncio.run(sweep(Path(directory), chosen()))
