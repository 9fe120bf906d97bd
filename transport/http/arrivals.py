"""Waiting for the next event of a stream: long-polls and their bound per user."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.deadline import Deadline
from huahuo.eventstore.model import StoredEvent
from huahuo.replay.live.feed import Feed


class Arrivals:
    """See the module. One tap of the feed serves all that wait; while nobody waits there is none."""

    def __init__(self, feed: Feed, ambient: Ambient) -> None:
        self._feed = feed
        self._ambient = ambient
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}
        self._untap: Callable[[], None] | None = None
        self.closed = False
        """Whether the service stops, so that nobody waits any more."""

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(map(len, self._waiting.values()))

    async def wait(self, stream: str, after: int, timeout_s: float) -> bool:
        """Wait until `stream` has an event behind `after`. False: there is none in time, or we stop."""
        if self._feed.head(stream).seq > after:
            return True
        if self.closed or timeout_s <= 0:
            return False
        if self._untap is None:
            self._untap = self._feed.tap(self._committed)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(stream, set())
        waiting.add(future)
        try:
            async with Deadline(self._ambient, timeout_s):
                await future
        except TimeoutError:
            pass
        finally:
            waiting.discard(future)
            if not waiting and self._waiting.get(stream) is waiting:
                del self._waiting[stream]
            self._stop_if_idle()
        return self._feed.head(stream).seq > after

    def close(self) -> None:
        """Let all that wait go, and later ones not begin."""
        self.closed = True
        self._committed(None)

    def _stop_if_idle(self) -> None:
        if self._untap is not None and not self._waiting:
            self._untap()
            self._untap = None

    def _committed(self, by_stream: Mapping[str, Sequence[StoredEvent]] | None) -> None:
        for stream in tuple(self._waiting) if by_stream is None else by_stream:
            for future in self._waiting.pop(stream, ()):
                if not future.done():
                    future.set_result(None)
