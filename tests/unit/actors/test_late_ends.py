"""Ends of jobs that could not be written: what is tried again, and what the log says of it."""

import asyncio
import contextlib

import pytest
from structlog.testing import capture_logs

from huahuo.actors.domain import job_service
from huahuo.actors.domain.job_service import LateEnds
from huahuo.actors.domain.jobs import EndJob
from huahuo.eventstore.errors import Unavailable


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_service, "AGAIN_S", 0.0)


async def ended(ends: LateEnds, job_id: int) -> None:
    with contextlib.suppress(Unavailable):
        await ends.end(job_id, EndJob("done"))


async def test_an_end_that_was_written_meanwhile_is_not_tried_again() -> None:
    tried: list[int] = []
    full, blocked, free = True, asyncio.Event(), asyncio.Event()

    async def tell(job_id: int, command: EndJob, trace: str) -> None:
        if full:
            raise Unavailable("no room")
        tried.append(job_id)
        if job_id == 1 and not blocked.is_set():
            blocked.set()
            await free.wait()

    ends = LateEnds(tell)
    with capture_logs() as said:
        await ended(ends, 1)
        await ended(ends, 2)
        full = False
        await blocked.wait()
        await ended(ends, 2)
        await ended(ends, 3)
        free.set()
        while (task := ends._task) is not None:  # noqa: SLF001  nothing else says that a round is over
            await task
        await ends.close()
    assert tried == [1, 2, 3]
    assert said == []
