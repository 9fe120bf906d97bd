"""An ordered log in one process, for tests and simulated worlds.

What it keeps lives as long as the `MemoryOrder`, so it is as durable as the process.
"""

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

from huahuo.eventstore.sequencer.port import Ordered, ProposalTooLarge, Trimmed, Unreachable

PROPOSAL_BYTES_MAX: Final = 64 << 20


class MemoryOrder:
    """The proposals and their order, shared by the nodes of one loop."""

    def __init__(self, proposal_bytes_max: int = PROPOSAL_BYTES_MAX) -> None:
        self.proposal_bytes_max = proposal_bytes_max
        self.first = 1
        """The oldest offset that is kept."""
        self._kept: list[bytes] = []
        self._more = asyncio.Event()

    @property
    def last(self) -> int:
        """The newest offset, 0 if there is none."""
        return self.first + len(self._kept) - 1

    def put(self, proposal: bytes) -> int:
        """Put `proposal` at the end; returns its offset."""
        self._kept.append(proposal)
        more, self._more = self._more, asyncio.Event()
        more.set()
        return self.last

    def get(self, offset: int) -> bytes | None:
        """The proposal at `offset`, None if it is still to come.

        Raises:
            Trimmed: it is no longer kept.
        """
        if offset < self.first:
            why = f"the ordered log begins at {self.first}: offset {offset} is kept no longer"
            raise Trimmed(why, self.first)
        at = offset - self.first
        return self._kept[at] if at < len(self._kept) else None

    def trim(self, before: int) -> None:
        """Forget what is older than offset `before`."""
        gone = min(max(0, before - self.first), len(self._kept))
        del self._kept[:gone]
        self.first += gone

    async def wait(self) -> None:
        """Wait until something is put."""
        await self._more.wait()


class MemorySequencer:
    """See `Sequencer`: a node's way to a `MemoryOrder`."""

    def __init__(self, order: MemoryOrder) -> None:
        self._order = order
        self._closed = False

    @property
    def trouble(self) -> str:
        """See `Sequencer`. It can always be read."""
        return ""

    @property
    def proposal_bytes_max(self) -> int:
        """See `Sequencer`."""
        return self._order.proposal_bytes_max

    async def propose(self, proposal: bytes, proposal_id: str) -> int:
        """See `Sequencer`."""
        self._must_be_open()
        if len(proposal) > self._order.proposal_bytes_max:
            raise ProposalTooLarge(
                f"a proposal of {len(proposal)} bytes, at most {self._order.proposal_bytes_max}"
            )
        return self._order.put(proposal)

    async def follow(self, after: int) -> AsyncGenerator[Ordered]:
        """See `Sequencer`."""
        offset = after + 1
        while True:
            proposal = self._order.get(offset)
            if proposal is None:
                await self._order.wait()
            else:
                yield Ordered(offset, proposal)
                offset += 1

    async def last(self) -> int:
        """See `Sequencer`."""
        self._must_be_open()
        return self._order.last

    async def trim(self, before: int) -> None:
        """See `Sequencer`."""
        self._must_be_open()
        self._order.trim(before)

    async def close(self) -> None:
        """See `Sequencer`."""
        self._closed = True

    def _must_be_open(self) -> None:
        if self._closed:
            raise Unreachable("this way to the ordered log has been closed")
