"""A way to an ordered log that does all the port allows: delays, doubles, lost answers, other orders.

Seeded. What it must not do, it does not: an acknowledged proposal is in the order, and the order never
changes.
"""

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import suppress

from huahuo.eventstore.sequencer.port import (
    InDoubt,
    Ordered,
    ProposalTooLarge,
    Sequencer,
    SequencerError,
    Unreachable,
)


class HostileSequencer:
    """See the module. `fault_rate`: how likely each fault of a call is. `cut`: nothing gets through."""

    def __init__(
        self, inner: Sequencer, *, seed: int | str, fault_rate: float = 0.2, lag_s: float = 0.0
    ) -> None:
        self._healed = asyncio.Event()
        self._healed.set()
        self.faults = 0
        self._inner = inner
        self._chance = random.Random(seed)
        self._fault_rate = fault_rate
        self._lag_s = lag_s
        self._late: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def cut(self) -> bool:
        return not self._healed.is_set()

    @cut.setter
    def cut(self, cut: bool) -> None:
        if cut:
            self._healed.clear()
        else:
            self._healed.set()

    @property
    def trouble(self) -> str:
        return self._inner.trouble

    @property
    def proposal_bytes_max(self) -> int:
        return self._inner.proposal_bytes_max

    async def propose(self, proposal: bytes) -> int:
        """Late, perhaps behind a later call; perhaps twice; perhaps without an answer, done or not."""
        await self._wait()
        if self.cut or self._closed:
            raise Unreachable("cut off")
        if len(proposal) > self.proposal_bytes_max:
            raise ProposalTooLarge(f"a proposal of {len(proposal)} bytes, at most {self.proposal_bytes_max}")
        if self._strikes():
            raise Unreachable("not sent")
        if self._strikes():
            if self._strikes(0.5):
                self._later(proposal)
            raise InDoubt("no answer came")
        if self._strikes():
            self._later(proposal)
        offset = await self._inner.propose(proposal)
        await self._wait()
        if self._strikes():
            raise InDoubt("the answer was lost")
        return offset

    async def follow(self, after: int) -> AsyncGenerator[Ordered]:
        """In order, but late."""
        inner = self._inner.follow(after)
        try:
            async for ordered in inner:
                await self._wait()
                await self._healed.wait()
                yield ordered
        finally:
            await inner.aclose()

    async def last(self) -> int:
        await self._wait()
        if self.cut:
            raise Unreachable("cut off")
        return await self._inner.last()

    async def trim(self, before: int) -> None:
        await self._inner.trim(before)

    async def close(self) -> None:
        self._closed = True
        for task in self._late:
            task.cancel()
        await asyncio.gather(*self._late, return_exceptions=True)
        await self._inner.close()

    def _strikes(self, rate: float | None = None) -> bool:
        strikes = self._chance.random() < (self._fault_rate if rate is None else rate)
        self.faults += strikes
        return strikes

    def _later(self, proposal: bytes) -> None:
        """The proposal gets its place at some later time, whatever its sender was told."""

        async def put() -> None:
            for _ in range(self._chance.randrange(4)):
                await self._wait()
            with suppress(SequencerError):
                await self._inner.propose(proposal)

        task = asyncio.get_running_loop().create_task(put())
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    async def _wait(self) -> None:
        if self._lag_s:
            await asyncio.sleep(self._chance.random() * self._lag_s)
        else:
            for _ in range(self._chance.randrange(3)):
                await asyncio.sleep(0)
