"""The lists that one connection follows: its places in views, acks, and what its user may have.

At most `UNACKED_MAX` changes of a view are sent ahead of the client's acks, for as long as it likes: a
client that pauses acks nothing. Rights are the list's function. It is asked again where the readers of a
stream are, and nothing is sent until it has answered.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from huahuo.actors.plugins.calls import UserId
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


class Followed:
    """One list of the connection. Implements `views.Follower`."""

    __slots__ = ("_of", "asked", "cursor", "held", "resumes", "unacked", "view", "waits", "was")

    def __init__(self, of: "Following", asked: Follow | None, cursor: Cursor | None, was: int = 0) -> None:
        self._of = of
        self.asked = asked
        """The request that is answered with the first rows; None: it has been, or there was none."""
        self.cursor = cursor
        self.was = was
        self.resumes = asked is not None and (asked.asked.since is not None or was > 0)
        self.held = False
        self.waits = False
        """There may be changes that it cannot take now."""
        self.unacked: list[int] = []
        self.view: View | None = None

    @property
    def user_id(self) -> UserId:
        """See `Follower`."""
        return self._of.user_id

    def may_take(self) -> bool:
        """See `Follower`."""
        return not self.held and len(self.unacked) < UNACKED_MAX and self._of.has_room()

    def take(self, change: Window, frames: Sequence[bytes]) -> None:
        """See `Follower`."""
        view = self.view
        assert view is not None, "it has entered one"
        first = self.asked is not None or self.was > 0
        if first:
            frames = [self._of.begun(self, view, change), *frames]
        self.cursor, self.waits = change.cursor, False
        if first or change.reset or change.put or change.drop:
            if self._of.acks:
                self.unacked.append(change.cursor.position)
            self._of.write(frames)

    def wait(self) -> None:
        """See `Follower`."""
        self.waits = True

    def judge(self) -> None:
        """See `Follower`."""
        self._of.judge(self)

    def reach(self, position: int) -> None:
        """See `Follower`."""
        self._of.reach(position)


class FollowedState:
    """One state that the connection follows. Implements `states.StateFollower`."""

    __slots__ = ("_of", "asked", "begun", "held", "resumes", "seq", "unacked", "view", "waits")

    def __init__(self, of: "Following", asked: str | None, seq: int, *, resumes: bool) -> None:
        self._of = of
        self.asked = asked
        self.seq = seq
        self.resumes = resumes
        self.begun = False
        self.held = False
        self.waits = False
        self.unacked: list[int] = []
        self.view: StateView | None = None

    @property
    def user_id(self) -> UserId:
        """See `StateFollower`."""
        return self._of.user_id

    def may_take(self) -> bool:
        """See `StateFollower`."""
        return not self.held and len(self.unacked) < UNACKED_MAX and self._of.has_room()

    def wait(self) -> None:
        """See `StateFollower`."""
        self.waits = True

    def take(self, seq: int, frame: bytes | None) -> None:
        """See `StateFollower`."""
        assert self.view is not None, "it has entered one"
        frames = [] if frame is None else [frame]
        if not self.begun:
            self.begun = True
            frames.insert(0, self._of.state_begun(self, self.view, has_it=frame is None))
        self.seq, self.waits = seq, False
        if frame is not None and self._of.acks:
            self.unacked.append(seq)
        if frames:
            self._of.write(frames)

    def ack(self, seq: int) -> None:
        """The client has what was sent up to this event."""
        self.unacked = [one for one in self.unacked if one > seq]
        if self.waits and self.view is not None:
            self._of.wake_state(self.view)

    def fail(self, reason: str) -> None:
        """See `StateFollower`."""
        self._of.end_state(self, reason)

    def judge(self) -> None:
        """See `StateFollower`."""
        if self.view is not None:
            self._of.judge_state(self, self.view)


class FollowedPresence:
    """One room that the connection is in. Implements `presence.PresenceFollower`."""

    __slots__ = ("_of", "asked", "counts", "held", "position", "room", "since_ms", "unacked", "waits")

    def __init__(self, of: "Following", asked: str | None, since_ms: int, *, counts: bool) -> None:
        self._of = of
        self.asked = asked
        self.since_ms = since_ms
        self.counts = counts
        self.position = 0
        self.held = False
        self.waits = False
        self.unacked: list[int] = []
        self.room: Room | None = None

    @property
    def number(self) -> int:
        """Of its view."""
        assert self.room is not None, "it has entered one"
        return self.room.count_number if self.counts else self.room.number

    def may_take(self) -> bool:
        """See `PresenceFollower`."""
        return not self.held and len(self.unacked) < UNACKED_MAX and self._of.has_room()

    def wait(self) -> None:
        """See `PresenceFollower`."""
        self.waits = True

    @property
    def user_id(self) -> UserId:
        """See `PresenceFollower`."""
        return self._of.user_id

    def judge(self) -> None:
        """See `PresenceFollower`."""
        self._of.judge_member(self)

    def take(self, position: int, frames: Sequence[bytes]) -> None:
        """See `PresenceFollower`."""
        self.position, self.waits = position, False
        if self._of.acks:
            self.unacked.append(position)
        self._of.write(frames)


class Following:
    """See the module. Made at the first `follow` of a connection."""

    def __init__(
        self, shell: Shell, ref: ConnectionRef, *, ws: Socket, session: Session, pump: Pump, wires: Wires
    ) -> None:
        self._shell = shell
        self._ref = ref
        self._ws = ws
        self._session = session
        self._pump = pump
        self._views = wires.views
        self._states = wires.states
        self._verdicts = wires.verdicts
        self._of_states: dict[int, FollowedState] = {}
        self._presence = wires.presence
        self._ambient = wires.ambient
        self._in_rooms: dict[int, FollowedPresence] = {}
        self._log_id = wires.shared.log.log_id
        self._most = wires.shared.settings.subscriptions_max
        """Of what it follows and reads together."""
        self._followed: dict[int, Followed] = {}
        self._pending = 0
        self._awaited = self._reached = 0
        self._late = deque[tuple[frozenset[Cause], Sequence[bytes]]]()
        """Frames, each with the commands whose replies come before it."""

    @property
    def user_id(self) -> UserId:
        """Whose connection it is."""
        principal = self._session.principal
        assert principal is not None, "who follows has signed in"
        return principal.user_id

    @property
    def acks(self) -> bool:
        """Whether it acks what was sent."""
        return self._session.acks

    def has_room(self) -> bool:
        """Whether the socket takes more now."""
        return self._ws.has_room()

    def write(self, frames: Sequence[bytes]) -> None:
        """Send frames, after the replies to all commands that are running: they may be what changed."""
        self._ref.tell_step(lambda: self._write(frames))

    def _write(self, frames: Sequence[bytes]) -> None:
        running = self._session.delivery.running
        if running or self._late:
            self._late.append((frozenset(running), frames))
        else:
            self._pump.write_all(frames)

    def reach(self, position: int) -> None:
        """Say when all lists contain `position`, which a command of the client reached."""
        if self._followed and position > self._awaited:
            known, self._awaited = self._awaited, position
            if known == self._reached:  # else one is under way, and this one follows
                self._reach()

    def _reach(self) -> None:
        position = self._awaited
        views = [one.view for one in self._followed.values() if one.view is not None]
        self._views.when_told(views, lambda: self._say_reached(position))

    def _say_reached(self, position: int) -> None:
        self._reached = position
        if self._session.closed:
            return
        but = [number for number, one in self._followed.items() if one.waits or one.held]
        self.write([outgoing.message(type="reached", position=position, but=but or None)])
        if self._awaited > position:
            self._reach()

    def follow(self, one: Follow) -> None:
        """Begin to follow a list or a state, or change the limit of a list."""
        asked, was = one.asked, None
        count = len(self._followed) + len(self._of_states) + len(self._in_rooms) + self._pending
        if asked.view is not None:
            was = self._followed.get(asked.view)
            if was is None:
                self._refuse(one, ErrorCode.NOT_FOUND, zh.NO_VIEW)
                return
        elif count + len(self._session.delivery.subs) >= self._most:
            self._refuse(one, ErrorCode.TOO_LARGE, zh.TOO_MANY_VIEWS.format(self._most))
            return
        if asked.presence is not None:
            if self._is_short(asked.data, one.request_id):
                self._pending += 1
                self._shell.start_task(self._judge_presence(one, asked.presence, None))
            return
        if asked.state is not None:
            self._pending += 1
            self._shell.start_task(self._judge_state(one, asked.state, None))
            return
        bound = None if asked.since is None else asked.since.bound
        if bound is not None and max(len(text.encode()) for text in _texts(bound)) > KEY_BYTES_MAX:
            why = f"from.bound: {en.BYTES_MOST.format(KEY_BYTES_MAX)}"
            self._refuse(one, ErrorCode.INVALID_FIELD, zh.FIELD_WRONG, why)
            return
        self._pending += 1
        self._shell.start_task(self._ask(one, was))

    async def _ask(self, one: Follow, was: Followed | None) -> None:
        view = None if was is None else was.view
        name, fields = (one.asked.list, one.asked.fields) if view is None else (view.name, view.fields)
        answered = await self._answered(name, fields)
        self._ref.step(lambda: self._begin(one, was, name, fields, answered))

    async def _answered(self, name: str, fields: Mapping[str, Any]) -> Answered:
        principal = self._session.principal
        assert principal is not None, "who follows has signed in"
        try:
            return await self._views.ask(principal, name, fields, as_text=not self._session.acks)
        except EventStoreError:
            return Answered(code=ErrorCode.UNAVAILABLE, message=zh.LISTS_NOT_NOW)

    def _begin(
        self, one: Follow, was: Followed | None, name: str, fields: Mapping[str, Any], answered: Answered
    ) -> None:
        self._pending -= 1
        if self._session.closed:
            return
        if answered.code:
            self._refuse(one, ErrorCode(answered.code), answered.message, answered.details)
            return
        if answered.rows is not None and not _fits(one.asked.since, answered.rows):
            self._refuse(one, ErrorCode.INVALID_FIELD, zh.FIELD_WRONG, f"from.bound: {en.BOUND_FORM}")
            return
        if answered.rows is None:
            if was is not None:
                self._drop(was)
            self._say(type="following", id=one.request_id, outcome="denied")
            return
        of = answered.rows.with_limit(one.asked.limit)
        cursor = self._cursor(one, of) if one.asked.since is not None or was is None else _same(was, of)
        old = 0
        if was is not None and was.view is not None:
            old = was.view.number
            self._drop(was)
        self._enter(Followed(self, one, cursor, old), name, fields, of)

    def _cursor(self, one: Follow, of: ListRange) -> Cursor | None:
        since = one.asked.since
        if since is None or since.log != self._log_id or since.of != of.name:
            return None
        return Cursor(since.position, of.place_of(since.bound))

    def _enter(self, followed: Followed, name: str, fields: Mapping[str, Any], of: ListRange) -> None:
        view = self._views.enter(name, fields, of, followed)
        known = self._followed.pop(view.number, None)
        if known is not None:  # a second `follow` of the same moves it
            self._views.leave(view, known)
            if known.cursor != followed.cursor:  # the client may apply more before it hears of this
                followed.cursor = None
        followed.view = view
        self._followed[view.number] = followed

    def begun(self, followed: Followed, view: View, change: Window) -> bytes:
        """What announces a view whose first rows are there."""
        outcome = "resumed" if not change.reset else "reset" if followed.resumes or followed.was else "fresh"
        before, asked, was = followed.cursor, followed.asked, followed.was
        followed.asked, followed.was = None, 0
        return outgoing.message(
            type="following",
            id=None if asked is None else asked.request_id,
            view=view.number,
            was=was or None,
            outcome=outcome,
            log=self._log_id,
            position=change.cursor.position if change.reset or before is None else before.position,
            of=view.of.name,
            limit=view.of.limit,
            order="descending" if view.of.descending else "ascending",
        )

    def _is_short(self, data: Any, request_id: str | None) -> bool:
        if len(msgspec.json.encode(data)) <= DATA_BYTES_MAX:
            return True
        why = f"data: {en.BYTES_MOST.format(DATA_BYTES_MAX)}"
        self._pump.write(self._session.refusal(ErrorCode.INVALID_FIELD, zh.FIELD_WRONG, why, request_id))
        return False

    async def _judge_presence(self, one: Follow | None, stream: str, held: FollowedPresence | None) -> None:
        principal = self._session.principal
        assert principal is not None, "who follows has signed in"
        may = await self._verdicts.of(principal, stream)
        self._ref.step(lambda: self._presence_judged(one, stream, held, may=may))

    def _presence_judged(
        self, one: Follow | None, stream: str, held: FollowedPresence | None, *, may: bool | None
    ) -> None:
        """Of a request, or (`held`) of a room that it is in."""
        if one is not None:
            self._pending -= 1
        if self._session.closed:
            return
        if held is not None:
            held.held = False
            if held.room is None or self._in_rooms.get(held.number) is not held:
                return
            if may:
                self._presence.wake(held.room)
                return
            number = held.number
            self._leave_room(held)
            self._say(type="unfollowed", view=number, reason="corrupt" if may is None else "forbidden")
        elif one is not None and not may:
            self._say(type="following", id=one.request_id, outcome="denied")
        elif one is not None:
            self._enter_room(one, stream)

    def _enter_room(self, one: Follow, stream: str) -> None:
        for known in tuple(self._in_rooms.values()):  # a second `follow` of the same begins anew
            if known.room is not None and known.room.stream == stream:
                self._leave_room(known)
        member = FollowedPresence(self, one.request_id, self._ambient.now_ms(), counts=one.asked.count)
        row = self._row(member, one.asked.data)
        member.room = self._presence.enter(stream, member, self._session.id, row)
        self._in_rooms[member.number] = member
        self._say(type="following", id=one.request_id, view=member.number, outcome="fresh", log=self._log_id)

    def _row(self, member: FollowedPresence, data: Any) -> bytes:
        principal = self._session.principal
        assert principal is not None, "who follows has signed in"
        return msgspec.json.encode(
            {
                "client": self._session.client,
                "user": {"user_id": principal.user_id, "username": principal.username},
                "since": rfc3339(member.since_ms),
                "data": data,
            }
        )

    def present(self, one: Present) -> None:
        """Show the others in a room something else of this connection."""
        member = self._in_rooms.get(one.view)
        if member is None or member.room is None:
            self._pump.write(self._session.refusal(ErrorCode.NOT_FOUND, zh.NO_VIEW, "", one.request_id))
        elif self._is_short(one.data, one.request_id):
            self._presence.present(member.room, self._session.id, self._row(member, one.data))

    def _leave_room(self, member: FollowedPresence) -> None:
        room = member.room
        if room is not None and self._in_rooms.get(member.number) is member:
            del self._in_rooms[member.number]
            self._presence.leave(room, member, self._session.id)

    async def _judge_state(self, one: Follow | None, stream: str, held: "FollowedState | None") -> None:
        principal = self._session.principal
        assert principal is not None, "who follows has signed in"
        may = self._states.has(stream) and await self._verdicts.of(principal, stream)
        self._ref.step(lambda: self._state_judged(one, stream, held, may=may))

    def _state_judged(
        self, one: Follow | None, stream: str, held: "FollowedState | None", *, may: bool | None
    ) -> None:
        """Of a request, or (`held`) of a state that is followed."""
        if one is not None:
            self._pending -= 1
        if self._session.closed:
            return
        if held is not None:
            held.held = False
            if not may:
                self.end_state(held, "corrupt" if may is None else "forbidden")
            elif held.view is not None:
                self._states.wake(held.view)
        elif one is not None and not may:
            self._say(type="following", id=one.request_id, outcome="denied")
        elif one is not None:
            since = one.asked.since
            seq = since.seq if since is not None and since.log == self._log_id else 0
            followed = FollowedState(self, one.request_id, seq, resumes=since is not None)
            view = self._states.enter(stream, followed)
            known = self._of_states.pop(view.number, None)
            if known is not None:  # a second `follow` of the same begins anew
                self._states.leave(view, known)
            followed.view = view
            self._of_states[view.number] = followed

    def state_begun(self, followed: "FollowedState", view: StateView, *, has_it: bool) -> bytes:
        """What announces a state whose first telling is there."""
        outcome = "resumed" if has_it else "reset" if followed.resumes else "fresh"
        return outgoing.message(
            type="following", id=followed.asked, view=view.number, outcome=outcome, log=self._log_id
        )

    def judge_state(self, followed: "FollowedState", view: StateView) -> None:
        """Ask again whether the user may have a state."""
        if not followed.held and not self._session.closed:
            followed.held = True
            self._shell.start_task(self._judge_state(None, view.stream, followed))

    def end_state(self, followed: "FollowedState", reason: str) -> None:
        """The state is told no more."""
        view = followed.view
        if view is not None and self._of_states.get(view.number) is followed:
            self._leave_state(followed)
            self._say(type="unfollowed", view=view.number, reason=reason)

    def _leave_state(self, followed: "FollowedState") -> None:
        view = followed.view
        assert view is not None, "it has entered one"
        del self._of_states[view.number]
        self._states.leave(view, followed)

    def unfollow(self, one: Unfollow) -> None:
        """Follow a view no more. It is answered even if there was none."""
        followed = self._followed.get(one.view)
        if followed is not None:
            self._drop(followed)
        elif (state := self._of_states.get(one.view)) is not None:
            self._leave_state(state)
        elif (member := self._in_rooms.get(one.view)) is not None:
            self._leave_room(member)
        self._say(type="unfollowed", id=one.request_id, view=one.view)

    def acked(self, views: Mapping[str, int]) -> None:
        """The client has applied what was sent up to these positions."""
        for number, position in views.items():
            if not number.isdecimal():
                continue
            if (state := self._of_states.get(int(number))) is not None:
                state.ack(position)
                continue
            if (member := self._in_rooms.get(int(number))) is not None:
                member.unacked = [one for one in member.unacked if one > position]
                if member.waits and member.room is not None:
                    self._presence.wake(member.room)
                continue
            followed = self._followed.get(int(number))
            if followed is None or followed.view is None:
                continue
            was_full = not followed.may_take()
            followed.unacked = [one for one in followed.unacked if one > position]
            if was_full:
                self._views.wake(followed.view)

    def go_on(self) -> None:
        """The socket takes more again, or a command was answered."""
        while self._late and self._late[0][0].isdisjoint(self._session.delivery.running):
            self._pump.write_all(self._late.popleft()[1])
        for followed in self._followed.values():
            if followed.view is not None:
                self._views.wake(followed.view)
        for state in self._of_states.values():
            if state.view is not None and state.waits:
                self._states.wake(state.view)
        for member in self._in_rooms.values():
            if member.waits and member.room is not None:
                self._presence.wake(member.room)

    def wake_state(self, view: StateView) -> None:
        """A follower of a state can take more."""
        self._states.wake(view)

    def judge_all(self) -> None:
        """Ask again for each view which rows the user may have."""
        for followed in tuple(self._followed.values()):
            self.judge(followed)
        for state in tuple(self._of_states.values()):
            state.judge()
        for member in tuple(self._in_rooms.values()):
            member.judge()

    def judge_member(self, member: FollowedPresence) -> None:
        """Ask again whether the user may be in a room."""
        if not member.held and member.room is not None and not self._session.closed:
            member.held = True
            self._shell.start_task(self._judge_presence(None, member.room.stream, member))

    def judge(self, followed: Followed) -> None:
        """Ask again which rows the user may have of a view."""
        if not followed.held and not self._session.closed:
            followed.held = True
            self._shell.start_task(self._judged(followed))

    async def _judged(self, followed: Followed) -> None:
        view = followed.view
        assert view is not None, "it has entered one"
        answered = await self._answered(view.name, view.fields)
        self._ref.step(lambda: self._decided(followed, view, answered))

    def _decided(self, followed: Followed, view: View, answered: Answered) -> None:
        if self._session.closed or self._followed.get(view.number) is not followed:
            return
        followed.held = False
        if answered.rows is None:
            self._drop(followed)
            reason = "corrupt" if answered.code else "forbidden"
            self._say(type="unfollowed", view=view.number, reason=reason)
            return
        of = answered.rows.with_limit(view.of.limit)
        if of == view.of:
            self._views.wake(view)
            return
        self._drop(followed)
        self._enter(Followed(self, followed.asked, None, view.number), view.name, view.fields, of)

    def end(self) -> None:
        """The connection ends. Idempotent."""
        for followed in tuple(self._followed.values()):
            self._drop(followed)
        for state in tuple(self._of_states.values()):
            self._leave_state(state)
        for member in tuple(self._in_rooms.values()):
            self._leave_room(member)

    def _drop(self, followed: Followed) -> None:
        view = followed.view
        if view is not None and self._followed.get(view.number) is followed:
            del self._followed[view.number]
            self._views.leave(view, followed)

    def _refuse(self, one: Follow, code: ErrorCode, text: str, details: str = "") -> None:
        self._pump.write(self._session.refusal(code, text, details, one.request_id))

    def _say(self, **members: object) -> None:
        self._pump.write(outgoing.message(**members))


def _fits(since: From | None, of: ListRange) -> bool:
    """Whether a bound has a part where the list has several, and none where it has one."""
    return since is None or since.bound is None or isinstance(since.bound, str) == (len(of.parts) == 1)


def _texts(bound: str | Sequence[str]) -> Sequence[str]:
    return (bound,) if isinstance(bound, str) else bound


def _same(was: Followed, of: ListRange) -> Cursor | None:
    """Where a follower stands whose limit changes; nowhere if its rows are others."""
    view = was.view
    return was.cursor if view is not None and view.of.name == of.name else None
