"""Where a benchmark's events come from: numbers follow the calls, whatever finishes first."""

import asyncio
import re
from collections import defaultdict
from collections.abc import Sequence

import pytest

from bench.source import GROUP, Event, Source, body
from tests.support.patience import WITHIN_S


class Published:
    """Takes events, and lets later calls finish before earlier ones."""

    def __init__(self) -> None:
        self.numbers: dict[int, list[int]] = defaultdict(list)
        self.now = self.most = 0

    async def __call__(self, events: Sequence[Event]) -> None:
        for user, event in events:
            found = re.search(rb'"~":(\d+),', event)
            assert found
            self.numbers[user].append(int(found[1]))
        self.now += 1
        self.most = max(self.most, self.now)
        for _ in range(1 + self.now % 3):
            await asyncio.sleep(0)
        self.now -= 1

    def check(self, count: int) -> None:
        assert sum(map(len, self.numbers.values())) == count
        for numbers in self.numbers.values():
            assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize(("users", "in_flight"), [(3, 12), (12, 3), (7, 12)])
async def test_in_flight_calls_reach_the_wanted_number_and_numbers_follow_them(
    users: int, in_flight: int
) -> None:
    published = Published()
    done = await Source(published, body).feeds(users, in_flight, 0.02)
    published.check(done["published"])
    assert published.most == in_flight
    if in_flight >= users:  # else the users take turns, and time may be up before everybody's
        assert set(published.numbers) == set(range(1, users + 1))


async def test_an_open_loop_publishes_all_and_says_how_late() -> None:
    published = Published()
    done = await Source(published, body).feeds_rate(5, 20_000, 100)
    published.check(100)
    assert 0 <= done["late_p50_ms"] <= done["late_p99_ms"]
    published = Published()
    await Source(published, body).rate(20_000, 100)
    published.check(100)
    assert list(published.numbers) == [GROUP]


async def test_an_open_loop_says_how_long_events_took_to_become_durable() -> None:
    source: Source[bytes]

    async def publish(events: Sequence[Event]) -> None:
        source.durable(len(events))

    source = Source(publish, body)
    source.durable(1)  # outside an open loop nothing is noted
    done = await source.rate(20_000, 100)
    assert 0 <= done["durable_p50_ms"] < WITHIN_S * 1000


async def test_an_event_of_an_open_loop_does_not_wait_until_the_next_one_is_due() -> None:
    published = Published()
    async with asyncio.timeout(WITHIN_S):
        await Source(published, body).rate(per_s=0.001, count=1)
    published.check(1)


async def test_filling_gives_every_user_the_same_numbers() -> None:
    published = Published()
    assert (await Source(published, body).fill(3, 1, 700)) == {"published": 2100}
    published.check(2100)
