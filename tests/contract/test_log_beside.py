"""The contract of the log: the records that commit with the events. Every engine keeps it."""

import asyncio
from pathlib import Path

import pytest

from huahuo.eventstore.blobs import blob_id
from huahuo.eventstore.errors import Conflict
from huahuo.eventstore.limits import KEYFRAME_SPAN, weigh
from huahuo.eventstore.model import (
    Append,
    Appended,
    CommandRecord,
    Duplicate,
    Keyframe,
    RowDrop,
    RowPut,
    Secret,
    SecretPut,
)
from tests.support.worlds.logs import (
    ENGINES,
    LONE_ENGINES,
    Engine,
    append,
    command,
    command_key,
    event,
    make_engine,
    opened,
)


@pytest.fixture(params=LONE_ENGINES)
def lone_engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    """One whose log no other node shares, so that numbers need no reservation."""
    return make_engine(request.param, tmp_path)


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    return make_engine(request.param, tmp_path)


# Commands


async def test_a_command_is_remembered_for_seven_days_whatever_else_happens(engine: Engine) -> None:
    async with opened(engine) as log:
        await log.append(command("c1", event("a")))
        engine.ambient.advance(7 * 24 * 3600)
        for number in range(3):
            engine.ambient.advance(3600)
            await log.append(command(f"later-{number}", event("a")))
        assert isinstance(await log.append(command("c1", event("a"))), Duplicate)


# Counters


async def test_a_number_taken_during_a_commit_is_safe_with_the_next(lone_engine: Engine) -> None:
    log = await lone_engine.open()
    running = asyncio.ensure_future(log.append(append(event("a"))))
    await asyncio.sleep(0)
    number = log.take("mail", 10)
    await running
    await log.append(append(event("a")))
    await lone_engine.crash(log)
    async with opened(lone_engine) as again:
        assert again.take("mail") == number + 10


async def test_a_number_is_safe_although_the_append_before_it_was_refused(lone_engine: Engine) -> None:
    log = await lone_engine.open()
    log.take("mail")
    with pytest.raises(Conflict):
        await log.append(append(event("a"), expected={"a": 1}))
    await log.append(append(event("a")))
    await lone_engine.crash(log)
    async with opened(lone_engine) as again:
        assert again.take("mail") == 2


# Secrets


async def test_many_secrets_of_one_append_are_kept_also_where_an_owner_had_some(engine: Engine) -> None:
    async with opened(engine) as log:
        old = SecretPut("mailbox/7", "token", Secret("old"))
        await log.append(Append(ts_ms=1, secrets=(old,)))
        many = [SecretPut(f"mailbox/{n}", name, Secret(f"{name} {n}")) for n in range(50) for name in "ab"]
        await log.append(Append(ts_ms=1, secrets=tuple(many)))
        for put in (old, *many):
            assert await log.secret(put.owner, put.name) == put.value


# Projections


async def test_a_row_of_the_same_commit_is_found_among_other_changes_as_it_is_dropped(engine: Engine) -> None:
    row, drop = RowPut("t", "p", b"1", b"v"), RowDrop("t", "p", b"1", (blob_id(b"mail"),))
    others = (RowPut("t", "p", b"2", b"v"), RowPut("t", "q", b"1", b"v"), RowDrop("u", "p", b"1"))
    async with opened(engine) as log:
        await asyncio.gather(
            log.append(Append(ts_ms=1, blobs=(b"mail",), rows=(row,))),
            log.append(Append(ts_ms=1, blobs=(b"else",))),
            log.append(Append(ts_ms=1, rows=(*others, drop))),
        )
        assert await log.blob(blob_id(b"mail")) is None
        assert await log.blob(blob_id(b"else")) == b"else"


async def test_a_row_that_is_dropped_releases_the_blobs_it_holds_and_an_absent_one_none(
    engine: Engine,
) -> None:
    row, drop = RowPut("t", "p", b"1", b"v"), RowDrop("t", "p", b"1", (blob_id(b"mail"),))
    async with opened(engine) as log:
        await log.append(Append(ts_ms=1, blobs=(b"mail",), rows=(row,)))
        await log.append(Append(ts_ms=1, blobs=(b"mail",)))
        await log.append(Append(ts_ms=1, rows=(drop,)))
        await asyncio.gather(*(log.append(Append(ts_ms=1, rows=(drop, drop))) for _ in range(3)))
        assert await log.blob(blob_id(b"mail")) == b"mail", "something else refers to it"
        await log.append(Append(ts_ms=1, rows=(RowDrop("t", "p"), row, RowDrop("t", "p"), drop)))
        assert await log.blob(blob_id(b"mail")) == b"mail"
        await log.append(Append(ts_ms=1, rows=(row, drop)))
        assert await log.blob(blob_id(b"mail")) is None
    with pytest.raises(ValueError, match="single row"):
        weigh(Append(ts_ms=1, rows=(RowDrop("t", "p", None, ("x",)),)))


