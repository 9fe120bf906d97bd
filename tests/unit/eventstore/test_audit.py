"""Questions to the log: who, what, when and why, with full text; and an index that repairs itself."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path

import pytest

from huahuo.eventstore.audit.index import Audit, IndexDamaged, Where
from huahuo.eventstore.care.pruning import CompactionPolicy, compact
from huahuo.eventstore.core.log import StoreLog
from huahuo.eventstore.model import Append, NewEvent
from tests.support.worlds.logs import MemoryEngine, append, event, looped, opened

HOUR_MS = 3_600_000
ZERO_MS = 1_790_000_000_000  # 2026-09-21T14:13:20Z


def said(stream: str, type_: str, n: int, text: str = "", **more: str) -> Append:
    """An event an hour after the one before."""
    body = b'{"type":"%s","n":%d,"text":"%s"}' % (type_.encode(), n, text.encode())
    new = NewEvent(stream, type_, body, entity=more.get("entity", ""))
    who, command = more.get("principal", "service"), more.get("command_id", "")
    return Append(ts_ms=ZERO_MS + n * HOUR_MS, events=(new,), principal=who, command_id=command)


HISTORY = (
    said(
        "user/1", "email_added", 0, "a@example.org", entity="mailbox/1", principal="user/1", command_id="c-1"
    ),
    said("user/1", "check_progress", 1, "正在检查邮件", entity="mailbox/1"),
    said("user/2", "email_added", 2, "b@example.org", entity="mailbox/2", principal="user/2"),
    said("user/1", "check_progress", 3, "正在登录 server one", entity="mailbox/1"),
    said("user/1", "email_deleted", 4, entity="mailbox/1", principal="user/1", command_id="c-2"),
    said("auth", "revoked", 5, principal="user/9"),
)


@asynccontextmanager
async def asked(path: Path | None = None) -> AsyncIterator[tuple[StoreLog, Audit]]:
    """A log with `HISTORY` and an index at its head."""
    async with opened(MemoryEngine()) as log:
        for one in HISTORY:
            await log.append(one)
        audit = await Audit.open(log, path)
        try:
            assert await audit.catch_up()
            yield log, audit
        finally:
            await audit.close()


@pytest.mark.parametrize(
    ("where", "positions"),
    [
        (Where(), [1, 2, 3, 4, 5, 6]),
        (Where(stream="user/1"), [1, 2, 4, 5]),
        (Where(types=("email_added", "email_deleted")), [1, 3, 5]),
        (Where(principal="user/1"), [1, 5]),
        (Where(entity="mailbox/1", principal="service"), [2, 4]),
        (Where(command_id="c-2"), [5]),
        (Where(since="2026-09-21T16:13:20.000Z"), [3, 4, 5, 6]),
        (Where(until="2026-09-21T15:13:20.000Z"), [1, 2]),
        (Where(since="2026-09-21T15:13:20.000Z", until="2026-09-21T16:13:20.000Z"), [2, 3]),
        (Where(since="2027-01-01T00:00:00.000Z"), []),
        (Where(until="2020-01-01T00:00:00.000Z"), []),
        (Where(text="example"), [1, 3]),
        (Where(text="example", entity="mailbox/2"), [3]),
        (Where(text="检查"), [2]),
        (Where(text="正在"), [2, 4]),
        (Where(text="serv* one"), [4]),
        (Where(text="serv"), []),
        (Where(text="正在", since="2026-09-21T17:00:00.000Z"), [4]),
        (Where(text="check_progress"), []),
    ],
    ids=lambda value: ",".join(value.described()) if isinstance(value, Where) else "",
)
def test_a_question_finds_what_matches_all_of_it(where: Where, positions: list[int]) -> None:
    @looped
    async def check() -> None:
        async with asked() as (_, audit):
            assert [row.position for row in (await audit.page(where)).rows] == positions
            assert (await audit.count(where)).count == len(positions)

    check()


async def test_the_index_is_brought_forward_in_bounded_steps() -> None:
    async with asked() as (log, audit):
        await log.append(append(*(event() for _ in range(2500))))
        told: list[tuple[int, int]] = []
        assert not await audit.catch_up(1000, told=lambda at, upto: told.append((at, upto)))
        assert (await audit.behind(), told) == (1500, [(1006, 2506)])
        assert await audit.catch_up()


async def test_an_index_of_another_history_is_made_anew(tmp_path: Path) -> None:
    async with asked(tmp_path / "audit.db"):
        pass
    async with opened(MemoryEngine(seed=2)) as log:
        await log.append(append(event("user/5")))
        audit = await Audit.open(log, tmp_path / "audit.db")
        await audit.catch_up()
        assert [row.stream for row in (await audit.page(Where())).rows] == ["user/5"]
        assert (await audit.count(Where(text="example"))).count == 0
        await audit.close()


@pytest.mark.parametrize("damage", [b"no database at all", b"", b"SQLite format 3\x00" + bytes(2000)])
def test_an_index_that_cannot_be_read_is_made_anew(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "audit.db").write_bytes(damage)

    @looped
    async def check() -> None:
        async with asked(tmp_path / "audit.db") as (_, audit):
            assert (await audit.count(Where())).count == len(HISTORY)

    check()
    assert (tmp_path / "audit.db").stat().st_mode & 0o777 == 0o600


def spoil(path: Path, table: str) -> None:
    """The head of the first page of a table or of an index."""
    with closing(sqlite3.connect(path)) as connection:
        [page] = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", [table]).fetchone()
        [size] = connection.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * 64)


@pytest.mark.parametrize("table", ["event", "event_by_entity", "meta", "stretch", "event_fts_data"])
async def test_an_index_that_was_damaged_since_its_start_is_made_anew(tmp_path: Path, table: str) -> None:
    path = tmp_path / "audit.db"
    async with asked(path) as (log, first):
        await log.append(append(event("user/5")))
        spoil(path, table)
        audit = await Audit.open(log, path)
        for _ in range(2):
            with suppress(IndexDamaged):
                await audit.catch_up()
                page = await audit.page(Where(entity="mailbox/2", text="example"))
                break
        assert [row.position for row in page.rows] == [3]
        assert (await audit.count(Where())).count == len(HISTORY) + 1
        await audit.close()
        del first


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE event SET data = replace(data, 'b@example', 'c@example') WHERE position = 3",
        "UPDATE event SET principal = 'user/7' WHERE position = 3",
        "UPDATE event SET seq = 9 WHERE position = 3",
        "UPDATE meta SET value = '1x' WHERE key = 'position'",
    ],
)
async def test_no_row_is_shown_that_is_not_what_the_log_has(tmp_path: Path, change: str) -> None:
    path = tmp_path / "audit.db"
    async with asked(path) as (log, first):
        truth = (await first.page(Where(entity="mailbox/2"))).rows
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(change)
        audit = await Audit.open(log, path)
        with suppress(IndexDamaged):
            assert (await audit.page(Where(entity="mailbox/2"))).rows in (truth, [])
        await audit.catch_up()
        assert (await audit.page(Where(entity="mailbox/2"))).rows == truth
        await audit.close()


@pytest.mark.parametrize("copied", [True, False])
async def test_an_index_that_lacks_a_row_is_made_anew(tmp_path: Path, *, copied: bool) -> None:
    path = tmp_path / "audit.db"
    async with asked(path) as (log, audit):
        whole = await Audit.open(log, path, copied=copied)
        assert await whole.behind() == 0
        await whole.close()
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("DELETE FROM event WHERE position = 3")
        torn = await Audit.open(log, path, copied=copied)
        assert await torn.behind() == len(HISTORY)
        await torn.catch_up()
        assert (await torn.count(Where())).count == len(HISTORY)
        await torn.close()
        del audit


async def test_what_is_pruned_from_the_log_leaves_the_index_too() -> None:
    async with asked() as (log, audit):
        policy = CompactionPolicy(types=frozenset({"check_progress"}), before_ms=1 << 60)
        assert await compact(log, policy, MemoryEngine().ambient, "") == 1
        await audit.catch_up()
        assert [row.position for row in (await audit.page(Where(types=("check_progress",)))).rows] == [4]
        assert (await audit.count(Where(text="检查邮件"))).count == 0
        assert (await audit.count(Where(text="正在"))).count == 1
