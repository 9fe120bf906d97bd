"""The subscriptions of one session: rights, positions, acks (PROTOCOL 3, 5). Pure.

Before they begin, `Readers.plan` says what must be found out: links, places, verdicts.

`Judging` has those whose readers an application judges, while a verdict is awaited (PROTOCOL 3.1, 12). A
verdict may need an entity that must be loaded first. A subscription that waits for one is either not begun
(`pending`), or it was begun, something changed that may end the right to read, and no event is sent until
the verdict is there (`held`).
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import msgspec

from huahuo.actors.plugins.calls import Principal
from huahuo.eventstore.core.chain import check_of
from huahuo.eventstore.model import Head
from huahuo.transport.access.rights import SYSTEM_STREAM, Judged, may_read
from huahuo.transport.protocol import incoming
from huahuo.transport.protocol.codes import ErrorCode
from huahuo.transport.protocol.incoming import Invalid, Parsed
from huahuo.transport.protocol.kinds import Outcome, Place, place
from huahuo.transport.session import outgoing
from huahuo.transport.session.delivery import Delivery
from huahuo.transport.session.delivery_states import DeliveryState, Subscription
from huahuo.transport.session.interface import Acked, Alarm, Output, Shared, TakeSnapshot, Unwatch, Watch
from huahuo.transport.session.outgoing import Speech
from huahuo.transport.words import en, zh

type Verdicts = Mapping[str, bool | None]
"""By stream: whether the user may read it, None if that is not known yet."""

type Begin = Callable[[], list[Output]]
"""Begins a subscription whose verdict came late, and announces it."""

PENDING = Place(Outcome.PENDING, 0)
DENIED = Place(Outcome.DENIED, 0)


class _Held(msgspec.Struct, frozen=True):
    """A begun subscription. `wants_snapshot`: it waited for one, which is taken again."""

    sub: Subscription
    wants_snapshot: bool


class Judging:
    """The streams of one session for which a verdict is awaited. `judged`: those that are judged at all."""

    __slots__ = ("_delivery", "_held", "_judged", "_pending")

    def __init__(self, judged: Judged, delivery: Delivery) -> None:
        self._judged = judged
        self._delivery = delivery
        self._pending: dict[str, Begin] = {}
        self._held: dict[str, _Held] = {}

    def asks(self, principal: Principal, stream: str) -> bool:
        """Whether the right to read `stream` is for the application to judge."""
        return self._judged.asks(principal, stream)

    def by_rule(self, principal: Principal, stream: str) -> bool | None:
        """Whether `principal` may read `stream`, None if that is for the application to judge."""
        return None if self._judged.asks(principal, stream) else may_read(principal, stream)

    def readable(self, principal: Principal, stream: str, verdicts: Verdicts) -> bool | None:
        """Whether `principal` may read `stream`, None if that is not known yet."""
        if self.asks(principal, stream):
            return verdicts.get(stream, False)
        return may_read(principal, stream)

    def subscribed(self, principal: Principal) -> tuple[str, ...]:
        """The streams of the present subscriptions that must be judged for another token."""
        return tuple(stream for stream in self._delivery.subs if self.asks(principal, stream))

    def pend(self, stream: str, begin: Begin) -> None:
        """Remember how to begin a subscription when its verdict comes. A newer request replaces it."""
        self._pending[stream] = begin

    def forget(self, stream: str) -> bool:
        """The client wants it no longer, or asks anew. True if it was pending."""
        self._held.pop(stream, None)
        return self._pending.pop(stream, None) is not None

    def hold(self, stream: str) -> bool:
        """Send nothing more of `stream` until its verdict. False: it is not subscribed."""
        self._delivery.leave_pace()
        sub = self._delivery.subs.get(stream)
        if sub is None:
            return False
        held = self._held.get(stream)
        waits = sub.state is DeliveryState.SNAPSHOT
        again = self._delivery.add(stream, sub.flow.sent, waiting=True)
        again.told_live = sub.told_live
        waited = waits if held is None or held.sub is not sub else held.wants_snapshot
        self._held[stream] = _Held(again, waited)
        return True

    def allow(self, stream: str) -> list[Output]:
        """The verdict is that the user may read: begin what was pending, go on with what was held."""
        begin = self._pending.pop(stream, None)
        if begin is not None:
            return begin()
        held = self._held.pop(stream, None)
        if held is None or self._delivery.subs.get(stream) is not held.sub:
            return []
        if held.wants_snapshot:
            return [TakeSnapshot(held.sub)]
        return [*self._delivery.settle(held.sub)]


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


type Places = dict[str, Mapping[str, object]]
"""The member `streams` of `authentication_result`."""

BEHIND = en.BEHIND_YOU
_NO_VERDICTS: Verdicts = {}


class Readers:
    """See the module. This class decides; `delivery` keeps the positions."""

    __slots__ = (
        "_delivery", "_own_streams", "_shared", "_speech", "judging",
    )  # fmt: skip

    def __init__(
        self, shared: Shared, delivery: Delivery, speech: Speech, *, own_streams: bool = True
    ) -> None:
        self._own_streams = own_streams
        self._shared = shared
        self._delivery = delivery
        self.judging = Judging(shared.judged, delivery)
        self._speech = speech

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

    def open(
        self, plan: Plan, links: Links | None = None, verdicts: Verdicts = _NO_VERDICTS
    ) -> tuple[Places, list[Output]]:
        """Begin the first subscriptions: the user's own stream, `system`, and the streams of the cursors.

        `links`: the known links of the events that the plan named; None: nothing was looked up, so that
        nothing happened since the plan was made. `verdicts`: about the streams that it names.
        """
        resume, log = plan.resume, self._shared.log
        same_log = resume.log == log.log_id
        streams: Places = {}
        begun: list[Output] = []
        for stream, by_rule, was_head in plan.firsts:
            head = was_head if links is None else log.head(stream)
            where = DENIED
            readable = verdicts.get(stream, False) if by_rule is None else by_rule
            cursor = resume.cursors.get(stream)
            after = "head" if cursor is None else cursor
            if readable is None:
                where = PENDING
                late = incoming.Subscribe(stream, after, resume.log, resume.checks.get(stream))
                self.judging.pend(stream, partial(self._late, late, None, links or {}))
            elif readable and self._has_room(stream):
                check = resume.checks.get(stream)
                differs = check is not None and _differs(head, stream, check, links or {})
                where = place(head, after, same_log=same_log, differs=differs)
                begun += self._begin(stream, where, cursor, head, check)
            streams[stream] = outgoing.placed(where, head)
        return streams, begun

    def renew(self, principal: Principal, verdicts: Verdicts = _NO_VERDICTS) -> tuple[Places, list[Output]]:
        """A new token of the same user: the positions, and the ends of subscriptions that it forbids."""
        lost: list[Output] = []
        for stream in tuple(self._delivery.subs):
            readable = self.judging.readable(principal, stream, verdicts)
            if readable is None:
                self.judging.hold(stream)
            elif not readable:
                lost += self._end(stream, "forbidden")
        streams: Places = {}
        for stream, sent in self._delivery.cursors().items():
            known = self.judging.readable(principal, stream, verdicts) is not None
            where = Place(Outcome.RESUMED, sent) if known else PENDING
            streams[stream] = outgoing.placed(where, self._shared.log.head(stream))
        return streams, lost

    def subscribe(
        self, parsed: Parsed, principal: Principal, links: Links, verdicts: Verdicts = _NO_VERDICTS
    ) -> list[Output]:
        """`subscribe`; a repeated one moves the position.

        `links` and `verdicts`: as for `open`, of `unknown_of` and `to_judge_of`.
        """
        asked = incoming.convert(parsed, incoming.Subscribe)
        if isinstance(asked, Invalid):
            return [self._speech.refusal(asked)]
        stream = asked.stream
        self.judging.forget(stream)
        readable = self.judging.readable(principal, stream, verdicts)
        if readable:
            return self._placed(asked, parsed.id, links)
        if readable is None:
            self.judging.pend(stream, partial(self._late, asked, parsed.id, links))
        where = DENIED if readable is False else PENDING
        return [self._subscribed(stream, where, self._shared.log.head(stream), parsed.id)]

    def _late(self, asked: incoming.Subscribe, request_id: str | None, links: Links) -> list[Output]:
        """The user may read, and has been told that this was not known yet."""
        if isinstance(asked.after, int) and asked.log is None:
            asked = msgspec.structs.replace(asked, log="")  # of no log: a reset, as at a sign-in
        return self._placed(asked, request_id, links)

    def _placed(self, asked: incoming.Subscribe, request_id: str | None, links: Links) -> list[Output]:
        """Begin the subscription of a reader at the place that is asked for."""
        stream, log = asked.stream, self._shared.log
        head = log.head(stream)
        if not self._has_room(stream):
            text = zh.TOO_MANY_SUBSCRIPTIONS.format(self._shared.settings.subscriptions_max)
            return [self._speech.error(ErrorCode.TOO_LARGE, text, request_id=request_id)]
        cursor = asked.after if isinstance(asked.after, int) else None
        if cursor is not None and asked.log is None:
            why = en.LOG_WANTED
            return [self._speech.refusal(incoming.invalid_field("log", why, request_id))]
        try:
            differs = _differs(head, stream, asked.check, links)
            where = place(head, asked.after, same_log=asked.log == log.log_id, differs=differs)
        except ValueError:
            why = en.PLACE_WANTED
            return [self._speech.refusal(incoming.invalid_field("after", why, request_id))]
        begun = self._begin(stream, where, cursor, head, asked.check)
        return [self._subscribed(stream, where, head, request_id), *begun]

    def judged(self, stream: str, *, readable: bool | None) -> list[Output]:
        """The verdict about a pending or held subscription came."""
        if readable:
            return self.judging.allow(stream)
        pending = self.judging.forget(stream)
        subscribed = stream in self._delivery.subs
        reason = "corrupt" if readable is None else "forbidden"
        return self._end(stream, reason) if subscribed or pending else []

    def unsubscribe(self, parsed: Parsed) -> list[Output]:
        """`unsubscribe`. It is answered even if there was no subscription."""
        asked = incoming.convert(parsed, incoming.Unsubscribe)
        if isinstance(asked, Invalid):
            return [self._speech.refusal(asked)]
        self.judging.forget(asked.stream)
        was = self._delivery.drop(asked.stream)
        said = outgoing.message(type="unsubscribed", id=parsed.id, stream=asked.stream)
        return [Unwatch(asked.stream), said] if was else [said]

    def snapshot(self, sub: Subscription, seq: int, frame: bytes | None, *, more: bool) -> list[Output]:
        """See `Session.snapshot`."""
        if sub.state is DeliveryState.GONE:
            return []
        if frame is None:
            return self._end(sub.stream, "too_large")
        if more:
            self._delivery.part_sent(sub)
            return [frame]
        return [frame, *self._delivery.place(sub, seq)]

    def refuse_snapshot(self, sub: Subscription, reason: str, retry_s: float | None) -> list[Output]:
        """There is no snapshot, for now (`retry_s`) or at all: end this subscription only."""
        if sub.state is DeliveryState.GONE:
            return []
        return self._end(sub.stream, reason, retry_s)

    def corrupt(self, sub: Subscription) -> list[Output]:
        """The data that `sub` needs can never be read: end it, unless it has ended already."""
        if sub.state is DeliveryState.GONE:
            return []
        return self._end(sub.stream, "corrupt")

    def acks(self, cursors: Mapping[str, int], now_s: float) -> list[Acked]:
        """The acks that count; cursors beyond the last event sent are left out."""
        ack = self._delivery.ack
        return [Acked(stream, seq) for stream, seq in cursors.items() if ack(stream, seq, now_s)]

    def _has_room(self, stream: str) -> bool:
        subs = self._delivery.subs
        return stream in subs or len(subs) < self._shared.settings.subscriptions_max

    def _begin(
        self, stream: str, where: Place, cursor: int | None, head: Head, check: incoming.Check | None
    ) -> list[Output]:
        """Begin a subscription; the outputs follow the message that announces it."""
        sub = self._delivery.add(stream, where.after, waiting=where.needs_snapshot)
        begun: list[Output] = [Watch(stream, where.outcome)]
        if (where.ahead or where.differs) and cursor is not None:
            begun.append(Alarm(stream, cursor, head.seq, check[0] if check and where.differs else 0))
        if where.needs_snapshot:
            begun.append(TakeSnapshot(sub))
        else:
            begun += self._delivery.settle(sub, head)
        return begun

    def _end(self, stream: str, reason: str, retry_s: float | None = None) -> list[Output]:
        """End a subscription from this side."""
        was = self._delivery.drop(stream)
        said = outgoing.message(type="unsubscribed", stream=stream, reason=reason, retry_s=retry_s)
        return [Unwatch(stream), said] if was else [said]

    def _subscribed(self, stream: str, where: Place, head: Head, request_id: str | None) -> bytes:
        return outgoing.message(
            type="subscribed",
            id=request_id,
            stream=stream,
            log=self._shared.log.log_id,
            **outgoing.placed(where, head),
        )


def _differs(head: Head, stream: str, check: incoming.Check | None, links: Links) -> bool:
    """Whether a client's check contradicts the log. If the log's link is unknown, it does not."""
    if check is None or not check[0]:
        return False
    seq, text = check
    if seq > head.seq:
        return True  # the client saw an event that the log does not hold
    link = head.link if seq == head.seq else b""
    link = link or links.get((stream, seq), b"")
    return bool(link) and check_of(link) != text
