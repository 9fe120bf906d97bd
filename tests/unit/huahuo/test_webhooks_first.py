"""The first webhook of a service: with it begins what finds the events that hooks are for."""

import asyncio
from typing import Any

import pytest

from huahuo.eventstore.errors import Unavailable
from huahuo.eventstore.model import Append
from huahuo.webhooks.hooks import WEBHOOKS
from tests.support.worlds.hooks import HookWorld

pytestmark = pytest.mark.virtual_time


@pytest.mark.parametrize("written", ["before", "after"])
async def test_a_first_hook_whose_making_failed_gets_everything_once_it_is_made(
    w: HookWorld, written: str
) -> None:
    """Where matching begins is kept first. If that failed, it is done again with the next attempt."""
    w.log.lose = [written]
    with pytest.raises(Unavailable):
        await w.add("t")
    await w.add("t")
    await w.write("user/42")
    await w.pass_s(1)
    assert w.receiver.got == ["user/42#1"]


async def test_a_hook_waits_for_the_first_one_that_is_being_made(w: HookWorld) -> None:
    """Else a crash between the two would leave a hook, and no place from which on events are matched."""
    first = asyncio.Event()

    def held(_append: Append) -> Any:
        w.log.before_append = None
        return first.wait()

    w.log.before_append = held
    one = asyncio.create_task(w.add("t"))
    await w.pass_s(1)
    other = asyncio.create_task(w.add("t"))
    await w.pass_s(1)
    assert not w.log.streams(WEBHOOKS)
    first.set()
    await asyncio.gather(one, other)
    await w.write("user/42")
    await w.pass_s(1)
    assert w.receiver.got == ["user/42#1", "user/42#1"]
