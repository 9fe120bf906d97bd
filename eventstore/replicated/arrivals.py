"""The order as it arrives at a node: read ahead a little, and handed on in batches."""

import asyncio
from collections import deque
from collections.abc import Callable

from huahuo.eventstore.errors import Unavailable
from huahuo.eventstore.sequencer.port import Ordered, Sequencer, SequencerError, Trimmed, Unreachable

ASK_AGAIN_S = 0.1
READ_AHEAD_MAX = 256
"""Proposals read ahead of what is applied."""


class Arrivals:
    """See the module."""

    def __init__(
        self, sequencer: Sequencer, *, wake: Callable[[], None], halt: Callable[[str], None]
    ) -> None:
        self._sequencer = sequencer
        self._wake = wake
        self._halt = halt
        self._waiting: deque[Ordered] = deque()
        self._room = asyncio.Event()
        self._passed = 0
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    async def follow(self, after: int) -> None:
        """Read the order behind offset `after`, for good."""
        self._passed = after
        try:
            async for ordered in self._sequencer.follow(after):
                self._waiting.append(ordered)
                self._wake()
                while len(self._waiting) >= READ_AHEAD_MAX:
                    self._room.clear()
                    await self._room.wait()
        except Trimmed as error:
            self._halt(f"{error}. Start this node again: it fetches a copy of another one")
        except SequencerError as error:
            self._halt(str(error))

    async def ask_last(self, told: Callable[[str | None], None]) -> int:
        """The newest offset of the order. Waits while it cannot be reached, and tells why."""
        while True:
            try:
                return await self._sequencer.last()
            except Unreachable as error:
                told(str(error))
                await asyncio.sleep(ASK_AGAIN_S)

    def batch(self, count_max: int, bytes_max: int) -> list[Ordered]:
        """The next proposals: at least one, then as many as fit. They stay until `drop`."""
        batch: list[Ordered] = []
        size = 0
        for one in self._waiting:
            size += len(one.proposal)
            if batch and (len(batch) >= count_max or size > bytes_max):
                break
            batch.append(one)
        return batch

    def drop(self, upto: int) -> None:
        """All up to this offset are applied: tasks that wait for one of them go on."""
        while self._waiting and self._waiting[0].offset <= upto:
            self._waiting.popleft()
        self._room.set()
        self._passed = max(self._passed, upto)
        for offset, waiter in self._waiters:
            if offset <= upto and not waiter.done():
                waiter.set_result(None)
        self._waiters = [one for one in self._waiters if not one[1].done()]

    async def applied(self, offset: int) -> None:
        """Wait until the proposal at `offset` is applied. Raises Unavailable: `end` came first."""
        if self._passed >= offset:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append((offset, waiter))
        await waiter

    def end(self, reason: str) -> None:
        """Nothing more is applied."""
        for _, waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(Unavailable(reason))
        self._waiters.clear()
