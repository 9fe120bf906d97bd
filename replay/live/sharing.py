"""Shared reads: a caller that asks for a key that is being read gets the same answer."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence


class SharedReads[K: Hashable, V]:
    """At most `at_once_max` reads run at a time, in the order of the requests.

    A few worker tasks serve the queue, because in a reconnect storm of thousands one task per read would cost
    more than the reads. Up to `together_max` waiting keys are read together, which saves hops to another
    thread. If such a read fails, each key is tried again alone, so that one bad key does not fail the others.
    All methods belong to the loop's thread.
    """

    def __init__(
        self, read: Callable[[Sequence[K]], Awaitable[Sequence[V]]], at_once_max: int, together_max: int = 1
    ) -> None:
        """`read` answers each key in order, or raises for all of them."""
        self._read = read
        self._at_once_max = at_once_max
        self._together_max = together_max
        self._queue: deque[K] = deque()
        self._asking: dict[K, list[asyncio.Future[V]]] = {}
        self._working = 0
        self._workers: set[asyncio.Task[None]] = set()  # asyncio holds its tasks only weakly

    async def get(self, key: K) -> V:
        """What `read` gives for `key`, or raises. A caller that is cancelled does not cancel the others."""
        answer = self.ask(key)
        try:
            return await answer
        finally:
            del answer  # else a cycle: the exception holds this frame, the future the exception

    def ask(self, key: K) -> asyncio.Future[V]:
        """As `get`, for a caller that asks for several keys before it waits for the first."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[V] = loop.create_future()
        asking = self._asking.get(key)
        if asking is None:
            self._asking[key] = [answer]
            self._queue.append(key)
            if self._working < self._at_once_max:
                self._working += 1
                worker = loop.create_task(self._work())
                self._workers.add(worker)
                worker.add_done_callback(self._workers.discard)
        else:
            asking.append(answer)
        return answer

    async def _work(self) -> None:
        try:
            while self._queue:
                count = min(len(self._queue), self._together_max)
                await self._answer([self._queue.popleft() for _ in range(count)])
        finally:
            # Not in a done callback: until that ran, a new key would find no free worker to start.
            self._working -= 1

    async def _answer(self, keys: Sequence[K]) -> None:
        wanted = [key for key in keys if self._is_wanted(key)]
        if not wanted:
            return
        try:
            await self._read_and_answer(wanted)
        except asyncio.CancelledError:
            for key in wanted:
                for answer in self._asking.pop(key, ()):
                    answer.cancel()
            raise

    async def _read_and_answer(self, wanted: Sequence[K]) -> None:
        try:
            values = await self._read(wanted)
        except Exception as error:  # noqa: BLE001  every exception goes to the callers
            if len(wanted) > 1:
                for key in wanted:
                    await self._read_and_answer([key])
                return
            for answer in self._asking.pop(wanted[0]):
                if not answer.done():
                    answer.set_exception(error)
                del answer  # else a cycle: the exception holds this frame
        else:
            for key, value in zip(wanted, values, strict=True):
                for answer in self._asking.pop(key):
                    if not answer.done():
                        answer.set_result(value)

    def _is_wanted(self, key: K) -> bool:
        """Whether a caller still waits for `key`. If none does, the key is forgotten."""
        if all(answer.done() for answer in self._asking[key]):
            del self._asking[key]
            return False
        return True
