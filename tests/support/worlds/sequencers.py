"""Proposing to any ordered log and reading it, as a node does."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from huahuo.eventstore.sequencer.address import FileUnusable, SignInRefused
from huahuo.eventstore.sequencer.port import InDoubt, Ordered, Sequencer, Unreachable
from tests.support.patience import WITHIN_S


async def put(sequencer: Sequencer, proposal: bytes) -> int:
    """Propose until there is an offset."""
    return await answered(lambda: sequencer.propose(proposal))


async def answered[T](call: Callable[[], Awaitable[T]]) -> T:
    """What a call gives, made again until its server answers in time: one without a processor does not."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            try:
                return await call()
            except (FileUnusable, SignInRefused):  # these are answers
                raise
            except (InDoubt, Unreachable):
                await asyncio.sleep(0)


async def read(sequencer: Sequencer, after: int, count: int, *, once: bool = False) -> list[Ordered]:
    """The next `count` proposals behind offset `after`; with `once`, those that are not repeated."""
    found: list[Ordered] = []
    following = sequencer.follow(after)
    async with asyncio.timeout(WITHIN_S), aclosing(each_once(following) if once else following) as ordered:
        async for one in ordered:
            found.append(one)
            if len(found) == count:
                break
    return found


async def each_once(ordered: AsyncGenerator[Ordered]) -> AsyncGenerator[Ordered]:
    """`ordered` without repeated proposals: what a slow disk answers late is proposed again."""
    seen: set[bytes] = set()
    async with aclosing(ordered):
        async for one in ordered:
            if one.proposal not in seen:
                seen.add(one.proposal)
                yield one
