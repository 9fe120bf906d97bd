"""What the reader of a log says where the store fails, is slow, or holds more than a page."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.care.pruning import CompactionPolicy, compact
from huahuo.eventstore.core.log import StoreLog
from huahuo.eventstore.errors import Closed, Unavailable
from huahuo.eventstore.model import Ack, Append, CommandKey, CommandRecord, Head, Keyframe
from tests.support.worlds.logs import (
    MemoryEngine,
    append,
    event,
    looped,
    make_engine,
    opened,
)

FRAME = Keyframe("user/1", "fold", "print", 1, b"state")


def raising(error: Exception) -> Any:
    def job(*_: Any) -> Any:
        raise error

    return job


@pytest.mark.parametrize("error", [Closed("closed"), Unavailable("not now")])
@looped
async def test_a_keyframe_that_cannot_be_read_now_is_not_called_absent(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    async with opened(MemoryEngine()) as log:
        await log.append(append(event()))
        await log.put_keyframe(FRAME)
        monkeypatch.setattr(log.store, "keyframe", raising(error))
        with pytest.raises(type(error)):
            await log.keyframe("user/1", "fold", "print")
        assert log.corruption.sentence() is None


@looped
async def test_a_state_too_large_to_keep_is_not_kept_and_nothing_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("huahuo.eventstore.core.log.STATE_BYTES_MAX", len(FRAME.state) - 1)
    async with opened(MemoryEngine()) as log:
        await log.append(append(event()))
        await log.put_keyframe(FRAME)
        assert await log.keyframe("user/1", "fold", "print") is None


async def pruned(log: StoreLog, count: int) -> None:
    """Compact a stream, so that `count` events of it are gone."""
    await log.append(append(*[event(type="told", entity="a")] * (count + 1)))
    policy = CompactionPolicy(types=frozenset({"told"}), before_ms=1 << 60)
    assert await compact(log, policy, FakeAmbient(1), "cli/root") == count
    assert await log.check_receipts() == count


@looped
async def test_a_log_with_more_pruned_in_a_row_than_a_page_holds_is_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("huahuo.eventstore.core.reader._VERIFY_EVENTS", 10)
    async with opened(MemoryEngine()) as log:
        await pruned(log, 33)
        assert await log.verify() == log.position


@looped
async def test_a_stream_whose_end_cannot_be_asked_for_now_seems_empty_and_nothing_is_called_damaged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with opened(MemoryEngine()) as log:
        monkeypatch.setattr(log.store, "ended_head", raising(Unavailable("not now")))
        assert log.head("user/1") == Head()
        assert log.corruption.sentence() is None


@looped
async def test_a_probe_of_a_disk_that_does_not_answer_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huahuo.eventstore.core.log.PROBE_TIMEOUT_S", 0.01)
    async with opened(MemoryEngine()) as log:
        answer = asyncio.Event()
        run = log.writer._executor.run  # noqa: SLF001  the disk, as the writer reaches it

        async def slow(job: Any) -> Any:
            await answer.wait()
            return await run(job)

        monkeypatch.setattr(log.writer._executor, "run", slow)  # noqa: SLF001
        assert "takes longer than 0.01 s" in (await log.probe() or "")
        answer.set()


@pytest.mark.parametrize("name", ["memory", "sqlite", "replica"])
@looped
async def test_a_user_that_is_forgotten_leaves_no_command_ack_or_keyframe(name: str, tmp_path: Path) -> None:
    async with opened(make_engine(name, tmp_path)) as log:
        records = [CommandRecord(CommandKey(user, "c", "1"), b"", b"{}") for user in ("user/1", "user/2")]
        for record in records:
            await log.append(Append(ts_ms=1, events=(event(record.key.user),), command=record))
            await log.save_acks([Ack(record.key.user, "c", record.key.user, 1)])
            await log.put_keyframe(Keyframe(record.key.user, "fold", "print", 1, b"state"))
        await log.forget_user("user/1", ["user/1"])
        found = [await log.command(record.key) is not None for record in records]
        acks = [len(await log.acks(record.key.user)) for record in records]
        frames = [await log.keyframe(record.key.user, "fold", "print") is not None for record in records]
        assert (found, acks, frames) == ([False, True], [0, 1], [False, True])
        assert log.position == 2
