"""Connections that get every event together are written to together, and are told the same as others."""

import pytest

from huahuo.eventstore.model import LOG_STREAM
from huahuo.transport.protocol.codes import CloseCode
from huahuo.transport.protocol.dialects import V1, Dialect
from huahuo.transport.protocol.flow_control import TransportSettings
from huahuo.transport.protocol.frames import FrameCache
from huahuo.transport.server.fanout import FanOut
from huahuo.transport.session.interface import Now
from tests.support.drivers.direct import DirectDriver, Sockets
from tests.support.drivers.session import START_MS, ModelLog, texts


class Crowd:
    """Readers of `system` whose sockets are written to directly, and who have joined a cohort if they can."""

    def __init__(
        self,
        size: int = 4,
        *,
        settings: TransportSettings | None = None,
        a_step: int = 256,
        events_max: int = 8,
    ) -> None:
        self.log = ModelLog()
        self.sockets = Sockets()
        self.fanout = FanOut(
            FrameCache(bytes_max=1 << 20, frame_bytes_max=40_000),
            events_max=events_max,
            monotonic_s=lambda: self.now_s,
            sends=self.sockets.sends(),
            lanes_a_step=a_step,
            cohorts_from=2,
            gather_every=1,
        )
        self.now_s = 0.0
        self.readers = [self.reader(settings) for _ in range(size)]

    def reader(self, settings: TransportSettings | None = None, dialect: Dialect = V1) -> DirectDriver:
        made = DirectDriver(self.sockets, self.log, settings=settings, dialect=dialect)
        made.fanout = self.fanout
        made.login()
        made.take()
        return made

    def commit(self, *texts: str) -> None:
        events = [self.log.append("system", text) for text in texts]
        self.fanout.committed({"system": events, LOG_STREAM: events})

    def told(self) -> list[list[str]]:
        return [texts(reader.take()) for reader in self.readers]


def test_no_member_is_sent_more_than_its_window_holds() -> None:
    many = Crowd(3, settings=TransportSettings(window=100))
    acking: list[str] = []
    for number in range(150):
        if number % 50 == 0:
            acking += texts(many.readers[0].ack(system=number))
        many.commit(str(number))
    first, *others = many.told()
    assert acking + first == [str(number) for number in range(150)]
    assert [len(told) for told in others] == [100, 100]
    assert all(reader.session.delivery.window.outstanding <= 100 for reader in many.readers)


def test_a_commit_for_which_no_window_has_room_is_sent_as_far_as_each_has_room() -> None:
    many = Crowd(3, settings=TransportSettings(window=130), events_max=256)
    for number in range(61):
        many.commit(str(number))
    many.commit(*(str(number) for number in range(61, 141)))
    assert [len(told) for told in many.told()] == [130] * 3
    assert all(reader.session.delivery.window.outstanding == 130 for reader in many.readers)


def test_a_member_that_never_acks_is_closed_when_its_time_is_over() -> None:
    many = Crowd(2, settings=TransportSettings(ack_timeout_s=30, heartbeat_s=1000))
    many.now_s = 10.0
    many.commit("a")
    reader = many.readers[0]
    session = reader.session
    assert session.quiet_until_s(Now(12.0, START_MS)) == pytest.approx(17.0)
    reader.carry_out(session.tick(Now(39.0, START_MS)))
    early = reader.closed
    reader.carry_out(session.tick(Now(41.0, START_MS)))
    assert (early, reader.closed and reader.closed.code) == (None, CloseCode.TOO_SLOW)


def test_a_member_whose_right_to_read_is_judged_again_gets_nothing_until_then() -> None:
    many = Crowd(3)
    many.commit("a")
    many.fanout.hold("system")
    many.commit("b")
    assert many.told() == [["a"]] * 3
    for reader in many.readers:
        assert texts(reader.verdict("system", readable=True)) == ["b"]
    many.commit("c")
    assert many.told() == [["c"]] * 3


def test_after_a_lost_signal_members_read_the_log() -> None:
    many = Crowd(3)
    many.commit("a")
    many.log.append("system", "unheard of")
    many.fanout.committed(None)
    many.commit("c")
    assert many.told() == [["a", "unheard of", "c"]] * 3


def test_events_that_are_told_twice_are_sent_once() -> None:
    many = Crowd(3)
    many.commit("a")
    event = many.log.append("system", "b")
    for _ in range(2):
        many.fanout.committed({"system": [event], LOG_STREAM: [event]})
    assert many.told() == [["a", "b"]] * 3


def test_a_cohort_is_at_most_one_step_of_a_hand_out() -> None:
    many = Crowd(5, a_step=2)
    for text in ("a", "b", "c"):
        many.commit(text)
    assert many.told() == [["a", "b", "c"]] * 5


def test_what_cannot_be_written_for_an_unknown_reason_ends_every_member() -> None:
    many = Crowd(2)
    many.commit("a")
    many.sockets.fails = True
    many.commit("b")
    assert [reader.failures for reader in many.readers] == [1, 1]
    assert not any(reader.is_in_step for reader in many.readers)
