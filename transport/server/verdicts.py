"""Whether users may read the streams whose readers an application judges (PROTOCOL 12).

A verdict needs the entity's state, so the entity may have to be loaded. A connection waits for it for 2 s;
after that, the verdict follows when it is there. Events that change rights make readers be judged again.
"""

import asyncio
from collections.abc import Awaitable, Collection, Mapping, Sequence
from typing import Final

import structlog

from huahuo.actors.actor.errors import AskTimeout, InboxFull
from huahuo.actors.entities.errors import EntityError
from huahuo.actors.plugins.actions import MayRead
from huahuo.actors.plugins.principal import Principal
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.model import StoredEvent
from huahuo.transport.server.fanout import FanOut

WAIT_S: Final = 2.0
_RETRY_S: Final = 1.0
_RETRIES_MAX: Final = 30
_NOT_NOW: Final = (EventStoreError, EntityError, AskTimeout, InboxFull, TimeoutError)

_log = structlog.get_logger(__name__)


class Verdicts:
    """See the module. `judges`: by kind of stream."""

    def __init__(self, judges: Mapping[str, MayRead]) -> None:
        self._judges = judges

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of streams whose readers are judged."""
        return frozenset(self._judges)

    async def in_time(
        self, principal: Principal, streams: Sequence[str]
    ) -> tuple[dict[str, bool | None], dict[str, Awaitable[bool]]]:
        """The verdicts that are there after `WAIT_S` (None: not yet), and those that are not, to wait for."""
        loop = asyncio.get_running_loop()
        tasks = {stream: loop.create_task(self.of(principal, stream)) for stream in streams}
        try:
            await asyncio.wait(tasks.values(), timeout=WAIT_S)
        except asyncio.CancelledError:
            for task in tasks.values():
                task.cancel()
            raise
        verdicts = {stream: task.result() if task.done() else None for stream, task in tasks.items()}
        return verdicts, {stream: task for stream, task in tasks.items() if not task.done()}

    async def of(self, principal: Principal, stream: str) -> bool:
        """The verdict. It waits while the entity cannot be asked; what cannot be judged is not read."""
        judge = self._judges[stream.partition("/")[0]]
        for _ in range(_RETRIES_MAX):
            try:
                return await judge(stream, principal)
            except _NOT_NOW as error:
                _log.warning("readers_not_judged", stream=stream, error=type(error).__name__)
                await asyncio.sleep(_RETRY_S)
            except Exception:  # noqa: BLE001  an application's function
                _log.exception("readers_failed", stream=stream)
                return False
        return False


class Rejudging:
    """A `replay.live.feed.Tap` that comes before the fan-out, so that nobody gets an event too many."""

    def __init__(self, fanout: FanOut, kinds: Collection[str], right_types: Collection[str]) -> None:
        self._fanout = fanout
        self._kinds = kinds
        self._right_types = frozenset(right_types)

    def committed(self, by_stream: Mapping[str, Sequence[StoredEvent]] | None) -> None:
        """Hold the streams of an event that changes rights. None: any event may have been committed."""
        if by_stream is None:
            for stream in self._fanout.watched():
                if stream.partition("/")[0] in self._kinds:
                    self._fanout.hold(stream)
            return
        types, kinds = self._right_types, self._kinds
        if not types:
            return
        for stream, events in by_stream.items():
            if stream.partition("/")[0] in kinds and any(event.type in types for event in events):
                self._fanout.hold(stream)
