"""Reads that are shared: who asks for what is being read already gets the same answer."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable


class SharedReads[K: Hashable, V]:
    """At most `at_once_max` reads at a time, the rest in the order in which they were asked for.

    A few tasks work off the queue, rather than one for each read: when thousands come back at once,
    making tasks would cost more than reading. All methods belong to the loop's thread.
    """

    def __init__(self, read: Callable[[K], Awaitable[V]], at_once_max: int) -> None:
        self._read = read
        self._at_once_max = at_once_max
        self._queue: deque[K] = deque()
        self._asking: dict[K, list[asyncio.Future[V]]] = {}
        self._working = 0
        self._workers: set[asyncio.Task[None]] = set()  # keeps them from being collected

    async def get(self, key: K) -> V:
        """What `read(key)` gives, or raises. Giving up here takes nothing from the others."""
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
        return await answer

    async def _work(self) -> None:
        try:
            while self._queue:
                await self._answer(self._queue.popleft())
        finally:
            # Here, not when the task is found to be done: until then nobody would take what comes.
            self._working -= 1

    async def _answer(self, key: K) -> None:
        if all(answer.done() for answer in self._asking[key]):  # all have given up
            del self._asking[key]
            return
        try:
            value = await self._read(key)
        except asyncio.CancelledError:
            for answer in self._asking.pop(key):
                answer.cancel()
            raise
        except Exception as error:  # noqa: BLE001  whatever it is, it belongs to who asked
            for answer in self._asking.pop(key):
                if not answer.done():
                    answer.set_exception(error)
        else:
            for answer in self._asking.pop(key):
                if not answer.done():
                    answer.set_result(value)
