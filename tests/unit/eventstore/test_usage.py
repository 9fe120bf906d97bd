"""The bytes that each user takes: counted a little behind, exactly, over crashes, prunings and blobs."""

import random
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.blobs import blob_id
from huahuo.eventstore.care.pruning import CompactionPolicy, compact
from huahuo.eventstore.core.log import StoreLog
from huahuo.eventstore.errors import Unavailable
from huahuo.eventstore.model import Append
from huahuo.eventstore.sqlite.log import SqliteLog
from huahuo.eventstore.sqlite.schema import EVENT_BYTES
from tests.support.worlds.logs import event

BODY = b'{"a":1}'
ONE = len(BODY) + EVENT_BYTES
POLICY = CompactionPolicy(types=frozenset({"progress"}), before_ms=1 << 60)


async def opened(path: Path) -> SqliteLog:
    return await SqliteLog.open(path, ambient=FakeAmbient(), master_key=b"k" * 32, build="test")


async def counted(log: StoreLog) -> dict[str, tuple[int, int]]:
    while await log.count_usage(log.position):
        pass
    upto, found = await log.usage()
    assert upto <= log.position
    return {one.user: (one.events, one.blobs) for one in found}


async def recounted(log: StoreLog) -> dict[str, int]:
    """What all events of the log take, by reading them."""
    found: dict[str, int] = {}
    for one in await log.read("log", 0, events_max=1 << 20, bytes_max=1 << 40):
        user = one.stream if one.stream.startswith("user/") else one.principal
        if user.startswith("user/"):
            found[user] = found.get(user, 0) + len(one.body) + EVENT_BYTES
    return found


async def put(log: StoreLog, stream: str, count: int = 1, principal: str = "service", **fields: str) -> None:
    events = tuple(event(stream, BODY, **fields) for _ in range(count))
    await log.append(Append(ts_ms=1, events=events, principal=principal))


async def test_blobs_count_for_their_owner_each_reference_whole_until_it_is_dropped(tmp_path: Path) -> None:
    log = await opened(tmp_path)
    blob = bytes(range(256)) * 8
    for owner in ("user/1", "user/2", ""):
        await log.append(Append(ts_ms=1, blobs=(blob,), owner=owner))
    found = await counted(log)
    assert found["user/1"] == found["user/2"]
    size = found["user/1"][1]
    assert size > 0
    await log.append(Append(ts_ms=1, drop_blobs=(blob_id(blob),), owner="user/1"))
    assert await counted(log) == {"user/1": (0, 0), "user/2": (0, size)}
    await log.close()


async def test_counts_are_those_of_all_events_whatever_was_appended_pruned_failed_and_restarted_between(
    tmp_path: Path,
) -> None:
    chance = random.Random(1)
    log = await opened(tmp_path)
    for number in range(150):
        match chance.choice(["put", "put", "put", "count", "fail", "prune", "restart"]):
            case "put":
                stream = chance.choice(["user/1", "user/2", "user/3", "group/ops"])
                principal = chance.choice(["service", "user/1", "user/4"])
                await put(log, stream, chance.randint(1, 5), principal, type="progress", entity=f"m/{number}")
            case "count":
                await log.count_usage(log.position)
            case "fail":
                await fail(log, chance.choice(["user/1", "group/ops"]))
            case "prune":
                await compact(log, POLICY, FakeAmbient(), "root")
            case "restart" if chance.random() < 0.3:
                await log.close()
                log = await opened(tmp_path)
    assert {user: events for user, (events, _) in (await counted(log)).items()} == await recounted(log)
    await log.close()


async def fail(log: SqliteLog, stream: str) -> None:
    """An append whose commit fails at its end."""

    def refuse(*_: Any) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    store: Any = log.store
    kept = store.kept
    kept.bound, kept.due_ms = refuse, 0
    try:
        with pytest.raises(Unavailable):
            await put(log, stream, 2)
    finally:
        del kept.bound
