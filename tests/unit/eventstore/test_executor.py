"""The thread executor: what the loop may rely on when work leaves its thread."""

import asyncio
import threading

import pytest

from huahuo.eventstore.executor import ThreadExecutor


async def test_a_job_whose_caller_is_cancelled_before_it_began_is_left_out() -> None:
    executor = ThreadExecutor(1, "work")
    may_end = threading.Event()
    ran: list[str] = []
    first = asyncio.ensure_future(executor.run(may_end.wait))
    second = asyncio.ensure_future(executor.run(lambda: ran.append("second")))
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    may_end.set()
    assert await first
    await executor.run(lambda: ran.append("third"))
    executor.close()
    assert ran == ["third"]


async def test_closing_waits_for_what_runs_and_afterwards_nothing_is_taken() -> None:
    executor = ThreadExecutor(2, "work")
    began, ran = threading.Event(), []

    def job() -> None:
        began.set()
        ran.append(threading.current_thread())

    running = asyncio.ensure_future(executor.run(job))
    await asyncio.sleep(0)
    began.wait()
    executor.close()
    executor.close()
    assert len(ran) == 1
    assert not ran[0].is_alive()
    await running
    with pytest.raises(RuntimeError, match="closed"):
        await executor.run(lambda: None)
