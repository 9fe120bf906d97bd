"""Many connections in one fan-out: each gets every event of what it reads once, in order, as it was written.

Frames are handed out that were made for others, and a commit is cut into frames by count and by size; so
what is compared is what the events say, not only their numbers.
"""

import itertools
from collections.abc import Callable
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from huahuo.eventstore.model import LOG_STREAM, StoredEvent
from huahuo.transport.protocol.dialects import DOCUMENT, V1, V1_ZSTD
from huahuo.transport.protocol.flow_control import TransportSettings
from huahuo.transport.protocol.frames import FrameCache
from huahuo.transport.server.fanout import FanOut
from tests.support.drivers.direct import DirectDriver, Sockets
from tests.support.drivers.session import Message, ModelLog
from tests.support.worlds.compressed import compression

STREAMS = ("user/42", "system", "group/ops")
FRAME_BYTES_MAX = 400
WHO = (
    ("alice", V1),
    ("alice", V1),
    ("alice", V1_ZSTD),
    ("alice", DOCUMENT),
    ("root", V1),
    ("root", DOCUMENT),
)

READERS = st.integers(0, len(WHO) - 1)
EVENTS = st.lists(
    st.tuples(st.sampled_from(STREAMS), st.sampled_from([0, 0, 90, FRAME_BYTES_MAX])), min_size=1, max_size=12
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("commit"), EVENTS),
        st.tuples(st.just("lost"), EVENTS),
        st.tuples(st.just("hold"), READERS),
        st.tuples(st.just("ack"), READERS),
        st.tuples(
            st.just("move"),
            st.tuples(
                READERS, st.sampled_from((*STREAMS, LOG_STREAM)), st.sampled_from(["start", "head", 0, 1])
            ),
        ),
        st.tuples(st.just("leave"), st.tuples(READERS, st.sampled_from(STREAMS))),
        st.tuples(st.just("turn"), st.none()),
        st.tuples(st.just("short"), st.tuples(READERS, st.integers(0, 20))),
    ),
    max_size=25,
)


class Reader:
    """What one client knows. Raises where it is told anything but what comes next."""

    def __init__(self, driver: DirectDriver, who: str) -> None:
        self.driver = driver
        self.cursors: dict[str, int] = {}
        answer = driver.login(who)
        self.hear([answer, *driver.take()])

    def hear(self, messages: list[Message]) -> None:
        for message in messages:
            self._hear(message)

    def say(self, **message: Any) -> None:
        self.hear(self.driver.say(**message))

    def ack(self) -> None:
        self.say(action="ack", cursors=self.cursors)

    def _hear(self, message: Message) -> None:
        match message["type"]:
            case "authentication_result":
                self.cursors = {name: place["after"] for name, place in message["streams"].items()}
            case "subscribed" if message["outcome"] != "denied":
                self.cursors[message["stream"]] = message["after"]
            case "unsubscribed":
                self.cursors.pop(message["stream"], None)
            case "events":
                for seq, event in enumerate(message["events"], message["seq"]):
                    self._event(message["stream"], seq, event)
            case "noted":
                self._event(message["stream"], message["seq"], message)
            case "live":
                assert self.cursors[message["stream"]] == message["seq"]

    def _event(self, stream: str, seq: int, event: Message) -> None:
        assert seq == self.cursors[stream] + 1
        written = msgspec.json.decode(self.driver.log.streams[stream][seq - 1].body)
        assert {name: event[name] for name in written} == written
        self.cursors[stream] = seq


