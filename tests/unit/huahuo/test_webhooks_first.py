"""The first webhook of a service: with it begins what finds the events that hooks are for."""

import asyncio
from typing import Any

import pytest

from huahuo.eventstore.errors import Unavailable
from huahuo.eventstore.model import Append
from huahuo.webhooks.hooks import WEBHOOKS
from tests.support.worlds.hooks import HookWorld, in_hooks


@pytest.mark.parametrize("written", ["before", "after"])
def test_a_first_hook_whose_making_failed_gets_everything_once_it_is_made(written: str) -> None:
    """Where matching begins is kept first. If that failed, it is done again with the next attempt."""

    async def test(w: HookWorld) -> None:
        w.log.lose = [written]
        with pytest.raises(Unavailable):
            await w.add("t")
        await w.add("t")
        await w.write("user/42")
        await w.pass_s(1)
        assert w.receiver.got == ["user/42#1"]

    in_hooks(test)


def test_a_hook_waits_for_the_first_one_that_is_being_made() -> None:
    """Else a crash between the two would leave a hook, and no place from which on events are matched."""

    async def test(w: HookWorld) -> None:
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

    in_hooks(test)
