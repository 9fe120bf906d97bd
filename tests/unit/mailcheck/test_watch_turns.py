"""Whose turn it is among watched mailboxes, with work that the test ends."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from huahuo.mailcheck.checks.backoff import Host
from huahuo.mailcheck.checks.look import NEVER_S, Turns, Watched


class Work:
    """Implements `Work`. A look lasts until the test ends it."""

    def __init__(self) -> None:
        self.begun: asyncio.Queue[tuple[int, asyncio.Event]] = asyncio.Queue()

    def begin(self, watched: Watched, host: Host) -> Coroutine[Any, Any, None]:
        ends = asyncio.Event()
        self.begun.put_nowait((watched.email_id, ends))
        return self._look(watched, ends)

    async def _look(self, watched: Watched, ends: asyncio.Event) -> None:
        await ends.wait()
        watched.news = False

    def ended(self, watched: Watched, host: Host, error: BaseException | None) -> None:
        assert error is None


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110  nothing tells of it
        await asyncio.sleep(0)


async def test_a_mailbox_with_news_comes_before_those_without_and_once() -> None:
    work = Work()
    turns = Turns(work, at_once=1, per_host=1)
    turns.open = True
    for number in range(1, 6):
        turns.later(turns.add(number, "imap.example.com"), 0.0)
    first, ends = await work.begun.get()
    last = turns.watched[5]
    last.news = True
    turns.later(last, 0.0)
    await until(lambda: last.due_s == NEVER_S)
    seen = [first]
    for _ in range(4):
        ends.set()
        number, ends = await work.begun.get()
        seen.append(number)
        if number == 5:
            turns.later(last, 3_600.0)
    assert seen == [1, 5, 2, 3, 4]
    ends.set()
    await until(lambda: not turns.watched[4].running)
    assert work.begun.empty()
    await turns.close()
