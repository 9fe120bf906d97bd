"""What the connections of a server share (`Wires`), and what answers and rights need on their way to them.

* `Outbox`: answers of commands that are told together. Each connection writes all of its own in one piece,
  as a system call for each would cost more than everything else that a short command does.
* `Verdicts`: whether users may read the streams whose readers an application judges (PROTOCOL 12). A
  verdict needs the entity's state, so the entity may have to be loaded. A connection waits for it for 2 s;
  after that, the verdict follows when it is there. Events that change rights make readers be judged again
  (`Rejudging`).
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

import msgspec
import structlog

from huahuo.actors import Runtime
from huahuo.actors.actor.messages import AskTimeout, InboxFull
from huahuo.actors.entities.decider import Degraded, EntityError
from huahuo.actors.plugins.actions import MayRead
from huahuo.actors.plugins.calls import Principal, UserId
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.model import StoredEvent
from huahuo.replay.feed import Feed
from huahuo.transport.access.door import Door, Notices
from huahuo.transport.access.rights import Judged, Verifier, may_read
from huahuo.transport.server.fanout import FanOut
from huahuo.transport.server.presence import Presence
from huahuo.transport.server.snapshots import Supply
from huahuo.transport.server.states import States
from huahuo.transport.server.views import Views
from huahuo.transport.session.interface import Shared
from huahuo.transport.wire.frame_reader import AckReader
from huahuo.transport.wire.ports import CommandGate, Hub, Meter
from huahuo.transport.wire.sends import Sends


class Outbox:
    """The connections that have answers to write."""

    def __init__(self) -> None:
        self._waiting: list[Callable[[], None]] = []

    def add(self, write: Callable[[], None]) -> None:
        """Call `write` once, in the loop's next turn or when `flush` is called before. It must not raise."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self.flush)
        self._waiting.append(write)

    def flush(self) -> None:
        """All answers of one commit have been told: write them now."""
        waiting, self._waiting = self._waiting, []
        for write in waiting:
            write()


WAIT_S: Final = 2.0
_RETRY_S: Final = 1.0
_RETRIES_MAX: Final = 30
_NOT_NOW: Final = (EventStoreError, EntityError, AskTimeout, InboxFull, TimeoutError)

_log = structlog.get_logger(__name__)


class Verdicts:
    """Whether users may read the streams whose readers an application judges (PROTOCOL 12).

    `judges`: by kind of stream. `others`: of all other kinds, None if rules say it.
    """

    def __init__(self, judges: Mapping[str, MayRead], others: MayRead | None = None) -> None:
        self._judges = judges
        self._others = others
        self.judged = Judged(frozenset(judges), others is not None)
        """The streams whose readers are judged."""

    async def in_time(
        self, principal: Principal, streams: Sequence[str]
    ) -> tuple[dict[str, bool | None], dict[str, asyncio.Task[bool | None]]]:
        """The verdicts that are there after `WAIT_S`, and to wait for, those that are None: see `of`."""
        loop = asyncio.get_running_loop()
        tasks = {stream: loop.create_task(self.of(principal, stream)) for stream in streams}
        try:
            await asyncio.wait(tasks.values(), timeout=WAIT_S)
        except asyncio.CancelledError:
            for task in tasks.values():
                task.cancel()
            raise
        verdicts = {stream: task.result() if task.done() else None for stream, task in tasks.items()}
        return verdicts, {stream: task for stream, task in tasks.items() if verdicts[stream] is None}

    async def of(self, principal: Principal, stream: str) -> bool | None:
        """The verdict. It waits while the entity cannot be asked.

        None: the application's code fails, in a fold of the events or in the judgement itself.
        """
        if not self.judged.asks(principal, stream):
            return may_read(principal, stream)
        judge = self._judges.get(stream.partition("/")[0], self._others)
        assert judge is not None, "it is asked"
        for _ in range(_RETRIES_MAX):
            try:
                return await judge(stream, principal)
            except Degraded:
                return None
            except _NOT_NOW as error:
                _log.warning("readers_not_judged", stream=stream, error=type(error).__name__)
                await asyncio.sleep(_RETRY_S)
            except Exception:  # noqa: BLE001  an application's function
                _log.exception("readers_failed", stream=stream)
                return None
        return None


class Rejudging:
    """A `replay.live.feed.Tap` that comes before the fan-out, so that nobody gets an event too many."""

    def __init__(self, fanout: FanOut, judged: Judged, right_types: Collection[str]) -> None:
        self._fanout = fanout
        self._judged = judged
        self._right_types = frozenset(right_types)
        self.lists: Callable[[UserId | None], None] | None = None
        """Told of each `now`: lists are judged again too."""
        self.also: Callable[[str | None, UserId | None], None] | None = None
        """Told of each `now`: other processes have readers, too."""

    def committed(self, by_stream: Mapping[str, Sequence[StoredEvent]] | None) -> None:
        """Hold the streams of an event that changes rights. None: any event may have been committed."""
        if by_stream is None:
            self.now()
            return
        types, kinds = self._right_types, self._judged.kinds
        if not types:
            return
        for stream, events in by_stream.items():
            if stream.partition("/")[0] in kinds and any(event.type in types for event in events):
                self._fanout.hold(stream)

    def now(self, stream: str | None = None, user_id: UserId | None = None) -> None:
        """Judge again who may read `stream` (None: any), of this user (None: all)."""
        if self.also is not None:
            self.also(stream, user_id)
        if self.lists is not None:
            self.lists(user_id)
        for one in self._fanout.watched() if stream is None else (stream,):
            if self._judged.concerns(one):
                self._fanout.hold(one, user_id)


class Wires(msgspec.Struct, frozen=True, kw_only=True):
    """What every connection of a server uses."""

    shared: Shared
    runtime: Runtime
    ambient: Ambient
    feed: Feed
    fanout: FanOut
    hub: Hub
    door: Door
    gate: CommandGate
    verifier: Verifier
    meter: Meter
    supply: Supply
    notices: Notices
    verdicts: Verdicts
    outbox: Outbox
    sends: Sends
    views: Views
    states: States
    presence: Presence
    ack_reader: AckReader

    def judge_followed(self, user_id: UserId | None) -> None:
        """Ask again which rows and states the user's (None: everybody's) followers may have."""
        self.views.judge_again(user_id)
        self.states.judge_again(user_id)
        self.presence.judge_again(user_id)
