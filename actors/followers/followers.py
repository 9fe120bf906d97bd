"""All followers of a service: start and stop, the signal of new events, and what administrators may do."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

from huahuo.actors.entities.sharing import WHOLE, Share
from huahuo.actors.followers import record
from huahuo.actors.followers.follower import Follower
from huahuo.actors.followers.spec import ReadEvent, Spec
from huahuo.actors.plugins.plugin import Gauges
from huahuo.actors.plugins.projections import Standing
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.cancelling import cancel_all
from huahuo.eventstore.errors import EventStoreError, Unavailable
from huahuo.eventstore.model import LOG_STREAM, StoredEvent
from huahuo.eventstore.port import Log
from huahuo.replay.live.feed import Feed

_ANY: Final[frozenset[str]] = frozenset()
_AGAIN_S: Final = 1.0
"""After a follower could not begin."""


class Followers:
    """See the module. All methods belong to the loop's thread."""

    def __init__(
        self, specs: Sequence[Spec], *, log: Log, feed: Feed, ambient: Ambient, read: ReadEvent
    ) -> None:
        self._feed = feed
        self._log = log
        self.by_name = {
            spec.name: Follower(spec, log=log, feed=feed, ambient=ambient, read=read) for spec in specs
        }
        self._chosen = any(one.spec.types for one in self.by_name.values())
        """Whether one of them wants only some types of events."""
        self._untap = _nothing
        self._behind: list[asyncio.Task[None]] = []
        """Each begins a follower once its task of before has ended: two would deliver each event twice."""

    def show(self, metrics: Gauges) -> None:
        """What can be seen of followers from outside."""
        each = self.by_name.values()
        metrics.gauge(
            "followers_lag_events",
            "Events behind the follower that is furthest behind.",
            lambda: max((one.lag for one in each), default=0),
        )
        metrics.gauge(
            "followers_busy_seconds",
            "For how long the longest delivery has been under way.",
            lambda: max((one.calls.busy_s for one in each), default=0.0),
        )
        metrics.gauge(
            "followers_dead_letters",
            "Events that followers could not deal with.",
            lambda: sum(len(one.dead) for one in each),
        )
        metrics.gauge(
            "followers_paused", "Followers that are paused.", lambda: sum(one.paused for one in each)
        )
        metrics.gauge("followers", "Followers of the application.", lambda: len(self.by_name))
        metrics.total(
            "followers_delivered",
            "Events that followers dealt with.",
            lambda: sum(one.calls.delivered for one in each),
        )
        metrics.total(
            "followers_failed", "Deliveries that failed.", lambda: sum(one.calls.failed for one in each)
        )

    async def start(self, share: Share = WHOLE) -> None:
        """Go on where each follower of this share stands. Raises Closed, Unavailable: the log is not read."""
        if self.by_name:
            self._untap = self._feed.tap(self._committed)
            await self.divide(share)

    async def divide(self, share: Share) -> None:
        """Followers are divided among nodes by their names: run those of this share, and no others."""
        await self._stop_behind()
        for name, one in self.by_name.items():
            if not share.has(f"follower {name}"):
                await one.close()
            elif (late := one.late) is not None:
                begins = self._begin_behind(late, one)
                self._behind.append(asyncio.get_running_loop().create_task(begins, name=f"{name} begins"))
            elif not one.runs:
                await one.begin()
        self._committed(None)

    async def drain(self, timeout_s: float) -> None:
        """Let the batches under way come to their end."""
        await asyncio.gather(*(one.drain(timeout_s) for one in self.by_name.values()))

    async def close(self) -> None:
        """Cut short what runs. Idempotent."""
        self._untap()
        await self._stop_behind()
        await asyncio.gather(*(one.close() for one in self.by_name.values()))

    async def idle(self) -> None:
        """Return when no follower has anything to do."""
        while not all(one.idle for one in self.by_name.values()):  # noqa: ASYNC110  only tests wait for it
            await asyncio.sleep(0.05)

    async def standing(self) -> list[Standing]:
        """Where each of them stands, also those that another node runs. Raises Closed, Unavailable."""
        return [
            one.standing() if one.runs else await record.standing(self._log, name)
            for name, one in self.by_name.items()
        ]

    async def _begin_behind(self, late: asyncio.Task[None], one: Follower) -> None:
        await asyncio.wait({late})
        while True:
            try:
                await one.begin()
            except Unavailable:
                await asyncio.sleep(_AGAIN_S)
            except EventStoreError:  # the log is closed
                return
            else:
                return

    async def _stop_behind(self) -> None:
        behind, self._behind = self._behind, []
        await cancel_all(behind, _AGAIN_S)

    def _committed(self, by_stream: Mapping[str, Sequence[StoredEvent]] | None) -> None:
        if by_stream is None:
            for one in self.by_name.values():
                one.wake()
                one.look_again()
            return
        for event in by_stream.get(record.AUDIT, ()):
            if (name := record.told_of(event)) in self.by_name:
                self.by_name[name].look_again()  # an administrator may have asked another node
        kinds = {stream.partition("/")[0] for stream in by_stream}
        events = by_stream[LOG_STREAM]
        types = {event.type for event in events} if self._chosen else _ANY
        for one in self.by_name.values():
            one.heard(kinds, types, events[0].position, events[-1].position)


def _nothing() -> None:
    pass
