"""Connections that are written the same frame, at the cost of the system call alone.

A connection that is served by itself is looked at for each event: its session, its window, its socket. With
hundreds of them that costs nearly as much as the sending, because none of it is still in the processor's
cache. So connections that watch one stream, stand at the same event and have a socket with nothing to write
form cohorts: lists of descriptors with one position (`session.pace`).

A connection leaves its cohort before anything else is written to it, when its subscription is moved or held,
and when its socket does not take a whole frame. It is then served by itself, and may join again.
"""

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Protocol

from huahuo.transport.protocol.frames import EventTexts, Framer
from huahuo.transport.server.sends import Direct
from huahuo.transport.session.pace import Pace
from huahuo.transport.session.session import Session


class Marcher(Protocol):
    """A connection that may join a cohort."""

    @property
    def session(self) -> Session:
        """The session of this connection."""
        ...

    def direct(self, leave: Callable[[], None]) -> tuple[Direct, int] | None:
        """Its socket and the descriptor, if it has nothing to write and can be written to past its transport.

        `leave` is called before anything else is written to it, until `on_its_own`.
        """
        ...

    def on_its_own(self) -> None:
        """It has left the cohort."""
        ...


class Cohort[M: Marcher]:
    """See the module. `kind` is that of the frames that all its members want."""

    __slots__ = ("batched", "descriptors", "framer", "kind", "members", "pace", "sockets")

    def __init__(self, sent: int, like: Session) -> None:
        """Begin behind event `sent`, for connections that want the same frames as `like`."""
        delivery = like.delivery
        self.kind, self.batched = delivery.kind, delivery.batched
        self.framer: Framer | EventTexts | None = delivery.framer
        self.pace = Pace(sent)
        self.members: list[_Member[M]] = []
        self.sockets: list[Direct] = []
        self.descriptors: list[int] = []

    def admit(self, stream: str, lane: M, left: Callable[[M], None]) -> bool:
        """Let a connection join, if it can. `left` is called with it when it has left."""
        delivery = lane.session.delivery
        found = lane.direct(delivery.leave_pace)
        if found is None:
            return False
        member = _Member(self, lane, len(self.members), left)
        if not delivery.keep_pace(stream, self.pace, member.leave):
            lane.on_its_own()
            return False
        self.members.append(member)
        self.sockets.append(found[0])
        self.descriptors.append(found[1])
        return True

    def bound_again(self) -> None:
        """Go on as far as the windows of all have room now. Those that have not much leave."""
        self.pace.unbound()
        for member in tuple(self.members):
            member.lane.session.delivery.bound_again()

    def dissolve(self) -> Sequence[M]:
        """All leave. Returns who they were."""
        lanes = [member.lane for member in self.members]
        for lane in lanes:
            lane.session.delivery.leave_pace()
        return lanes


class Members[M: Marcher]:
    """Who watches one stream. `alone` are those in no cohort; `served_alone` has them as a tuple."""

    __slots__ = ("_alone", "_asked", "_snapshot", "_to_ask", "all", "cohorts")

    def __init__(self) -> None:
        self.all: dict[M, None] = {}
        self._alone: dict[M, None] = {}
        self.cohorts: list[Cohort[M]] = []
        self._snapshot: tuple[M, ...] | None = None
        self._asked = 0
        self._to_ask = 0

    def join(self, lane: M) -> None:
        """One more."""
        if lane not in self.all:
            self.all[lane] = None
            self._on_its_own(lane)

    def leave(self, lane: M) -> None:
        """One less, if it is one."""
        if lane in self.all:
            if lane not in self._alone:
                lane.session.delivery.leave_pace()
            del self.all[lane], self._alone[lane]
            self._snapshot = None

    def _on_its_own(self, lane: M) -> None:
        self._alone[lane] = None
        self._snapshot = None

    def served_alone(self) -> tuple[M, ...]:
        """Those who are in no cohort."""
        if self._snapshot is None:
            self._snapshot = tuple(self._alone)
        return self._snapshot

    def due_to_gather(self, every: int) -> bool:
        """Called for each hand-out. All who are served alone are asked, then nobody for `every` hand-outs."""
        if not self._to_ask:
            self._asked += 1
            if not self._asked % every:
                self._to_ask = len(self._alone)
        return self._to_ask > 0

    def gather(self, stream: str, sent: int, size_max: int) -> int:
        """Ask the next ones to join a cohort behind event `sent`. Returns how many: at most `size_max`."""
        open_: dict[str, list[Cohort[M]]] = {}
        for cohort in self.cohorts:
            if cohort.pace.sent == sent and cohort.pace.lasts and len(cohort.members) < size_max:
                open_.setdefault(cohort.kind, []).append(cohort)
        asked = tuple(islice(self._alone, min(size_max, self._to_ask)))
        self._to_ask = self._to_ask - len(asked) if asked else 0
        for lane in asked:
            fitting = open_.setdefault(lane.session.delivery.kind, [])
            if not fitting:
                fitting.append(Cohort(sent, lane.session))
            cohort = fitting[-1]
            joined = cohort.admit(stream, lane, self._on_its_own)
            del self._alone[lane]
            if not joined:
                self._alone[lane] = None  # behind all others
                continue
            if len(cohort.members) == 1 and cohort not in self.cohorts:
                self.cohorts.append(cohort)
            if len(cohort.members) >= size_max:
                fitting.pop()
        self._snapshot = None
        return len(asked)


class _Member[M: Marcher]:
    """One connection in a cohort, and its place there."""

    __slots__ = ("_cohort", "_left", "at", "lane")

    def __init__(self, cohort: Cohort[M], lane: M, at: int, left: Callable[[M], None]) -> None:
        self._cohort = cohort
        self.lane = lane
        self.at = at
        self._left = left

    def leave(self) -> None:
        """Give up the place: the last member takes it."""
        cohort, at = self._cohort, self.at
        last, socket, descriptor = cohort.members.pop(), cohort.sockets.pop(), cohort.descriptors.pop()
        if last is not self:
            last.at = at
            cohort.members[at], cohort.sockets[at], cohort.descriptors[at] = last, socket, descriptor
        self.lane.on_its_own()
        self._left(self.lane)
