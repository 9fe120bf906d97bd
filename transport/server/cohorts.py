"""Connections that are written the same frame, at the cost of the system call alone.

A connection that is served by itself is looked at for each event: its session, its window, its socket. With
hundreds of them that costs nearly as much as the sending, because none of it is still in the processor's
cache. So connections that watch one stream, stand at the same event and have a socket with nothing to write
form cohorts: lists of descriptors with one position (`session.pace`).

A connection leaves its cohort before anything else is written to it, when its subscription is moved or held,
and when its socket does not take a whole frame. It is then served by itself, and may join again.
"""

from collections.abc import Callable, Sequence
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

    def dissolve(self) -> Sequence[M]:
        """All leave. Returns who they were."""
        lanes = [member.lane for member in self.members]
        for lane in lanes:
            lane.session.delivery.leave_pace()
        return lanes


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
