"""A handler's coroutine, each step of which is charged to the user that it works for.

Where the handler gives way to others (`await asyncio.sleep(0)`), it goes on once its user owes no more time
than is free. Elsewhere it never waits, so it may hold a lock over what it awaits, but not over giving way.
"""

from collections.abc import Awaitable, Callable, Generator
from typing import Any, Final

from huahuo.actors.entities.fairness import Fairness

_CHARGED_S: Final = 0.0002
"""A charge costs 2 µs, so shorter steps are charged together."""


class Paced[T]:
    """See the module. To be awaited once."""

    __slots__ = ("_fairness", "_now_s", "_spent_s", "_user", "_waits", "_work")

    def __init__(
        self,
        work: Awaitable[T],
        user: str,
        fairness: Fairness,
        now_s: Callable[[], float],
        *,
        waits: bool = True,
    ) -> None:
        """`waits`: for its user to owe less. Without it, the work is only paid for."""
        self._waits = waits
        self._work = work
        self._user = user
        self._fairness = fairness
        self._now_s = now_s
        self._spent_s = 0.0

    def __await__(self) -> Generator[Any, Any, T]:
        """See `Awaitable`."""
        steps = self._work.__await__()
        error: BaseException | None = None
        try:
            while True:
                began_s = self._now_s()
                try:
                    awaited = next(steps) if error is None else steps.throw(error)
                except StopIteration as ended:
                    found: T = ended.value
                    return found
                finally:
                    self._charge(self._now_s() - began_s, _CHARGED_S)
                error = None
                try:
                    yield awaited
                    if awaited is None and self._waits:
                        yield from self._paid()
                except GeneratorExit:
                    steps.close()
                    raise
                except BaseException as thrown:  # noqa: BLE001  the work gets it, as if awaited itself
                    error = thrown
        finally:
            self._charge(0.0, 0.0)

    def _charge(self, spent_s: float, at_least_s: float) -> None:
        self._spent_s += spent_s
        if self._spent_s > at_least_s:
            spent_s, self._spent_s = self._spent_s, 0.0
            self._fairness.charge(self._user, spent_s)

    def _paid(self) -> Generator[Any, Any, None]:
        if not self._fairness.may_go(self._user):
            yield from self._fairness.paid(self._user).__await__()
