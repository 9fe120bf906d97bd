"""States from keyframes and events."""

from huahuo.eventstore.errors import Unavailable
from huahuo.eventstore.model import Append, Keyframe
from huahuo.replay.history.keyframe_writer import KeyframeWriter
from huahuo.replay.history.keyframes import KeyframePolicy, state_at
from tests.support.models.faulty_log import FaultyLog, faulty_log
from tests.support.worlds.entities import Account, AccountDecider, moved

STREAM = "account/a"


async def account_log(deposits: int = 10) -> FaultyLog:
    """A log whose account got 1, 2, 3, … and so holds n(n+1)/2 after event n."""
    log = await faulty_log()
    if deposits:
        events = tuple(moved(STREAM, amount) for amount in range(1, deposits + 1))
        await log.append(Append(ts_ms=1, events=events))
    return log


async def balance(
    log: FaultyLog, at: int | None = None, fold: AccountDecider | None = None
) -> tuple[int, int]:
    seq, state = await state_at(log, STREAM, fold or AccountDecider(), at=at)
    return seq, state.balance


async def test_an_unreadable_keyframe_is_passed_over() -> None:
    log = await account_log()
    await log.put_keyframe(Keyframe(STREAM, "account", "v1", 8, b"not a state"))
    assert await balance(log) == (10, 55)


async def test_too_many_bytes_of_keyframes_at_once_are_left_out() -> None:
    log = await account_log()
    writer = KeyframeWriter(log, KeyframePolicy(), pending_bytes_max=1)
    size = writer.offer(STREAM, AccountDecider(), 8, Account(STREAM))
    assert writer.pending_bytes == size
    assert writer.offer(STREAM, AccountDecider(), 9, Account(STREAM)) is None
    await writer.flush()
    assert (writer.written, writer.left_out, writer.pending_bytes) == (1, 1, 0)


async def test_too_many_keyframes_at_once_are_left_out() -> None:
    log = await account_log()
    writer = KeyframeWriter(log, KeyframePolicy(), pending_max=1)
    assert writer.offer(STREAM, AccountDecider(), 8, Account(STREAM)) is not None
    assert writer.offer(STREAM, AccountDecider(), 9, Account(STREAM)) is None
    await writer.flush()
    assert (writer.written, writer.left_out) == (1, 1)


async def test_a_keyframe_that_cannot_be_stored_harms_nobody() -> None:
    log = await account_log()
    log.keyframe_fault = Unavailable("no disk")
    writer = KeyframeWriter(log, KeyframePolicy())
    writer.offer(STREAM, AccountDecider(), 8, Account(STREAM))
    await writer.flush()
    assert writer.failed == 1
