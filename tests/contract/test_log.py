"""The contract of the log: appending, numbering, reading, listening. Every engine keeps it."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from huahuo.eventstore.errors import Closed, Conflict, InUse, TooLarge, WrongKey
from huahuo.eventstore.limits import APPEND_EVENTS_MAX, EVENT_BYTES_MAX
from huahuo.eventstore.model import Append, Appended, Joined, NewEvent, Page, StoredEvent
from tests.support.patience import WITHIN_S
from tests.support.worlds.logs import ENGINES, Engine, append, event, make_engine, opened, read_joined


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    return make_engine(request.param, tmp_path)


async def test_a_log_knows_its_types_also_after_an_opening(engine: Engine) -> None:
    async with opened(engine) as log:
        written = event("a")
        assert not log.has_type(written.type)
        await log.append(append(written))
        assert log.has_type(written.type)
    async with opened(engine) as log:
        assert log.has_type(written.type)
        assert not log.has_type("never")


async def test_what_is_submitted_has_its_place_at_once_and_fails_alone(engine: Engine) -> None:
    async with opened(engine) as log:
        first, refused, second = (
            log.submit(append(event("a", b"1"))),
            log.submit(append(event("a", b"never"), expected={"a": 7})),
            log.submit(append(event("a", b"2"))),
        )
        third = await log.append(append(event("a", b"3")))
        assert all(one.done() for one in (first, refused, second)), "appends commit in the order of the calls"
        assert isinstance(refused.exception(), Conflict)
        written = [one for one in (first.result(), second.result(), third) if isinstance(one, Appended)]
        assert [one.seq_of("a") for one in written] == [1, 2, 3]
        assert [e.body for e in await log.read("a", 0, events_max=9)] == [b"1", b"2", b"3"]
        with pytest.raises(TooLarge):  # at once, since a caller may never look at the future
            log.submit(append(event("a", bytes(EVENT_BYTES_MAX + 1))))


async def test_a_stored_event_carries_all_that_was_said_about_it(engine: Engine) -> None:
    async with opened(engine) as log:
        new = NewEvent("mailbox/17", "check_requested", '{"标题":"值\\u0000"}'.encode(), 3, "mailbox/17")
        await log.append(Append(ts_ms=123, events=(new,), principal="user/42", command_id="c-1", cause=9))
        [stored] = await log.read("mailbox/17", 0, events_max=1)
        assert (stored.type, stored.body, stored.version) == (new.type, new.body, 3)
        assert (stored.ts_ms, stored.entity, stored.principal) == (123, "mailbox/17", "user/42")
        assert (stored.command_id, stored.cause, stored.build) == ("c-1", 9, "test-1")


async def test_reading_stops_at_the_bytes_but_gives_at_least_one(engine: Engine) -> None:
    async with opened(engine) as log:
        await log.append(append(*(event("a", b"x" * 100) for _ in range(5))))
        assert len(await log.read("a", 0, events_max=10, bytes_max=250)) == 2
        assert len(await log.read("a", 0, events_max=10, bytes_max=1)) == 1


async def test_joined_bodies_fit_the_bytes_commas_included_but_one_comes_always(engine: Engine) -> None:
    async with opened(engine) as log:
        await log.append(append(*(event("a", b"%d" % n * 100) for n in range(5))))
        for bytes_max, count in ((1, 1), (99, 1), (200, 1), (201, 2), (301, 2), (302, 3), (503, 4), (504, 5)):
            joined = await read_joined(log, "a", 0, events_max=10, bytes_max=bytes_max)
            assert joined == Joined(1, count, b",".join(b"%d" % n * 100 for n in range(count)))
        large = b"x" * EVENT_BYTES_MAX
        await log.append(append(event("a", large), event("a")))
        assert await read_joined(log, "a", 5, events_max=2, bytes_max=9) == Joined(6, 1, large)


@pytest.mark.parametrize("bytes_max", [1, 150, 301, 302, 1 << 20])
async def test_pages_read_together_are_those_read_one_by_one(engine: Engine, bytes_max: int) -> None:
    async with opened(engine) as log:
        for n in range(5):
            await log.append(append(*(event(f"s-{s}", b"%d" % n * 100) for s in range(7))))
        pages = [Page(f"s-{n % 8}", n % 3, 3 - n % 4, bytes_max if n % 5 else 1 << 20) for n in range(30)]
        one_by_one = [
            await read_joined(log, p.stream, p.after, events_max=p.events_max, bytes_max=p.bytes_max)
            for p in pages
        ]
        assert None in one_by_one
        assert any(joined and joined.count == 3 for joined in one_by_one)
        for count in (0, 1, 2, 8, 9, 30):
            assert await log.read_joined_pages(pages[:count]) == one_by_one[:count]


async def test_the_log_itself_is_not_read_joined(engine: Engine) -> None:
    async with opened(engine) as log:
        await log.append(append(event("a")))
        with pytest.raises(ValueError, match="whose"):
            await read_joined(log, "log", 0, events_max=10)


async def test_a_closed_log_joins_nothing(engine: Engine) -> None:
    async with opened(engine) as log:
        await log.append(append(event("a")))
    with pytest.raises(Closed):
        await read_joined(log, "a", 0, events_max=10)


async def test_a_head_knows_its_link_once_it_was_written_or_asked_for(engine: Engine) -> None:
    async with opened(engine) as log:
        await log.append(append(event("a"), event("b")))
        link = (await log.read("a", 0, events_max=1))[0].chain
        assert log.head("a").link == link
        assert log.head("log").link == log.head("b").link
    async with opened(engine) as log:
        assert await log.links([("a", 1)]) == [link]
        assert log.head("a").link == link


async def test_heads_move_then_the_append_resolves_then_listeners_hear(engine: Engine) -> None:
    async with opened(engine) as log:
        order: list[str] = []

        def listener(events: Sequence[StoredEvent]) -> None:
            order.append(f"heard {events[0].seq} with the head at {log.head('a').seq}")
            # Runs after every task that was woken before the listener was called.
            asyncio.get_running_loop().call_soon(order.append, "after the listener")

        log.listen(listener)
        await log.append(append(event("a")))
        order.append("appender resumed")
        await asyncio.sleep(0)
        assert order == ["heard 1 with the head at 1", "appender resumed", "after the listener"]


async def test_listeners_hear_every_event_once_in_position_order_until_they_leave(engine: Engine) -> None:
    async with opened(engine) as log:
        heard: list[int] = []
        stop = log.listen(lambda events: heard.extend(e.position for e in events))
        await asyncio.gather(*(log.append(append(event(f"s/{n % 7}"))) for n in range(500)))
        assert heard == list(range(1, 501))
        stop()
        stop()
        await log.append(append(event("a")))
        assert len(heard) == 500


async def test_a_listener_that_raises_harms_nobody(engine: Engine) -> None:
    async with opened(engine) as log:
        heard: list[int] = []

        def broken(events: Sequence[StoredEvent]) -> None:
            raise RuntimeError

        log.listen(broken)
        log.listen(lambda events: heard.append(len(events)))
        await log.append(append(event("a")))
        await log.append(append(event("a")))
        assert heard == [1, 1]


async def test_an_appender_that_was_cancelled_does_not_harm_its_group(engine: Engine) -> None:
    async with opened(engine) as log:
        tasks = [asyncio.ensure_future(log.append(append(event("a", b"%d" % n)))) for n in range(10)]
        await asyncio.sleep(0)
        tasks[3].cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(done[3], asyncio.CancelledError)
        assert all(isinstance(o, Appended) for n, o in enumerate(done) if n != 3)
        assert await log.verify() == log.position


async def test_limits_are_refused_before_anything_is_written(engine: Engine) -> None:
    async with opened(engine) as log:
        for bad in (
            append(event("a", b"x" * (EVENT_BYTES_MAX + 1))),
            append(*[event("a")] * (APPEND_EVENTS_MAX + 1)),
            append(event("a" * 256)),
            append(event("a", type="t" * 256)),
            Append(ts_ms=1 << 64, events=(event("a"),)),
            Append(ts_ms=0, events=(NewEvent("a", "t", b"", 1 << 63),)),
        ):
            with pytest.raises(TooLarge):
                await log.append(bad)
        for bad in (append(event("")), append(event("log")), append(event("\ud800"))):
            with pytest.raises(ValueError, match=r"stream|surrogate"):
                await log.append(bad)
        assert log.position == 0


async def test_an_append_that_cannot_be_stored_fails_alone(engine: Engine) -> None:
    async with opened(engine) as log:
        good, bad, after = await asyncio.gather(
            log.append(append(event("a"))),
            log.append(append(event("a"), event("a", entity="\udfff"))),
            log.append(append(event("a"))),
            return_exceptions=True,
        )
        assert isinstance(bad, ValueError)
        assert isinstance(good, Appended)
        assert isinstance(after, Appended)
        assert log.head("a").seq == 2


async def test_a_closed_log_takes_and_gives_nothing(engine: Engine) -> None:
    log = await engine.open()
    await log.close()
    await log.close()
    with pytest.raises(Closed):
        await log.append(append(event("a")))
    with pytest.raises(Closed):
        await log.read("a", 0, events_max=1)
    assert await log.probe() == "the log has been closed"


async def test_closing_commits_what_waits(engine: Engine) -> None:
    log = await engine.open()
    waiting = [asyncio.ensure_future(log.append(append(event("a")))) for _ in range(2500)]
    await asyncio.sleep(0)
    await log.close()
    assert all(isinstance(done, Appended) for done in await asyncio.gather(*waiting))
    async with opened(engine) as again:
        assert again.head("a").seq == 2500


async def test_a_second_writer_is_refused(engine: Engine) -> None:
    async with opened(engine), asyncio.timeout(WITHIN_S):
        with pytest.raises(InUse):
            await engine.open()
    async with opened(engine) as log:
        assert log.position == 0


async def test_another_master_key_is_refused(engine: Engine) -> None:
    async with opened(engine):
        pass
    with pytest.raises(WrongKey):
        await engine.open(master_key=b"x" * 32)
    async with opened(engine) as log:
        assert await log.probe() is None


async def test_the_build_is_recorded_with_each_event(engine: Engine) -> None:
    async with opened(engine) as log:
        await log.append(append(event("a")))
    log = await engine.open(build="test-2")
    await log.append(append(event("a")))
    assert [e.build for e in await log.read("a", 0, events_max=9)] == ["test-1", "test-2"]
    await log.close()


async def test_verify_walks_any_part_of_the_chain(engine: Engine) -> None:
    async with opened(engine) as log:
        await log.append(append(*(event(f"s/{n % 5}") for n in range(2300))))
        assert await log.verify() == 2300
        assert await log.verify(2000) == 300
        assert await log.verify(2300) == 0
