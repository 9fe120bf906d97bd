"""The snapshots of one connection. One task takes them, one at a time, and sends each while there is room."""

from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Any, Protocol

import structlog

from huahuo.actors.actor.errors import AskTimeout
from huahuo.actors.entities.errors import Busy
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.errors import Corrupt, EventStoreError
from huahuo.transport.server.budget import Purse
from huahuo.transport.server.connection_ref import ConnectionEnded, ConnectionRef
from huahuo.transport.server.pictures import Picture
from huahuo.transport.server.socket import Socket
from huahuo.transport.server.supply import Supply
from huahuo.transport.server.turns import Crowded
from huahuo.transport.session.delivery_states import IllegalStepError
from huahuo.transport.session.outputs import Output
from huahuo.transport.session.session import Session
from huahuo.transport.session.subscription import Subscription
from huahuo.transport.session.wanted import Want, Wanted

_SNAPSHOT = "snapshot"
_PART = "part"
_NOT_NOW = (EventStoreError, Busy, AskTimeout, TimeoutError, Crowded)
"""Errors after which a snapshot may still be had later."""

_log = structlog.get_logger(__name__)


class Room(Protocol):
    """What snapshots need of the connection's pump."""

    @property
    def purse(self) -> Purse:
        """This connection's part of the budget."""
        ...

    def run(self) -> None:
        """Send what may be sent now."""
        ...

    async def room(self) -> None:
        """Wait until the socket has room for something large."""
        ...

    async def reserve(self, size: int) -> bool:
        """Reserve bytes of the budget."""
        ...

    def count_unsent(self) -> None:
        """Count the content of the write buffer in the budget."""
        ...

    def charge(self, began_s: float) -> float:
        """Charge the user for the loop's time since `began_s`."""
        ...

    def end_corrupt(self, sub: Subscription) -> None:
        """End a subscription whose data is damaged on the disk."""
        ...


class Snapshots:
    """See the module. True while one is wanted. `start` and `perform` are the pump's."""

    __slots__ = (
        "_ambient", "_door", "_perform", "_room", "_session", "_start", "_supply", "_taking", "_wanted",
        "_ws",
    )  # fmt: skip

    def __init__(
        self,
        ws: Socket,
        session: Session,
        room: Room,
        *,
        ambient: Ambient,
        supply: Supply,
        start: Callable[[Coroutine[Any, Any, None]], None],
        perform: Callable[[Iterable[Output]], object],
        door: ConnectionRef,
    ) -> None:
        self._ws = ws
        self._session = session
        self._room = room
        self._ambient = ambient
        self._supply = supply
        self._start = start
        self._perform = perform
        self._door = door
        self._wanted = Wanted(ambient.random)
        self._taking = False  # the task that takes snapshots runs

    def __bool__(self) -> bool:
        return bool(self._wanted)

    def want(self, sub: Subscription) -> None:
        """Take the snapshot of a stream and send it, as soon as there is room."""
        self._wanted.want(sub, self._ambient.monotonic_s())
        self.take()

    def clear(self) -> None:
        """None is wanted any more."""
        self._wanted.clear()

    def take(self) -> None:
        """Go on taking what is wanted, if the socket has room."""
        if not self._taking and self._ws.has_room():
            self._taking = True
            self._start(self._take_snapshots())

    async def _take_snapshots(self) -> None:
        """Take the snapshots that are due, while the socket has room."""
        try:
            while self._ws.has_room():
                want = self._wanted.take(self._ambient.monotonic_s())
                if want is None:
                    return
                if self._session.awaits(want.sub):
                    await self._take(want)
                    self._door.step(self._room.run)
        finally:
            self._taking = False

    async def _take(self, want: Want) -> None:
        principal, sub, now_s = self._session.principal, want.sub, self._ambient.monotonic_s
        if principal is None:
            return
        try:
            await self._send_snapshot(sub, principal.name)
        except Corrupt:
            self._door.step(partial(self._room.end_corrupt, sub))
        except _NOT_NOW:
            retry_s = self._wanted.not_now(want, now_s())
            if retry_s is not None:
                self._door.step(partial(self._refuse_snapshot, sub, "busy", retry_s))
        except (ConnectionEnded, IllegalStepError):
            raise  # no fold's fault
        except Exception:  # noqa: BLE001  the fold's fault: only this subscription ends
            _log.exception("snapshot_failed", stream=sub.stream)
            if self._wanted.failed(want, now_s()):
                self._door.step(partial(self._refuse_snapshot, sub, "internal"))

    def _refuse_snapshot(self, sub: Subscription, reason: str, retry_s: float | None = None) -> None:
        self._perform(self._session.refuse_snapshot(sub, reason, retry_s))

    async def _send_snapshot(self, sub: Subscription, user: str) -> None:
        """Send all of it, or part by part, each when it is the user's turn and the socket has room.

        If sending fails, it begins again with the first part of a newer state. If the subscription moves on,
        the sending ends.
        """
        picture: Picture | None = None
        while self._session.awaits(sub):
            async with self._supply.turns.turn(user):
                if self._ws.has_room() and self._session.awaits(sub):
                    picture = await self._send_picture(sub, picture)
                    if picture.following is None:
                        return
            await self._room.room()

    async def _send_picture(self, sub: Subscription, before: Picture | None) -> Picture:
        """Send one frame of a snapshot. Raises Crowded if the budget has no room."""
        supply, purse = self._supply, self._room.purse
        kind = self._session.frame_kind
        what = _PART if kind.in_parts else _SNAPSHOT
        held = supply.estimates.of(sub.stream, what)
        if before is None:
            has_room = purse.reserve(held, self._ambient.monotonic_s())
        else:  # a begun snapshot waits for room, because it would start over
            has_room = await self._room.reserve(held)
        if not has_room:
            raise Crowded(sub.stream)
        try:
            picture = await supply.pictures.get(sub.stream, kind, before)
            if picture.frame is not None:
                size = len(picture.frame)
                supply.estimates.learn(sub.stream, what, size)
                purse.correct(held, size)
                held = size
            more = picture.following is not None
            began_s = self._ambient.monotonic_s()
            self._door.step(
                lambda: self._perform(self._session.snapshot(sub, picture.seq, picture.frame, more=more))
            )
            self._room.charge(began_s)
            return picture
        finally:
            purse.release(held)
            self._room.count_unsent()
