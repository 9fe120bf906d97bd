"""What must be found out before subscriptions begin: links, places, verdicts (PROTOCOL 3). Pure."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from huahuo.actors.plugins.principal import Principal
from huahuo.eventstore.model import Head
from huahuo.transport.access.rights import SYSTEM_STREAM
from huahuo.transport.protocol import incoming
from huahuo.transport.protocol.incoming import Invalid, Parsed
from huahuo.transport.session.delivery import Delivery
from huahuo.transport.session.judging import Judging
from huahuo.transport.session.shared import Shared

type EventPlace = tuple[str, int]
"""Stream and seq of an event."""

type Links = Mapping[EventPlace, bytes]
"""Links of the hash chain."""

type First = tuple[str, bool | None, Head]
"""A stream, whether the user may read it (None: the application judges), and its head."""


class Plan(NamedTuple):
    """The first streams of a connection.

    `places` and `judge`: what `open` needs to be looked up and judged before.
    """

    user: str
    resume: incoming.Resume
    firsts: Sequence[First]
    places: tuple[EventPlace, ...]
    judge: tuple[str, ...]


class Planner:
    """See the module. What it names is looked up and judged first, if it is not in memory."""

    __slots__ = ("_delivery", "_own_streams", "_shared", "judging")

    def __init__(self, shared: Shared, delivery: Delivery, *, own_streams: bool) -> None:
        self._own_streams = own_streams
        self._shared = shared
        self._delivery = delivery
        self.judging = Judging(shared.judged, delivery)

    def plan(self, principal: Principal, resume: incoming.Resume) -> Plan:
        """What is known about a connection's first streams, and what must be found out before `open`."""
        shared = self._shared
        log, by_rule = shared.log, self.judging.by_rule
        same_log = resume.log == log.log_id
        firsts: list[First] = []
        places: dict[EventPlace, None] = {}
        judge: list[str] = []
        looked_up_max = shared.settings.subscriptions_max
        user = principal.name
        own = (user, SYSTEM_STREAM) if self._own_streams else ()
        for stream in dict.fromkeys((*own, *resume.cursors)):
            readable, head = by_rule(principal, stream), log.head(stream)
            firsts.append((stream, readable, head))
            if len(firsts) > looked_up_max:
                continue
            if readable is None:
                judge.append(stream)
            if readable is not False:
                check = resume.checks.get(stream) if same_log and stream in resume.cursors else None
                self._want_links(stream, head, check, places)
            if same_log and shared.shared_log:
                self._want_ahead(stream, head, resume.cursors.get(stream), places)
        return Plan(user, resume, firsts, tuple(places), tuple(judge))

    def _want_ahead(self, stream: str, head: Head, cursor: object, places: dict[EventPlace, None]) -> None:
        """The cursor, if it is beyond the head here, and the log may be longer elsewhere."""
        if isinstance(cursor, int) and cursor > head.seq:
            places[stream, cursor] = None

    def is_behind(self, plan: Plan, links: Links) -> bool:
        """Whether this node is behind a client, and could not find out whether the log is too."""
        if not self._shared.shared_log or plan.resume.log != self._shared.log.log_id:
            return False
        head = self._shared.log.head
        return any(
            cursor > head(stream).seq and (stream, cursor) not in links
            for stream, cursor in plan.resume.cursors.items()
        )

    def is_behind_of(self, parsed: Parsed, links: Links) -> bool:
        """As `is_behind`, for a `subscribe`."""
        asked = incoming.convert(parsed, incoming.Subscribe)
        if isinstance(asked, Invalid) or asked.log != self._shared.log.log_id:
            return False
        places: dict[EventPlace, None] = {}
        if self._shared.shared_log:
            self._want_ahead(asked.stream, self._shared.log.head(asked.stream), asked.after, places)
        return bool(places.keys() - links.keys())

    def to_judge_of(self, parsed: Parsed, principal: Principal) -> tuple[str, ...]:
        """The stream of a `subscribe`, if the application must judge it before `subscribe`."""
        asked = incoming.convert(parsed, incoming.Subscribe)
        if isinstance(asked, Invalid) or not self.judging.asks(principal, asked.stream):
            return ()
        return (asked.stream,)

    def unknown_of(self, parsed: Parsed, principal: Principal) -> tuple[EventPlace, ...]:
        """The events whose links `subscribe` needs and that are not in memory."""
        asked = incoming.convert(parsed, incoming.Subscribe)
        if isinstance(asked, Invalid):
            return ()
        stream, head = asked.stream, self._shared.log.head(asked.stream)
        same_log = isinstance(asked.after, int) and asked.log == self._shared.log.log_id
        wanted: dict[EventPlace, None] = {}
        if self.judging.by_rule(principal, stream) is not False:
            self._want_links(stream, head, asked.check if same_log else None, wanted)
        if same_log and self._shared.shared_log:
            self._want_ahead(stream, head, asked.after, wanted)
        return tuple(wanted)

    def _want_links(
        self, stream: str, head: Head, check: incoming.Check | None, places: dict[EventPlace, None]
    ) -> None:
        """Add the events of a stream whose links are needed and are not in memory."""
        seq = check[0] if check else 0
        if not self._shared.knows(stream):
            places[stream, 0] = places[stream, seq] = None
            return
        if head.seq and not head.link:
            if self._delivery.batched:  # a classic client is told no check
                places[stream, head.seq] = None
            if seq == head.seq:
                places[stream, seq] = None
        if 0 < seq < head.seq:
            places[stream, seq] = None
