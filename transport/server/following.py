"""What one connection follows: its places in views of lists and of states, and in rooms of presence.

At most `UNACKED_MAX` changes of a place are sent ahead of the client's acks, and there is no deadline: a
client that pauses acks nothing. The list's function, or the readers of the stream, say whether the user may
have it. They are asked again where those of subscriptions are, and nothing is sent until they have answered.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final

import msgspec

from huahuo.actors.plugins.calls import Principal, UserId
from huahuo.eventstore.ambient import rfc3339
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.limits import KEY_BYTES_MAX
from huahuo.replay.list_window import Cursor, ListRange, Window
from huahuo.transport.protocol.codes import ErrorCode
from huahuo.transport.protocol.incoming import From
from huahuo.transport.server.presence import DATA_BYTES_MAX, Room
from huahuo.transport.server.pump import Pump, Shell
from huahuo.transport.server.states import StateView
from huahuo.transport.server.views import Answered, View
from huahuo.transport.server.wires import Wires
from huahuo.transport.session import outgoing
from huahuo.transport.session.delivery_states import Cause
from huahuo.transport.session.interface import Follow, Present, Unfollow
from huahuo.transport.session.session import Session
from huahuo.transport.wire.connection_ref import ConnectionRef
from huahuo.transport.wire.ports import Socket
from huahuo.transport.words import en, zh

UNACKED_MAX: Final = 4


class Followed(ABC):
    """One place. `number`: of its view, by which the client names it."""

    __slots__ = ("asked", "held", "number", "of", "unacked", "waits")

    def __init__(self, of: "Following", asked: str | None) -> None:
        self.of = of
        self.asked = asked
        """The id of its request."""
        self.number = 0
        self.held = False
        """It is being asked whether the user may have it."""
        self.waits = False
        """There may be changes that it could not take."""
        self.unacked: list[int] = []

    @property
    def user_id(self) -> UserId:
        """Whose it is."""
        return self.of.principal.user_id

    def may_take(self) -> bool:
        """Whether more may be sent now."""
        return not self.held and len(self.unacked) < UNACKED_MAX and self.of.has_room()

    def wait(self) -> None:
        """There may be changes that it cannot take now."""
        self.waits = True

    def send(self, position: int, frames: Sequence[bytes]) -> None:
        """Send what the client is to ack as `position`."""
        if self.of.acks:
            self.unacked.append(position)
        self.of.write(frames)

    def acked(self, position: int) -> None:
        """The client has applied what was sent up to there."""
        self.unacked = [one for one in self.unacked if one > position]
        self.go_on()

    def go_on(self) -> None:
        """It may be able to take more again."""
        if self.waits:
            self.wake()

    def judge(self) -> None:
        """Ask again whether the user may have it, and take nothing until then."""
        if not self.held:
            self.held = True
            self.of.start(self.judged())

    @abstractmethod
    async def judged(self) -> None:
        """Ask whether the user may have it, and go on or end."""

    @abstractmethod
    def wake(self) -> None:
        """Look whether there is something to send."""

    @abstractmethod
    def leave(self) -> None:
        """It is followed no more."""


class FollowedList(Followed):
    """A list. Implements `views.Follower`."""

    __slots__ = ("begun", "cursor", "resumes", "view", "was")

    def __init__(self, of: "Following", asked: Follow | None, cursor: Cursor | None, was: int = 0) -> None:
        super().__init__(of, None if asked is None else asked.request_id)
        self.begun = False
        """The client has been told of the view."""
        self.cursor = cursor
        self.was = was
        """The view whose place it takes."""
        self.resumes = was > 0 or (asked is not None and asked.asked.since is not None)
        self.view: View | None = None

    def take(self, change: Window, frames: Sequence[bytes]) -> None:
        """See `Follower`."""
        first, before = not self.begun, self.cursor
        self.begun, self.waits, self.cursor = True, False, change.cursor
        if first:
            self.send(change.cursor.position, [self._following(change, before), *frames])
        elif change.reset or change.put or change.drop:
            self.send(change.cursor.position, frames)

    def _following(self, change: Window, before: Cursor | None) -> bytes:
        """What announces the view, with its first rows."""
        assert self.view is not None, "it has entered one"
        rows = self.view.of
        return outgoing.message(
            type="following",
            id=self.asked,
            view=self.number,
            was=self.was or None,
            outcome="resumed" if not change.reset else "reset" if self.resumes else "fresh",
            log=self.of.log_id,
            position=change.cursor.position if change.reset or before is None else before.position,
            of=rows.name,
            limit=rows.limit,
            order="descending" if rows.descending else "ascending",
        )

    def reach(self, position: int) -> None:
        """See `Follower`."""
        self.of.reach(position)

    async def judged(self) -> None:
        """See `Followed`."""
        view = self.view
        assert view is not None, "it has entered one"
        answered = await self.of.ask_list(view.name, view.fields)
        self.of.step(self, lambda: self._decided(view, answered))

    def _decided(self, view: View, answered: Answered) -> None:
        self.held = False
        if answered.rows is None:
            self.of.end_one(self, "corrupt" if answered.code else "forbidden")
            return
        rows = answered.rows.with_limit(view.of.limit)
        if rows == view.of:
            self.wake()
        else:
            self.of.drop(self)
            anew = FollowedList(self.of, None, None, view.number)
            anew.asked = None if self.begun else self.asked
            self.of.enter_list(anew, view.name, view.fields, rows)

    def wake(self) -> None:
        """See `Followed`."""
        if self.view is not None:
            self.of.wires.views.wake(self.view)

    def leave(self) -> None:
        """See `Followed`."""
        if self.view is not None:
            self.of.wires.views.leave(self.view, self)


class FollowedStream(Followed):
    """A state or a presence: who may read the stream may follow it."""

    __slots__ = ("stream",)

    def __init__(self, of: "Following", asked: str | None, stream: str) -> None:
        super().__init__(of, asked)
        self.stream = stream

    async def judged(self) -> None:
        """See `Followed`."""
        may = await self.of.wires.verdicts.of(self.of.principal, self.stream)
        self.of.step(self, lambda: self._decided(may=may))

    def _decided(self, *, may: bool | None) -> None:
        self.held = False
        if may:
            self.wake()
        else:
            self.of.end_one(self, "corrupt" if may is None else "forbidden")


class FollowedState(FollowedStream):
    """The state of a stream. Implements `states.StateFollower`."""

    __slots__ = ("begun", "resumes", "seq", "view")

    def __init__(self, of: "Following", one: Follow, stream: str) -> None:
        super().__init__(of, one.request_id, stream)
        since = one.asked.since
        self.seq = since.seq if since is not None and since.log == of.log_id else 0
        self.resumes = since is not None
        self.begun = False
        self.view: StateView | None = None

    def take(self, seq: int, frame: bytes | None) -> None:
        """See `StateFollower`."""
        frames = [] if frame is None else [frame]
        if not self.begun:
            self.begun = True
            outcome = "resumed" if frame is None else "reset" if self.resumes else "fresh"
            frames.insert(0, self.of.announced(self, outcome))
        self.seq, self.waits = seq, False
        if frame is not None:
            self.send(seq, frames)
        elif frames:
            self.of.write(frames)

    def fail(self, reason: str) -> None:
        """See `StateFollower`."""
        self.of.end_one(self, reason)

    def wake(self) -> None:
        """See `Followed`."""
        if self.view is not None:
            self.of.wires.states.wake(self.view)

    def leave(self) -> None:
        """See `Followed`."""
        if self.view is not None:
            self.of.wires.states.leave(self.view, self)


class FollowedPresence(FollowedStream):
    """A room that the connection is in. Implements `presence.PresenceFollower`."""

    __slots__ = ("counts", "position", "room", "since_ms")

    def __init__(self, of: "Following", one: Follow, stream: str) -> None:
        super().__init__(of, one.request_id, stream)
        self.since_ms = of.wires.ambient.now_ms()
        self.counts = one.asked.count
        self.position = 0
        self.room: Room | None = None

    def take(self, position: int, frames: Sequence[bytes]) -> None:
        """See `PresenceFollower`."""
        self.position, self.waits = position, False
        self.send(position, frames)

    def row(self, data: Any) -> bytes:
        """What the others in the room are shown."""
        who = self.of.principal
        return msgspec.json.encode(
            {
                "client": self.of.session.client,
                "user": {"user_id": who.user_id, "username": who.username},
                "since": rfc3339(self.since_ms),
                "data": data,
            }
        )

    def wake(self) -> None:
        """See `Followed`."""
        if self.room is not None:
            self.of.wires.presence.wake(self.room)

    def leave(self) -> None:
        """See `Followed`."""
        if self.room is not None:
            self.of.wires.presence.leave(self.room, self, self.of.session.id)


class Following:
    """See the module. Made at the first `follow` of a connection."""

    def __init__(
        self, shell: Shell, ref: ConnectionRef, *, ws: Socket, session: Session, pump: Pump, wires: Wires
    ) -> None:
        self.wires = wires
        self.session = session
        self._shell = shell
        self._ref = ref
        self._ws = ws
        self._pump = pump
        self._followed: dict[int, Followed] = {}
        self._pending = 0
        """Requests that are not answered yet."""
        self._awaited = self._reached = 0
        self._late = deque[tuple[frozenset[Cause], Callable[[], None]]]()
        """What is to be sent, each with the commands whose replies come before it."""

    # What is followed asks of its connection --------------------------------------------------------

    @property
    def principal(self) -> Principal:
        """Whose connection it is."""
        principal = self.session.principal
        assert principal is not None, "who follows has signed in"
        return principal

    @property
    def log_id(self) -> str:
        """Of the log whose positions the client is told."""
        return self.wires.shared.log.log_id

    @property
    def acks(self) -> bool:
        """Whether the client can ack what was sent."""
        return self.session.acks

    def has_room(self) -> bool:
        """Whether the socket takes more now."""
        return self._ws.has_room()

    def write(self, frames: Sequence[bytes]) -> None:
        """Send frames, after the replies to all commands that are running: they may be what changed."""
        self._later(lambda: self._pump.write_all(frames))

    def _later(self, do: Callable[[], None]) -> None:
        def step() -> None:
            running = self.session.delivery.running
            if running or self._late:
                self._late.append((frozenset(running), do))
            else:
                do()

        self._ref.tell_step(step)

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Start a task that ends with the connection."""
        self._shell.start_task(work)

    def step(self, followed: Followed, do: Callable[[], None]) -> None:
        """Do something for a place, if it is still followed."""

        def step() -> None:
            if not self.session.closed and self._followed.get(followed.number) is followed:
                do()

        self._ref.step(step)

    def announced(self, followed: Followed, outcome: str) -> bytes:
        """What announces a state or a presence."""
        return outgoing.message(
            type="following", id=followed.asked, view=followed.number, outcome=outcome, log=self.log_id
        )

    def drop(self, followed: Followed) -> None:
        """Follow a place no more. Idempotent."""
        if self._followed.get(followed.number) is followed:
            del self._followed[followed.number]
            followed.leave()

    def end_one(self, followed: Followed, reason: str) -> None:
        """Follow a place no more, and tell the client why."""
        self.drop(followed)
        self._say(type="unfollowed", view=followed.number, reason=reason)

    # What the client asks ---------------------------------------------------------------------------

    def follow(self, one: Follow) -> None:
        """Begin to follow something, or change the limit of a list."""
        asked, was = one.asked, None
        most = self.wires.shared.settings.subscriptions_max
        if asked.view is not None:
            known = self._followed.get(asked.view)
            if not isinstance(known, FollowedList):
                self._refuse(one, ErrorCode.NOT_FOUND, zh.NO_VIEW)
                return
            was = known
        elif len(self._followed) + self._pending + len(self.session.delivery.subs) >= most:
            self._refuse(one, ErrorCode.TOO_LARGE, zh.TOO_MANY_VIEWS.format(most))
            return
        if (why := _too_long(one)) is not None:
            self._refuse(one, ErrorCode.INVALID_FIELD, zh.FIELD_WRONG, why)
            return
        self._pending += 1
        stream = asked.presence or asked.state
        self.start(self._ask(one, was) if stream is None else self._ask_readers(one, stream))

    async def _ask(self, one: Follow, was: FollowedList | None) -> None:
        view = None if was is None else was.view
        name, fields = (one.asked.list, one.asked.fields) if view is None else (view.name, view.fields)
        answered = await self.ask_list(name, fields)
        self._ref.step(lambda: self._begin_list(one, was, name, fields, answered))

    async def ask_list(self, name: str, fields: Mapping[str, Any]) -> Answered:
        """Which rows of a list the user may have."""
        try:
            return await self.wires.views.ask(self.principal, name, fields, as_text=not self.acks)
        except EventStoreError:
            return Answered(code=ErrorCode.UNAVAILABLE, message=zh.LISTS_NOT_NOW)

    def _begin_list(
        self, one: Follow, was: FollowedList | None, name: str, fields: Mapping[str, Any], answered: Answered
    ) -> None:
        self._pending -= 1
        if self.session.closed:
            return
        since, rows = one.asked.since, answered.rows
        if answered.code:
            self._refuse(one, ErrorCode(answered.code), answered.message, answered.details)
            return
        if rows is None:
            if was is not None:
                self.drop(was)
            self._say(type="following", id=one.request_id, outcome="denied")
            return
        rows = rows.with_limit(one.asked.limit)
        try:
            cursor = _same(was, rows) if was is not None and since is None else self._cursor(since, rows)
        except ValueError:
            self._refuse(one, ErrorCode.INVALID_FIELD, zh.FIELD_WRONG, f"from.bound: {en.BOUND_FORM}")
            return
        if was is not None:
            self.drop(was)
        self.enter_list(FollowedList(self, one, cursor, 0 if was is None else was.number), name, fields, rows)

    def _cursor(self, since: From | None, of: ListRange) -> Cursor | None:
        """Raises ValueError: the bound is in the wrong form for the list."""
        if since is None:
            return None
        bound = of.place_of(since.bound)
        is_here = since.log == self.log_id and since.of == of.name
        return Cursor(since.position, bound) if is_here else None

    def enter_list(
        self, followed: FollowedList, name: str, fields: Mapping[str, Any], rows: ListRange
    ) -> None:
        """Follow these rows."""
        followed.view = view = self.wires.views.enter(name, fields, rows, followed)
        known = self._enter(followed, view.number)
        if isinstance(known, FollowedList) and known.cursor != followed.cursor:
            followed.cursor = None  # the client may apply more before it hears of this

    def _enter(self, followed: Followed, number: int) -> Followed | None:
        """Returns whose place it takes: a second `follow` of the same begins anew."""
        known = self._followed.pop(number, None)
        followed.number = number
        self._followed[number] = followed
        if known is not None:
            known.leave()
        return known

    async def _ask_readers(self, one: Follow, stream: str) -> None:
        can = one.asked.presence is not None or self.wires.states.has(stream)
        may = can and await self.wires.verdicts.of(self.principal, stream)
        self._ref.step(lambda: self._begin_stream(one, stream, may=may))

    def _begin_stream(self, one: Follow, stream: str, *, may: bool | None) -> None:
        self._pending -= 1
        if self.session.closed:
            return
        if not may:
            self._say(type="following", id=one.request_id, outcome="denied")
        elif one.asked.presence is None:
            state = FollowedState(self, one, stream)
            state.view = self.wires.states.enter(stream, state)
            self._enter(state, state.view.number)
        else:
            self._enter_room(FollowedPresence(self, one, stream), one.asked.data)

    def _enter_room(self, member: FollowedPresence, data: Any) -> None:
        for known in tuple(self._followed.values()):  # one connection is in a room once
            if isinstance(known, FollowedPresence) and known.stream == member.stream:
                self.drop(known)
        row, presence = member.row(data), self.wires.presence
        member.room = room = presence.enter(member.stream, member, self.session.id, row)
        self._enter(member, room.count_number if member.counts else room.number)
        self._pump.write(self.announced(member, "fresh"))

    def present(self, one: Present) -> None:
        """Show the others in a room something else of this connection."""
        member = self._followed.get(one.view)
        if not isinstance(member, FollowedPresence) or member.room is None:
            self._refuse(one, ErrorCode.NOT_FOUND, zh.NO_VIEW)
        elif (why := _data_too_long(one.data)) is not None:
            self._refuse(one, ErrorCode.INVALID_FIELD, zh.FIELD_WRONG, why)
        else:
            self.wires.presence.present(member.room, self.session.id, member.row(one.data))

    def unfollow(self, one: Unfollow) -> None:
        """Follow a view no more. It is answered even if there was none."""
        if (followed := self._followed.get(one.view)) is not None:
            self.drop(followed)
        self._say(type="unfollowed", id=one.request_id, view=one.view)

    def acked(self, views: Mapping[str, int]) -> None:
        """The client has applied what was sent up to these positions."""
        for number, position in views.items():
            followed = self._followed.get(int(number)) if number.isdecimal() else None
            if followed is not None:
                followed.acked(position)

    # What happens to the connection -----------------------------------------------------------------

    def reach(self, position: int) -> None:
        """Say when all lists contain `position`, which a command of the client reached."""
        if position > self._awaited and self._lists:
            known, self._awaited = self._awaited, position
            if known == self._reached:  # else one is under way, and this one follows
                self._reach()

    @property
    def _lists(self) -> list[FollowedList]:
        return [one for one in self._followed.values() if isinstance(one, FollowedList)]

    def _reach(self) -> None:
        position = self._awaited
        views = [one.view for one in self._lists if one.view is not None]
        self.wires.views.when_told(views, lambda: self._later(lambda: self._say_reached(position)))

    def _say_reached(self, position: int) -> None:
        self._reached = position
        if self.session.closed:
            return
        but = [one.number for one in self._lists if one.waits or one.held]
        self._say(type="reached", position=position, but=but or None)
        if self._awaited > position:
            self._reach()

    def go_on(self) -> None:
        """The socket takes more again, or a command was answered."""
        while self._late and self._late[0][0].isdisjoint(self.session.delivery.running):
            self._late.popleft()[1]()
        for followed in tuple(self._followed.values()):
            followed.go_on()

    def judge_all(self) -> None:
        """Ask again for each place whether the user may have it."""
        for followed in tuple(self._followed.values()):
            followed.judge()

    def end(self) -> None:
        """The connection ends. Idempotent."""
        for followed in tuple(self._followed.values()):
            self.drop(followed)

    def _refuse(self, one: Follow | Present, code: ErrorCode, text: str, details: str = "") -> None:
        self._pump.write(self.session.refusal(code, text, details, one.request_id))

    def _say(self, **members: object) -> None:
        self._pump.write(outgoing.message(**members))


def _too_long(one: Follow) -> str | None:
    """Which field of a request is too long, and how long it may be."""
    bound = None if one.asked.since is None else one.asked.since.bound
    texts = () if bound is None else (bound,) if isinstance(bound, str) else bound
    if max((len(text.encode()) for text in texts), default=0) > KEY_BYTES_MAX:
        return f"from.bound: {en.BYTES_MOST.format(KEY_BYTES_MAX)}"
    return _data_too_long(one.asked.data)


def _data_too_long(data: Any) -> str | None:
    is_short = len(msgspec.json.encode(data)) <= DATA_BYTES_MAX
    return None if is_short else f"data: {en.BYTES_MOST.format(DATA_BYTES_MAX)}"


def _same(was: FollowedList, rows: ListRange) -> Cursor | None:
    """Where a list stands whose limit changes; nowhere if its rows are others."""
    view = was.view
    return was.cursor if view is not None and view.of.name == rows.name else None
