"""New events go to all subscribers at the head at once; a subscriber elsewhere reads the log itself."""

from collections.abc import Callable
from typing import Any

from huahuo.eventstore.model import LOG_STREAM, StoredEvent
from huahuo.transport.protocol.frames import FrameCache, Framed
from huahuo.transport.server.fanout import FanOut
from huahuo.transport.session.session import Session
from tests.support.drivers.session import Driver, ModelLog, texts


class Crowd:
    """Drivers over one log in one fan-out, in lockstep unless a test holds one back."""

    def __init__(self, *drivers: Driver) -> None:
        self.log = drivers[0].log
        self.drivers = drivers
        self.frames = FrameCache(bytes_max=1 << 20, frame_bytes_max=4000)
        self.fanout = FanOut(self.frames, events_max=8, monotonic_s=lambda: 0.0)
        for driver in drivers:
            driver.login()
            driver.take()
            for stream in driver.watched:
                driver.fanout.leave(stream, driver)
                self.fanout.join(stream, driver)

    def commit(self, stream: str, *texts: str) -> None:
        self.tell([self.log.append(stream, text) for text in texts])

    def tell(self, events: list[StoredEvent]) -> None:
        self.fanout.committed({events[0].stream: events, LOG_STREAM: events})


def crowd(size: int) -> Crowd:
    log = ModelLog()
    return Crowd(*(Driver(log) for _ in range(size)))


def test_a_commit_is_framed_once_for_all_subscribers_at_the_head() -> None:
    many = crowd(20)
    many.commit("system", "a", "b", "c")
    assert [texts(driver.take()) for driver in many.drivers] == [["a", "b", "c"]] * 20
    assert many.frames.built == 1


def test_a_commit_that_nobody_watches_is_no_hand_out() -> None:
    asked: list[float] = []

    def now_s() -> float:
        asked.append(0.0)
        return 0.0

    log, driver = ModelLog(), Driver()
    fanout = FanOut(FrameCache(bytes_max=1 << 20, frame_bytes_max=4000), events_max=8, monotonic_s=now_s)
    fanout.join("system", driver)
    events = [log.append("group/1", "a")]
    fanout.committed({"group/1": events, LOG_STREAM: events})
    assert not asked


class Broken:
    """A lane whose socket raises."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.ended = 0

    def has_room(self) -> bool:
        return True

    def write_events(self, frame: bytes, count: int) -> None:
        raise OSError(f"{len(frame)} bytes of {count} events")

    def woken(self, stream: str) -> None:
        raise OSError(stream)

    def direct(self, leave: Callable[[], None]) -> None:
        raise OSError(f"{leave}")

    def on_its_own(self) -> None:
        raise AssertionError("it was in no cohort")

    def count_written(self, events: int, size_bytes: int) -> None:
        raise AssertionError("it was in no cohort")

    def hold(self, stream: str) -> None:
        raise OSError(stream)

    def failed(self) -> None:
        self.ended += 1
        raise OSError("also this")


def test_one_broken_connection_costs_nobody_else_an_event() -> None:
    two = crowd(2)
    first, last = two.drivers
    broken = Broken(first.session)
    for lane in (first, last):
        two.fanout.leave("system", lane)
    for member in (broken, last):
        two.fanout.join("system", member)
    two.commit("system", "a")
    assert broken.ended == 1, "what was not written counts as sent"
    two.fanout.committed(None)
    assert broken.ended == 2, "what it should have read may be half done"
    two.commit("system", "b")
    assert texts(last.take()) == ["a", "b"]


class Unframeable(FrameCache):
    """Fails to make one stream's frames the first time."""

    def __init__(self, stream: str) -> None:
        super().__init__(bytes_max=1 << 20, frame_bytes_max=4000)
        self.stream = stream

    def unshared(self, stream: str, *args: Any, **kwargs: Any) -> Framed:
        if stream == self.stream:
            self.stream = ""
            raise MemoryError
        return super().unshared(stream, *args, **kwargs)


def test_frames_that_cannot_be_made_take_nothing_from_the_other_streams_of_the_commit() -> None:
    one = crowd(1)
    (driver,) = one.drivers
    fanout = FanOut(Unframeable("system"), events_max=8, monotonic_s=lambda: 0.0)
    for stream in driver.watched:
        fanout.join(stream, driver)
    first, second = one.log.append("user/42", "a"), one.log.append("system", "b")
    fanout.committed({"user/42": [first], "system": [second], LOG_STREAM: [first, second]})
    assert sorted(texts(driver.take())) == ["a", "b"]