class Crowd:
    """Readers of one log, and the log's writer."""

    def __init__(self, lanes_a_step: int, window: int, gather_every: int, *, direct: bool) -> None:
        """After `lanes_a_step` lanes a hand-out goes on in the loop's next turn.

        `direct`: the readers have sockets that can be written to past their transports.
        """
        settings = TransportSettings(
            frame_bytes_max=FRAME_BYTES_MAX, frame_events_max=4, window=window, messages_per_s=0
        )
        sockets = Sockets()
        self.log = ModelLog()
        frames = FrameCache(bytes_max=1 << 20, frame_bytes_max=FRAME_BYTES_MAX)
        self.turns: list[Callable[[], None]] = []
        clock = itertools.count()
        self.fanout = FanOut(
            frames,
            events_max=settings.frame_events_max,
            monotonic_s=lambda: next(clock) * 0.01,
            later=self.turns.append,
            lanes_a_step=lanes_a_step,
            sends=sockets.sends() if direct else None,
            cohorts_from=2,
            gather_every=gather_every,
        )
        self.readers: list[Reader] = []
        for who, dialect in WHO:
            driver = DirectDriver(
                sockets, self.log, dialect=dialect, settings=settings, compression=compression()
            )
            driver.fanout = self.fanout
            self.readers.append(Reader(driver, who))

    def step(self, what: str, value: Any) -> None:
        match what, value:
            case "commit", events:
                by_stream: dict[str, list[StoredEvent]] = {}
                for stream, pad in events:
                    event = self.log.append(stream, pad=pad)
                    for name in (stream, LOG_STREAM):
                        by_stream.setdefault(name, []).append(event)
                self.tell(by_stream)
            case "lost", events:
                for stream, pad in events:
                    self.log.append(stream, pad=pad)
                self.tell(None)
            case "hold", number:
                driver = self.readers[number].driver
                driver.go_alone()
                driver.hold_events = not driver.hold_events
            case "ack", number:
                self.readers[number].ack()
            case "move", (number, stream, after):
                log = self.log.log_id if after in (0, 1) else None
                after = min(after, self.log.head(stream).seq) if log else after
                self.readers[number].say(action="subscribe", id="s", stream=stream, after=after, log=log)
            case "leave", (number, stream):
                self.readers[number].say(action="unsubscribe", id="u", stream=stream)
            case "turn", None:
                self.turn()
            case "short", (number, takes_bytes):
                self.readers[number].driver.takes_bytes = takes_bytes

    def tell(self, by_stream: dict[str, list[StoredEvent]] | None) -> None:
        self.fanout.committed(by_stream)
        self.hear()

    def turn(self) -> None:
        turns = self.turns.copy()
        self.turns.clear()
        for go_on in turns:
            go_on()
        self.hear()

    def hear(self) -> None:
        for reader in self.readers:
            reader.hear(reader.driver.take())

    def settle(self) -> None:
        """Everybody reads and acks until there is nothing left."""
        while self.turns:
            self.turn()
        for reader in self.readers:
            reader.driver.hold_events = False
        self.tell(None)
        for reader in self.readers:
            before: dict[str, int] = {}
            while before != reader.cursors:
                before = dict(reader.cursors)
                reader.ack()

    def places(self) -> list[tuple[dict[str, int], int]]:
        """What the service believes of each reader: its cursors, and how many events it owes an ack for."""
        found = []
        for reader in self.readers:
            delivery = reader.driver.session.delivery
            found.append((dict(delivery.cursors()), delivery.window.outstanding))
        return found


HOW = {
    "steps": STEPS,
    "lanes_a_step": st.sampled_from([1, 2, 100]),
    "window": st.sampled_from([7, 70, 130, 500]),
    "gather_every": st.sampled_from([1, 3]),
}


@given(**HOW, direct=st.booleans())
def test_everybody_is_told_everything_once_in_order_and_as_it_was_written(
    steps: list[tuple[str, Any]], lanes_a_step: int, window: int, gather_every: int, *, direct: bool
) -> None:
    crowd = Crowd(lanes_a_step, window, gather_every, direct=direct)
    for what, value in steps:
        crowd.step(what, value)
    crowd.settle()
    for reader in crowd.readers:
        assert reader.cursors == {stream: crowd.log.head(stream).seq for stream in reader.driver.watched}
        assert reader.driver.session.delivery.window.outstanding == 0


@given(**HOW)
def test_with_and_without_cohorts_each_reader_is_told_the_same_after_each_step(
    steps: list[tuple[str, Any]], lanes_a_step: int, window: int, gather_every: int
) -> None:
    together, alone = (Crowd(lanes_a_step, window, gather_every, direct=direct) for direct in (True, False))
    for what, value in steps:
        for crowd in (together, alone):
            crowd.step(what, value)
        if not (together.turns or alone.turns):
            assert [reader.cursors for reader in together.readers] == [
                reader.cursors for reader in alone.readers
            ]
            assert together.places() == alone.places()
