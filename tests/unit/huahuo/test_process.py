"""A process that serves: the end of its loop and of its parts, and what blocks the loop."""

import asyncio
import subprocess
import sys
import threading

import pytest
import structlog
from structlog.testing import capture_logs

from huahuo.app import process
from huahuo.app.process import Parts
from huahuo.eventstore.ambient import SystemAmbient
from tests.support.patience import WITHIN_S

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


DUMPS = """
import resource
from huahuo.app.process import own_the_process

most = resource.getrlimit(resource.RLIMIT_CORE)[1]
resource.setrlimit(resource.RLIMIT_CORE, (most, most))
own_the_process()
print(resource.getrlimit(resource.RLIMIT_CORE)[0])
"""


def test_a_process_that_serves_leaves_no_core_dump() -> None:
    done = subprocess.run([sys.executable, "-c", DUMPS], capture_output=True, check=True)
    assert done.stdout == b"0\n"


@pytest.mark.parametrize(
    ("looks", "told"),
    [
        ([0.25, 0.5, 0.75, 1.0, 1.25], [False, False, False, True, False]),
        ([30.0], [False]),  # the thread itself was late: it blames nobody
    ],
)
def test_a_block_of_a_second_is_told_once(looks: list[float], told: list[bool]) -> None:
    known = process.Look(0.0)
    assert [known.look(at_s) for at_s in looks] == told
    known.beat_s = now_s = looks[-1] + 0.25
    assert [known.look(now_s + later_s) for later_s in (0.25, 0.75, 1.0)] == [False, False, True]


def test_a_function_that_holds_the_loop_is_named_in_the_log() -> None:
    told = threading.Event()

    def greedy() -> None:
        told.wait(WITHIN_S)

    def heard(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        told.set()
        return event

    async def test() -> None:
        end = process.watch_loop(asyncio.get_running_loop(), SystemAmbient().monotonic_s)
        try:
            greedy()
        finally:
            end()

    with capture_logs(processors=[heard]) as lines:
        asyncio.run(test())
    assert [line["event"] for line in lines] == ["loop_blocked"]
    assert " in greedy < " in lines[0]["at"]
