"""A hand-out to many takes turns with the loop, and the events of a stream still come in order."""

from collections.abc import Callable
from itertools import count

from huahuo.eventstore.model import LOG_STREAM, StoredEvent
from huahuo.transport.protocol.frames import FrameCache
from huahuo.transport.server.fanout import LANES_A_STEP, FanOut
from tests.support.drivers.session import Driver, ModelLog, texts

SIZE = 2 * LANES_A_STEP + 10


class Crowd:
    """Many drivers of one stream; each look at the clock takes `step_s`."""

    def __init__(self, step_s: float, size: int = SIZE) -> None:
        self.log = ModelLog()
        self.turns: list[Callable[[], None]] = []
        clock = count()
        self.frames = FrameCache(bytes_max=1 << 20, frame_bytes_max=4000)
        self.fanout = FanOut(
            self.frames,
            events_max=8,
            monotonic_s=lambda: next(clock) * step_s,
            later=self.turns.append,
        )
        self.drivers = [Driver(self.log) for _ in range(size)]
        for driver in self.drivers:
            driver.login()
            driver.take()
            self.fanout.join("system", driver)

    def commit(self, *texts: str) -> None:
        self.tell([self.log.append("system", text) for text in texts])

    def tell(self, events: list[StoredEvent]) -> None:
        self.fanout.committed({"system": events, LOG_STREAM: events})

    def turn(self) -> None:
        """The loop's next turn."""
        turns = self.turns.copy()
        self.turns.clear()
        for go_on in turns:
            go_on()

    def heard(self) -> list[int]:
        """How many events each driver was sent."""
        return [len(driver.sent) for driver in self.drivers]


def test_more_than_may_be_kept_meanwhile_is_read_from_the_log() -> None:
    many = Crowd(step_s=0.002)
    many.commit("a")
    many.tell([many.log.append("system", str(number)) for number in range(9_000)])
    while many.turns:
        many.turn()
    assert {len(texts(driver.take())) for driver in many.drivers} == {512}, "as many as the window allows"
