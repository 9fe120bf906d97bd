"""The stop of a service's parts: in reverse order, within one deadline, each guarded against the others."""

import asyncio

import pytest

from huahuo.app.process import STOP_WORK_S, AtStop, Parts

TIMEOUT_S = 10.0


def now_s() -> float:
    return asyncio.get_running_loop().time()


class Stubborn:
    """A part whose stop ignores every cancellation until it is released."""

    def __init__(self) -> None:
        self.released = asyncio.Event()
        self.cancelled = 0

    async def stop(self) -> None:
        while not self.released.is_set():
            try:
                await self.released.wait()
            except asyncio.CancelledError:
                self.cancelled += 1


@pytest.mark.virtual_time
async def test_parts_are_stopped_in_reverse_order_of_their_start() -> None:
    seen: list[str] = []
    parts = Parts()
    for name in ("log", "entities", "connections"):
        parts.add(name, lambda name=name: seen.append(name))  # type: ignore[misc]
    await parts.stop(TIMEOUT_S)
    assert seen == ["connections", "entities", "log"]


@pytest.mark.virtual_time
async def test_a_part_learns_how_long_it_may_take_and_the_time_is_shared() -> None:
    told: list[float] = []

    async def take_all(timeout_s: float) -> None:
        told.append(timeout_s)
        await asyncio.sleep(timeout_s)

    parts = Parts()
    for name in "abc":
        parts.add_timed(name, take_all)
    await parts.stop(TIMEOUT_S)
    assert now_s() <= TIMEOUT_S
    first, *others = told
    assert first > TIMEOUT_S / 2
    assert all(0 < left_s <= TIMEOUT_S - first for left_s in others)


@pytest.mark.virtual_time
async def test_parts_that_hang_hold_the_stop_no_longer_than_the_deadline() -> None:
    parts = Parts()
    stubborn = [Stubborn() for _ in range(12)]
    for number, part in enumerate(stubborn):
        parts.add(str(number), part.stop)
    await parts.stop(TIMEOUT_S)
    assert now_s() <= TIMEOUT_S + 0.001
    assert all(part.cancelled for part in stubborn)
    for part in stubborn:
        part.released.set()


@pytest.mark.virtual_time
async def test_after_a_part_that_hangs_a_later_part_still_has_time_to_stop_in_good_order() -> None:
    parts, stubborn, closed_s = Parts(), Stubborn(), []

    async def close_log() -> None:
        await asyncio.sleep(TIMEOUT_S / 50)
        closed_s.append(now_s())

    parts.add("log", close_log)
    parts.add("connections", stubborn.stop)
    await parts.stop(TIMEOUT_S)
    assert closed_s
    assert closed_s[0] <= TIMEOUT_S
    stubborn.released.set()


@pytest.mark.virtual_time
async def test_a_part_that_fails_keeps_no_other_from_being_stopped_and_its_error_is_raised() -> None:
    seen: list[str] = []

    async def fail() -> None:
        raise OSError("the files are gone")

    parts = Parts()
    parts.add("log", lambda: seen.append("log"))
    parts.add("entities", fail)
    with pytest.raises(OSError, match="gone"):
        await parts.stop(TIMEOUT_S)
    assert seen == ["log"]


@pytest.mark.virtual_time
async def test_a_second_stop_has_nothing_to_do() -> None:
    stops: list[int] = []
    parts = Parts()
    parts.add("log", lambda: stops.append(1))
    await parts.stop(TIMEOUT_S)
    await parts.stop(TIMEOUT_S)
    assert len(stops) == 1


@pytest.mark.virtual_time
async def test_a_stop_waits_for_work_that_ends_because_of_it_and_not_for_ever() -> None:
    told, done, stuck = AtStop(), asyncio.Event(), asyncio.Event()

    async def ends() -> None:
        await asyncio.sleep(1)
        done.set()

    told.add(lambda: asyncio.ensure_future(ends()))
    told.begin()
    await told.finish(TIMEOUT_S)
    assert done.is_set()
    began_s, work = now_s(), asyncio.ensure_future(stuck.wait())
    told.add(lambda: work)  # told at once, as the stop has begun
    await told.finish(TIMEOUT_S)
    assert now_s() - began_s == pytest.approx(STOP_WORK_S)
    stuck.set()
    await work


async def test_who_no_longer_wants_to_know_of_a_stop_is_not_told() -> None:
    told, heard = AtStop(), list[str]()
    told.add(lambda: heard.append("first"))
    told.add(lambda: heard.append("second"))()
    told.begin()
    await told.finish(TIMEOUT_S)
    assert heard == ["first"]
