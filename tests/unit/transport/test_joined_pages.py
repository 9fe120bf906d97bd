"""Joined pages: their frames equal those of events, and they are used only if no event must be looked at."""

import asyncio
from collections.abc import Sequence

from huahuo.eventstore.model import Joined
from huahuo.replay.feed import SharedReads
from huahuo.transport.protocol.dialects import DOCUMENT
from huahuo.transport.protocol.flow_control import TransportSettings
from huahuo.transport.protocol.frames import FrameCache
from tests.support.drivers.session import Driver, ModelLog, Run, payloads
from tests.support.patience import WITHIN_S


def page(log: ModelLog, stream: str, after: int, count: int) -> Run:
    events = log.streams[stream][after : after + count]
    return Run(after, joined=Joined(after + 1, len(events), b",".join(e.body for e in events)))


def reader(events: int, settings: TransportSettings | None = None) -> Driver:
    """A connection that is `events` behind in its stream and waits for the first page."""
    driver = Driver(settings=settings)
    for _ in range(events):
        driver.log.append("user/42")
    driver.hold_events = True
    driver.login(resume={"log": driver.log.log_id, "cursors": {"user/42": 0}})
    return driver


def test_a_joined_page_makes_the_frame_that_its_events_make() -> None:
    log = ModelLog()
    for _ in range(5):
        log.append("a")
    by_event = FrameCache(bytes_max=1 << 20, frame_bytes_max=1 << 18).run(
        "a", 2, log.streams["a"][1:4], batch=True
    )
    joined = page(log, "a", 1, 3).joined
    assert joined is not None
    frames = FrameCache(bytes_max=1 << 20, frame_bytes_max=1 << 18)
    framed = frames.joined("a", joined)
    assert framed == by_event
    assert frames.joined("a", joined) is framed
    assert frames.run("a", 2, log.streams["a"][1:4], batch=True) is framed


def test_a_joined_page_over_the_frame_limit_makes_no_frame_but_one_event_always_does() -> None:
    frames = FrameCache(bytes_max=1 << 20, frame_bytes_max=100)
    body = b'{"n":"%b"}' % (b"x" * 100)
    assert frames.joined("a", Joined(1, 2, body + b"," + body)) is None
    framed = frames.joined("a", Joined(1, 1, body))
    assert framed is not None
    assert body in payloads(framed.data)[0]


def test_a_page_is_joined_for_batched_connections_and_not_on_the_log() -> None:
    driver = reader(3)
    sub = driver.session.next_read()
    assert sub is not None
    assert driver.session.delivery.joins(sub)
    assert not driver.session.delivery.joins(driver.session.delivery.add("log", 0, waiting=True))
    classic = Driver(dialect=DOCUMENT).session.delivery
    assert not classic.joins(classic.add("user/42", 0, waiting=True))


def test_while_a_reply_is_awaited_a_joined_page_is_read_again_event_by_event() -> None:
    driver = reader(3)
    delivery, sub = driver.session.delivery, driver.session.next_read()
    assert sub is not None
    delivery.expect(("user/42", "c-1"))
    assert not delivery.joins(sub)
    assert driver.session.took(sub, page(driver.log, "user/42", 0, 3), 0.0) == []
    delivery.answered(("user/42", "c-1"))
    assert driver.session.next_read() is sub
    assert not delivery.joins(sub), "one way or the other it gets on"
    assert driver.session.took(sub, driver.log.run("user/42", 0, 3), 0.0)
    assert (sub.flow.sent, delivery.joins(sub)) == (3, True)


def test_a_joined_page_larger_than_the_credit_is_not_sent() -> None:
    driver = reader(5, TransportSettings(window=4))
    sub = driver.session.next_read()
    assert sub is not None
    assert driver.session.page_events_max(sub) == 4
    assert driver.session.took(sub, page(driver.log, "user/42", 0, 5), 0.0) == []
    assert (sub.flow.sent, driver.session.delivery.joins(sub)) == (0, False)


def test_pages_end_on_a_grid_so_that_readers_meet() -> None:
    driver = reader(9, TransportSettings(page_events_max=8))
    sub = driver.session.next_read()
    assert sub is not None
    assert driver.session.page_events_max(sub) == 8
    sub.flow.sent = 3
    assert driver.session.page_events_max(sub) == 5


async def test_what_is_asked_for_at_the_moment_the_last_reader_ends_is_read_too() -> None:
    async def read(keys: Sequence[int]) -> Sequence[int]:
        return keys

    reads = SharedReads(read, 1)
    got: list[int] = []

    async def ask(key: int) -> None:
        got.append(await reads.get(key))
        if key < 20:
            await ask(key + 1)

    async with asyncio.timeout(WITHIN_S):
        await ask(0)
    assert got == list(range(21))


async def test_what_nobody_waits_for_any_more_is_not_read() -> None:
    gate, read = asyncio.Event(), list[str]()

    async def slow(keys: Sequence[str]) -> Sequence[str]:
        read.extend(keys)
        await gate.wait()
        return keys

    reads = SharedReads(slow, 1)
    first = asyncio.create_task(reads.get("first"))
    given_up = asyncio.create_task(reads.get("given up"))
    last = asyncio.create_task(reads.get("last"))
    await asyncio.sleep(0)
    given_up.cancel()
    gate.set()
    assert [await first, await last] == ["first", "last"]
    assert read == ["first", "last"]


async def test_a_page_that_cannot_be_read_takes_none_of_the_others_along() -> None:
    async def read(keys: Sequence[int]) -> Sequence[int]:
        if 2 in keys:
            raise ValueError("two")
        return keys

    reads = SharedReads(read, 1, together_max=8)
    zero, one, two, three = await asyncio.gather(*map(reads.get, range(4)), return_exceptions=True)
    assert (zero, one, three) == (0, 1, 3)
    assert isinstance(two, ValueError)


async def test_a_waiter_for_cancelled_reads_is_cancelled_too() -> None:
    async def read(keys: Sequence[int]) -> Sequence[int]:
        raise asyncio.CancelledError if len(keys) == 1 else ValueError

    reads = SharedReads(read, 1, together_max=8)
    waiters = await asyncio.gather(*map(reads.get, range(4)), return_exceptions=True)
    assert all(isinstance(one, asyncio.CancelledError) for one in waiters)
