"""The subscriptions of one session: rights, positions, acks (PROTOCOL 3, 5). Pure."""

from collections.abc import Mapping
from functools import partial

import msgspec

from huahuo.actors.plugins.principal import Principal
from huahuo.eventstore.core.chain import check_of
from huahuo.eventstore.model import Head
from huahuo.transport.protocol import incoming
from huahuo.transport.protocol.codes import ErrorCode
from huahuo.transport.protocol.incoming import Invalid, Parsed
from huahuo.transport.protocol.place import Outcome, Place, place
from huahuo.transport.session import outgoing
from huahuo.transport.session.delivery import Delivery
from huahuo.transport.session.delivery_states import DeliveryState
from huahuo.transport.session.judging import DENIED, PENDING, Verdicts
from huahuo.transport.session.outputs import Acked, Alarm, Output, TakeSnapshot, Unwatch, Watch
from huahuo.transport.session.planning import Links, Plan, Planner
from huahuo.transport.session.shared import Shared
from huahuo.transport.session.speech import Speech
from huahuo.transport.session.subscription import Subscription
from huahuo.transport.words import en, zh

type Places = dict[str, Mapping[str, object]]
"""The member `streams` of `authentication_result`."""

BEHIND = en.BEHIND_YOU
_NO_VERDICTS: Verdicts = {}


class Readers(Planner):
    """See the module. This class decides; `delivery` keeps the positions."""

    __slots__ = ("_speech",)

    def __init__(
        self, shared: Shared, delivery: Delivery, speech: Speech, *, own_streams: bool = True
    ) -> None:
        super().__init__(shared, delivery, own_streams=own_streams)
        self._speech = speech

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
