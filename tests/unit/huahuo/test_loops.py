"""The end of a loop: what the work left is cancelled, and what ignores that is left behind."""

import asyncio
import contextlib
import subprocess
import sys
import threading

import pytest

from huahuo.app.process import run
from huahuo.transport import native
from huahuo.transport.wire.sends import Sends


def test_tasks_that_the_work_left_are_cancelled() -> None:
    ended: list[str] = []

    async def wait() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append("cancelled")

    async def work() -> None:
        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        assert not task.done()

    run(work())
    assert ended == ["cancelled"]


@pytest.mark.slow
def test_neither_a_task_that_ignores_its_cancellation_nor_a_thread_that_hangs_keeps_the_loop() -> None:
    released = threading.Event()
    stubborn: list[asyncio.Task[None]] = []

    async def ignore() -> None:
        while not released.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.get_running_loop().create_future()

    async def work() -> None:
        stubborn.append(asyncio.create_task(ignore()))
        asyncio.get_running_loop().run_in_executor(None, released.wait)
        await asyncio.sleep(0)

    try:
        run(work())
        assert not stubborn[0].done()
    finally:
        released.set()
        stubborn[0]._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001  asyncio has no word for it


def test_what_the_work_raises_is_raised() -> None:
    async def fail() -> None:
        raise LookupError("no port")

    with pytest.raises(LookupError, match="no port"):
        run(fail())


def test_frames_pass_the_transports_by_where_the_extension_for_it_is_built() -> None:
    ways: list[str] = []

    async def work() -> None:
        ways.append(Sends("auto").open())

    run(work())
    assert (ways != ["transport"]) == (native.found() is not None)


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
