"""Calls that wait for something of the session: an answer by its key, or the end of the client."""

import asyncio
from collections.abc import Hashable


class Answers[K: Hashable, T]:
    """One future for each key that is waited for."""

    def __init__(self) -> None:
        self._futures: dict[K, asyncio.Future[T]] = {}

    def expect(self, key: K) -> asyncio.Future[T]:
        """The future of `key`. The caller calls `forget` afterwards, whatever happened."""
        future = self._futures[key] = asyncio.get_running_loop().create_future()
        return future

    def forget(self, key: K) -> None:
        """The caller has the answer, or gave up."""
        self._futures.pop(key, None)

    def give(self, key: K, answer: T | Exception) -> None:
        """The answer came: the caller of `expect` gets it, or it is raised there."""
        _resolve(self._futures.get(key), answer)

    def fail(self, error: Exception) -> None:
        """No answer will come any more."""
        for future in self._futures.values():
            _resolve(future, error)


def _resolve[T](future: asyncio.Future[T] | None, answer: T | Exception) -> None:
    if future is None or future.done():
        return
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)
