"""What a client of many streams does for one of them costs the same however many there are."""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from huahuo.transport.client.model import Cursor, Processed
from huahuo.transport.client.session import SAVE_EVERY_S
from tests.support.drivers.client_session import LOG, Bench

OF_ONE = 1.25
"""Three times as many streams may cost this much more for each: the queue of those to ask for is a heap."""


def steps(work: Callable[[], object]) -> int:
    """The bytecode instructions that Python executes for it."""
    count = 0

    def trace(frame: FrameType, event: str, _arg: object) -> Any:
        nonlocal count
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # noqa: SLF001  Python 3.12 looks for it at `settrace` alone
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def pump(bench: Bench) -> None:
    """What the client does after each call of the application."""
    bench.session.drain()
    bench.session.deadline()


def join(bench: Bench, names: list[str]) -> None:
    for name in names:
        bench.session.subscribe(name, "start", None, bench.now)
        pump(bench)
    bench.session.outgoing(bench.now)


def reading(names: list[str]) -> Bench:
    """A client that has processed one event of each of these streams, and acked none."""
    bench = Bench(window=10_000).online()
    for name in names:
        bench.session.subscribe(name, "start", None, bench.now)
    place = {"outcome": "resumed", "after": 0, "first": 1, "head": 1}
    for asked in bench.said():
        name = asked["stream"]
        bench.tell("subscribed", id=asked["id"], stream=name, log=LOG, **place)
        bench.tell("events", stream=name, seq=1, events=[{"type": "e"}])
        item = bench.session.take(name)
        assert item is not None
        bench.session.processed(name, item.era, item.last, bench.now)
        bench.session.wait_for(name, 2)
    return bench


def leave(bench: Bench, names: list[str]) -> None:
    for name in names:
        bench.session.unsubscribe(name, bench.now)
        pump(bench)
        bench.session.outgoing(bench.now)


def of_joining(count: int) -> float:
    bench, names = Bench(window=10_000).online(), streams(count)
    return steps(lambda: join(bench, names)) / count


def of_leaving(count: int) -> float:
    names = streams(count)
    bench = reading(names)
    return steps(lambda: leave(bench, names)) / count


def streams(count: int) -> list[str]:
    return [f"group/g{number}" for number in range(count)]


@pytest.mark.parametrize("cost", [of_joining, of_leaving])
def test_a_stream_costs_the_same_among_many_as_among_few(cost: Callable[[int], float]) -> None:
    assert cost(150) < OF_ONE * cost(50)


def test_the_cursors_of_streams_that_were_left_are_stored_together() -> None:
    names = streams(5)
    bench = reading(names)
    leave(bench, names)
    assert bench.session.left_at(names[0]) == Cursor(LOG, 1)
    assert bench.happened(Processed) == []
    bench.wait(SAVE_EVERY_S)
    assert [one.cursors for one in bench.happened(Processed)] == [dict.fromkeys(names, Cursor(LOG, 1))]
    assert bench.session.left_at(names[0]) is None