async def test_a_command_older_than_eight_days_of_log_time_does_not_exist(engine: Engine) -> None:
    """Also if its record has not been deleted yet: that depends on when its replica last had time for it."""
    async with opened(engine) as log:
        await log.append(command("c", event()))
        engine.ambient.advance(8 * 24 * 3600 - 10)
        assert isinstance(await log.append(command("c", event())), Duplicate)
        engine.ambient.advance(20)
        assert isinstance(await log.append(command("c", event(), fingerprint=b"other")), Appended)


async def test_a_wall_clock_far_ahead_at_a_restart_in_the_first_minute_forgets_no_command(
    engine: Engine,
) -> None:
    async with opened(engine) as log:
        await log.append(command("c", event()))
    engine.ambient.advance(40 * 24 * 3600)
    async with opened(engine) as log:
        assert isinstance(await log.append(command("c", event())), Duplicate)


async def test_what_a_refused_append_carried_is_not_written(engine: Engine) -> None:
    async with opened(engine) as log:
        refused = Append(
            ts_ms=1,
            events=(event("a"),),
            expected={"a": 7},
            rows=(RowPut("t", "1", b"k", b"v"),),
            blobs=(b"x",),
            secrets=(SecretPut("o", "p", Secret("s")),),
        )
        with pytest.raises(Conflict):
            await log.append(refused)
        assert await log.row("t", "1", b"k") is None
        assert await log.blob(blob_id(b"x")) is None
        assert await log.secret("o", "p") is None


# Keyframes


def frame(seq: int, fingerprint: str = "v1", state: bytes = b"state") -> Keyframe:
    return Keyframe("a", "roster", fingerprint, seq, state)


async def test_the_newest_keyframe_up_to_a_seq_is_found(engine: Engine) -> None:
    async with opened(engine) as log:
        await log.append(append(*[event("a")] * 30))
        for seq in (10, 20, 30):
            await log.put_keyframe(frame(seq, state=b"%d" % seq * 1000))
        assert await log.keyframe("a", "roster", "v1") == frame(30, state=b"30" * 1000)
        assert await log.keyframe("a", "roster", "v1", at=29) == frame(20, state=b"20" * 1000)
        assert await log.keyframe("a", "roster", "v1", at=9) is None
        assert await log.keyframe("a", "other", "v1") is None
        assert await log.keyframe("b", "roster", "v1") is None


async def test_a_keyframe_ahead_of_its_stream_is_not_given(engine: Engine) -> None:
    async with opened(engine) as log:
        await log.append(append(event("a")))
        await log.put_keyframe(frame(2))
        assert await log.keyframe("a", "roster", "v1") is None


async def test_few_keyframes_are_kept_and_only_of_the_newest_code(engine: Engine) -> None:
    async with opened(engine) as log:
        await log.append(append(*[event("a")] * 30))
        for seq in range(1, 31):
            await log.put_keyframe(frame(seq))
        assert await log.keyframe("a", "roster", "v1", at=10) is None
        assert await log.keyframe("a", "roster", "v1", at=25) == frame(25)
        await log.put_keyframe(frame(30, "v2"))
        assert await log.keyframe("a", "roster", "v1") is None
        assert await log.keyframe("a", "roster", "v2") == frame(30, "v2")


async def test_of_older_keyframes_one_a_span_stays_so_that_any_moment_is_near_one(engine: Engine) -> None:
    async with opened(engine) as log:
        await log.append(append(*[event("a")] * 20_000))
        for seq in range(500, 20_001, 500):
            await log.put_keyframe(frame(seq))
        for at in range(5_000, 20_001, 777):
            kept = await log.keyframe("a", "roster", "v1", at=at)
            assert kept is not None
            assert at - kept.seq < KEYFRAME_SPAN + 500


async def test_a_command_that_answers_with_an_earlier_append_keeps_that_place(engine: Engine) -> None:
    async with opened(engine) as log:
        await log.append(append(event("user/1"), event("user/1")))
        record = CommandRecord(command_key("c-1"), b"f", b"{}", at_stream="user/1", at_seq=2)
        done = await log.append(Append(ts_ms=0, command=record))
        assert done.command is not None
        assert (done.command.at_stream, done.command.at_seq) == ("user/1", 2)
        assert await log.command(command_key("c-1")) == record


async def test_each_group_commit_tells_how_long_it_took(engine: Engine) -> None:
    async with opened(engine) as log:
        seconds: list[float] = []
        log.writer.observe = seconds.append
        await log.append(append(event()))
        assert len(seconds) == 1
        assert seconds[0] >= 0
