"""Reads that are shared: who asks for what is being read already gets the same answer."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence


class SharedReads[K: Hashable, V]:
    """At most `at_once_max` reads at a time, the rest in the order in which they were asked for.

    A few tasks work off the queue, rather than one for each read: when thousands come back at once,
    making tasks would cost more than reading. What waits is read up to `together_max` at a time, which
    saves ways to another thread; a failure that others may be to blame for is tried again alone. All
    methods belong to the loop's thread.
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
        self._workers: set[asyncio.Task[None]] = set()  # keeps them from being collected

    async def get(self, key: K) -> V:
        """What `read` gives for `key`, or raises. Giving up here takes nothing from the others."""
        answer = self.ask(key)
        try:
            return await answer
        finally:
            del answer  # an exception holds this frame, and the future its exception

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
            # Here, not when the task is found to be done: until then nobody would take what comes.
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
        except Exception as error:  # noqa: BLE001  whatever it is, it belongs to who asked
            if len(wanted) > 1:
                for key in wanted:
                    await self._read_and_answer([key])
                return
            for answer in self._asking.pop(wanted[0]):
                if not answer.done():
                    answer.set_exception(error)
                del answer  # the exception holds this frame
        else:
            for key, value in zip(wanted, values, strict=True):
                for answer in self._asking.pop(key):
                    if not answer.done():
                        answer.set_result(value)

    def _is_wanted(self, key: K) -> bool:
        """False, and it is forgotten, if all who asked have given up."""
        if all(answer.done() for answer in self._asking[key]):
            del self._asking[key]
            return False
        return True
