"""Rot in a log's file: every read gives what was written, or says by its type that it cannot."""

import contextlib
import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.blobs import blob_id
from huahuo.eventstore.care.pruning import CompactionPolicy, compact
from huahuo.eventstore.care.salvage import LOST_STREAM, Salvaged, salvage
from huahuo.eventstore.care.verify import verify
from huahuo.eventstore.core.reader import LogReader, receipt
from huahuo.eventstore.core.seal import Vault
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.model import (
    LOG_STREAM,
    Append,
    CommandKey,
    CommandRecord,
    Keyframe,
    NewEvent,
    RowPut,
    Secret,
    SecretPut,
    StoredEvent,
)
from huahuo.eventstore.sqlite import unindexed
from huahuo.eventstore.sqlite.damage import find_damage
from huahuo.eventstore.sqlite.log import SqliteLog
from huahuo.eventstore.sqlite.schema import DATABASE
from huahuo.eventstore.sqlite.view import SqliteView
from tests.support.proofs import WHOLE
from tests.support.worlds.logs import MASTER_KEY, read_joined
from tests.support.worlds.sqlite_logs import opened

STREAMS = tuple(f"group/{n}" for n in range(6))
COMPACTED = "user/1"
SEEDS = 12
BATCHES = 4 if WHOLE else 2


class Truth:
    """Everything that a log was given."""

    def __init__(self) -> None:
        self.events: dict[str, dict[int, StoredEvent]] = {}
        self.rows: dict[bytes, bytes] = {}
        self.commands: dict[CommandKey, CommandRecord] = {}
        self.blobs: dict[str, bytes] = {}
        self.states: dict[tuple[str, int], bytes] = {}
        self.secrets: dict[tuple[str, str], str] = {}
        self.kept: dict[str, list[int]] = {}


