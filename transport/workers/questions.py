"""The questions of a worker to its owner that have no answer yet."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from huahuo.eventstore.errors import Unavailable
from huahuo.transport.workers import failures
from huahuo.transport.workers.messages import Answer, Cancel, Failed
from huahuo.transport.workers.pipe import Pipe

_GONE = "the owner of this worker is gone"


class Questions:
    """See the module. All methods belong to the loop's thread."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._asked = 0
        self._open: dict[int, tuple[asyncio.Future[Any], Callable[[msgspec.Raw], Any]]] = {}

    def __len__(self) -> int:
        return len(self._open)

    def number(self) -> int:
        """The number of another question."""
        self._asked += 1
        return self._asked

    def ask[T](self, make: Callable[[int], object], answers: msgspec.msgpack.Decoder[T]) -> asyncio.Future[T]:
        """Send the question that `make` makes of its number. Cancel the future to give up the answer.

        The future raises an error of `failures`, or Unavailable if the owner is gone.
        """
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        if not self._pipe.is_open:
            answer.set_exception(Unavailable(_GONE))
            return answer
        n = self.number()
        self._open[n] = answer, answers.decode
        self._pipe.send(make(n))
        answer.add_done_callback(lambda ended: self._ended(n, ended))
        return answer

    def say(self, message: object) -> None:
        """Send what has no answer."""
        self._pipe.send(message)

    def answered(self, answer: Answer) -> None:
        """An answer came."""
        future, decode = self._open.pop(answer.n, (None, None))
        if future is not None and decode is not None and not future.done():
            future.set_result(decode(answer.value))

    def failed(self, failed: Failed) -> None:
        """A question has none."""
        future, _ = self._open.pop(failed.n, (None, None))
        if future is not None and not future.done():
            future.set_exception(failures.raised(failed.kind, failed.text))

    def give_up(self) -> None:
        """The owner is gone."""
        asked, self._open = self._open, {}
        for future, _ in asked.values():
            if not future.done():
                future.set_exception(Unavailable(_GONE))

    def _ended(self, n: int, answer: asyncio.Future[Any]) -> None:
        if answer.cancelled() and self._open.pop(n, None) is not None:
            self._pipe.send(Cancel(n))