async def filled(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Truth:
    """A log with rows in each table, and with enough events that opening does not read the first."""
    monkeypatch.setattr(unindexed, "UNINDEXED_MAX", 400)
    rng, truth = random.Random(5), Truth()
    log = await opened(directory)
    log.take("one")
    log.take("two", 7)
    for n in range(150):
        events = [
            NewEvent(rng.choice(STREAMS), "said", b'{"n":%d}' % rng.getrandbits(60), entity=f"mailbox/{n}")
            for _ in range(10)
        ]
        events.append(NewEvent(COMPACTED, "progress", b'{"progress":%d}' % n))
        key = CommandKey("user/1", "client", f"command-{n}")
        record = CommandRecord(key, b"f%d" % n, b'{"reply":%d}' % n, events[-1].stream)
        row = RowPut("mailboxes", "user/1", b"%04d" % n, b"value %d" % n)
        blob, secret = b"blob %d" % n, f"secret {n}"
        done = await log.append(
            Append(
                ts_ms=n, events=tuple(events), command=record if n < 20 else None, rows=(row,),
                blobs=(blob,) if n < 20 else (),
                secrets=(SecretPut(f"mailbox/{n}", "password", Secret(secret)),) if n < 20 else (),
            )
        )  # fmt: skip
        for event in done.events:  # type: ignore[union-attr]
            truth.events.setdefault(event.stream, {})[event.seq] = event
        truth.rows[row.key] = row.value
        if n < 20:
            truth.commands[key] = done.command  # type: ignore[assignment]
            truth.blobs[blob_id(blob)] = blob
            truth.secrets[f"mailbox/{n}", "password"] = secret
    for stream in STREAMS:
        for seq in (10, 100):
            state = b"state %d of %s" % (seq, stream.encode())
            truth.states[stream, seq] = state
            await log.put_keyframe(Keyframe(stream, "fold", "f", seq, state))
    await compact(
        log, CompactionPolicy(types=frozenset({"progress"}), before_ms=1 << 60, keep=3), FakeAmbient(1), ""
    )
    for event in await log.read("audit", 0, events_max=10):
        truth.events.setdefault("audit", {})[event.seq] = event
    truth.kept = {stream: sorted(events) for stream, events in truth.events.items()}
    truth.kept[COMPACTED] = truth.kept[COMPACTED][-3:]
    await log.close()
    return truth


async def tried(read: Callable[[], Any]) -> Any:
    try:
        return await read()
    except EventStoreError as error:
        return error


async def hold(log: LogReader, truth: Truth, rng: random.Random) -> int:
    """Read everything; returns how many reads refused. Raises AssertionError for a lie."""
    refused = 0
    for stream, kept in truth.kept.items():
        head = log.head(stream)
        assert head.seq == kept[-1], f"{stream} ends at {head.seq}, not at {kept[-1]}"
        assert head.first == kept[0]
        step, after = rng.choice((3, 40, 1000)), 0
        while after < head.seq:
            page = await tried(lambda: log.read(stream, after, events_max=step))  # noqa: B023
            joined = await tried(lambda: read_joined(log, stream, after, events_max=step))  # noqa: B023
            expected = [seq for seq in kept if seq > after][:step]
            if isinstance(joined, EventStoreError):
                refused += 1
            else:
                assert joined is not None, f"{stream} hides what follows {after}"
                seqs = range(joined.first, joined.first + joined.count)
                assert list(seqs) == expected[: joined.count]
                assert joined.bodies == b",".join(truth.events[stream][seq].body for seq in seqs)
            if isinstance(page, EventStoreError):
                refused += 1
            else:
                assert page == [truth.events[stream][seq] for seq in expected[: len(page)]]
                assert page, f"{stream} hides what follows {after}"
            after = expected[-1]
    after, by_position = 0, {e.position: e for events in truth.events.values() for e in events.values()}
    while after < log.position:
        page = await tried(lambda: log.read(LOG_STREAM, after, events_max=100))  # noqa: B023
        if isinstance(page, EventStoreError):
            refused += 1
            after += 100
        else:
            assert page, f"the log hides what follows {after}"
            assert all(event == by_position[event.position] for event in page)
            after = page[-1].position
    found = await tried(lambda: log.rows("mailboxes", "user/1", limit=1000))
    if isinstance(found, EventStoreError):
        refused += 1
    else:
        assert all(truth.rows.get(key) == value for key, value in found)
    for key, value in truth.rows.items():
        row = await tried(lambda: log.row("mailboxes", "user/1", key))  # noqa: B023
        refused += isinstance(row, EventStoreError)
        assert isinstance(row, EventStoreError) or row in (value, None)
    for command, record in truth.commands.items():
        said = await tried(lambda: log.command(command))  # noqa: B023
        refused += isinstance(said, EventStoreError)
        assert isinstance(said, EventStoreError) or said in (record, None)
    for name, data in truth.blobs.items():
        blob = await tried(lambda: log.blob(name))  # noqa: B023
        refused += isinstance(blob, EventStoreError)
        assert isinstance(blob, EventStoreError) or blob in (data, None)
    for (stream, seq), state in truth.states.items():
        frame = await tried(lambda: log.keyframe(stream, "fold", "f", at=seq))  # noqa: B023
        assert isinstance(frame, EventStoreError) or frame is None or frame.seq < seq or frame.state == state
    if isinstance(log, SqliteLog):
        for (owner, what), secret in truth.secrets.items():
            told = await tried(lambda: log.secret(owner, what))  # noqa: B023
            assert isinstance(told, EventStoreError) or told in (Secret(secret), None)
    return refused + log.corruption.found


async def looked_at(directory: Path, truth: Truth, rng: random.Random) -> int:
    """Both ways to open a log."""
    refused = 0
    for way in (lambda: SqliteView.open(directory), lambda: opened(directory)):
        log = await tried(way)
        if isinstance(log, EventStoreError):
            refused += 1
            continue
        try:
            refused += await hold(log, truth, rng)
        finally:
            await log.close()
    return refused


FLIPPED = "flipped"
_PICK = "(SELECT rowid FROM {0} ORDER BY rowid LIMIT 1 OFFSET {1} % (SELECT count(*) FROM {0}))"


def damage(path: Path, rng: random.Random, kind: str) -> None:
    """One accident. What is done by statements leaves the pages whole, as SQLite sees them."""
    if kind == FLIPPED:
        raw = bytearray(path.read_bytes())
        raw[rng.randrange(100, len(raw))] ^= 1 << rng.randrange(8)
        path.write_bytes(raw)
        return
    n = rng.randrange(1000)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        if kind == "position":
            by = rng.choice((-1, 1, 7))
            where = f"position = {n + 20}"
            statement = f"UPDATE seq_index SET position = position + {by} WHERE {where}"
        elif kind == "lost place":
            statement = f"DELETE FROM seq_index WHERE position = {n + 20}"
        elif kind == "lost event":
            statement = f"DELETE FROM event WHERE position = {n % 400 + 10}"
        elif kind == "body":
            other = f"(SELECT body FROM event WHERE position = {n + 21})"
            statement = f"UPDATE event SET body = {other} WHERE position = {n + 20}"
        else:
            table, column = kind.split(".")
            a, b = _PICK.format(table, n % 11), _PICK.format(table, n % 7 + 1)
            other = f"(SELECT {column} FROM {table} WHERE rowid = {b})"
            statement = f"UPDATE {table} SET {column} = {other} WHERE rowid = {a}"
        with contextlib.suppress(sqlite3.IntegrityError):  # it met a row that is not there
            connection.execute(statement)


KINDS = (
    "position", "lost place", "lost event", "body", "event.seq", "event.type", "event.entity",
    "event.chain", "projection.value", "command.reply", "keyframe.state", "blob.packed", "sealed.box",
    "data_key.wrapped", "counter.next", "stream.first", "meta.value", "pruned.seq",
)  # fmt: skip


@pytest.mark.parametrize("batch", range(BATCHES))
async def test_no_read_of_a_log_with_an_accident_tells_anything_but_the_truth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    truth = await filled(tmp_path / "whole", monkeypatch)
    assert find_damage(tmp_path / "whole" / DATABASE) == []
    assert await looked_at(tmp_path / "whole", truth, random.Random(0)) == 0
    seen = dict.fromkeys((FLIPPED, *KINDS), 0)
    for seed in range(batch * SEEDS, (batch + 1) * SEEDS):
        rng = random.Random(seed)
        kind = FLIPPED if seed % 3 else rng.choice(KINDS)
        directory = tmp_path / f"seed-{seed}"
        shutil.copytree(tmp_path / "whole", directory)
        damage(directory / DATABASE, rng, kind)
        try:
            found = find_damage(directory / DATABASE)
            refused = await looked_at(directory, truth, rng)
            assert found or not refused, "doctor sees nothing where a read was refused"
            seen[kind] += refused > 0
        except Exception as error:
            error.add_note(f"seed {seed}, {kind}")
            raise
        shutil.rmtree(directory)
    assert seen[FLIPPED]


async def salvaged(damaged: Path, into: Path) -> tuple[SqliteLog, Salvaged]:
    """The log that `huahuo salvage` makes of a damaged one."""
    ambient = FakeAmbient(2)
    found = salvage(damaged, into, Vault(MASTER_KEY, ambient).mark())
    log = await SqliteLog.open(into, ambient=ambient, master_key=MASTER_KEY, build="b", restored=True)
    if found.lost:
        await log.append(Append(ts_ms=1, events=(receipt(found.lost, {}, 1),)))
    return log, found


async def holds_what_was_left(log: SqliteLog, truth: Truth, found: Salvaged) -> None:
    """Every event is there as it was, or is listed as lost; rows, answers and secrets likewise."""
    lost = {(stone.stream, stone.seq) for stone in found.lost}
    unknown = sum(stone.stream == LOST_STREAM for stone in found.lost)
    for stream, kept in truth.kept.items():
        there = {event.seq: event for event in await log.read(stream, 0, events_max=5000)}
        for seq in kept:
            event, was = there.get(seq), truth.events[stream][seq]
            if event is None:
                unknown -= (stream, seq) not in lost
                continue
            assert (event.body, event.type, event.ts_ms, event.position) == (
                was.body, was.type, was.ts_ms, was.position
            )  # fmt: skip
        assert set(there) <= {*kept, *range(kept[-1] + 1, kept[-1] + 3)}, "only the receipt is new"
    assert unknown >= 0, "an event is missing, and no tombstone stands for it"
    for key, value in await log.rows("mailboxes", "user/1", limit=1000):
        assert truth.rows[key] == value
    for command, record in truth.commands.items():
        assert await log.command(command) in (record, None)
    for (owner, what), secret in truth.secrets.items():
        assert await log.secret(owner, what) in (Secret(secret), None)
    assert log.take("one") > 1 << 30, "no number is given out again"


@pytest.mark.parametrize("batch", range(BATCHES))
async def test_a_salvage_takes_what_is_whole_and_names_what_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    truth = await filled(tmp_path / "whole", monkeypatch)
    some_lost = 0
    for seed in range(batch * SEEDS, (batch + 1) * SEEDS):
        rng = random.Random(seed)
        directory, into = tmp_path / f"seed-{seed}", tmp_path / f"salvaged-{seed}"
        shutil.copytree(tmp_path / "whole", directory)
        for _ in range(rng.choice((0, 1, 1, 3))):
            damage(directory / DATABASE, rng, FLIPPED if rng.random() < 0.6 else rng.choice(KINDS))
        try:
            log, found = await salvaged(directory, into)
            try:
                await holds_what_was_left(log, truth, found)
                await verify(log, into / DATABASE)
                assert len(found.lost) <= 400, "more than three pages of events"
                some_lost += bool(found.lost)
            finally:
                await log.close()
            assert find_damage(into / DATABASE) == []
        except Exception as error:
            error.add_note(f"seed {seed}")
            raise
        shutil.rmtree(directory)
        shutil.rmtree(into)
    assert some_lost
