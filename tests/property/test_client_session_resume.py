"""Whatever the network does, what a consumer applies is exactly the server's log (I6, I10)."""

import json
from collections import deque
from itertools import pairwise
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from huahuo.transport.client.model import Batch, Cursor, Processed, ProtocolViolation, Replied
from huahuo.transport.client.retry import Retry
from huahuo.transport.client.session import ClientSession
from tests.support.models.model_server import ModelConnection, ModelLog
from tests.support.proofs import examples

STREAM = "user/1"


class World:
    """A client session, a model server, and a link that does what it is told."""

    def __init__(self, window: int, start: Any) -> None:
        self.now = 0.0
        self.log = ModelLog()
        self.session = ClientSession(
            client="c", window=window, command_prefix="p", retry=Retry(lambda: 0.5), messages_per_s=0
        )
        self.server: ModelConnection | None = None
        self.to_client: deque[str] = deque()
        self.to_server: deque[str] = deque()
        self.applied: list[int] = []
        self.last = 0
        self.working: tuple[int, int] | None = None
        self.saved: dict[str, Cursor] = {}
        self.replies: list[dict[str, Any]] = []
        self.commands = 0
        self.session.subscribe(STREAM, start, None, self.now)
        self.connect()

    def connect(self) -> None:
        if self.server is None:
            self.server = ModelConnection(self.log)
            self.session.connected("token", self.now)
            self.pump()

    def cut(self) -> None:
        if self.server is not None:
            self.server = None
            self.to_client.clear()
            self.to_server.clear()
            self.session.closed(None, "cut", self.now)
            self.pump()

    def pump(self) -> None:
        self.session.tick(self.now)
        if self.session.dead:
            self.cut()
        messages = self.session.outgoing(self.now)
        if self.server is not None:
            self.to_server.extend(messages)
        for happening in self.session.drain():
            match happening:
                case Processed(cursors=cursors):
                    self.saved.update(cursors)
                case Replied(reply=dict() as reply):
                    self.replies.append(reply)

    def serve(self, count: int) -> None:
        """The server reads and answers, and reads its log."""
        if self.server is not None:
            for _ in range(count):
                if self.to_server:
                    self.to_client.extend(self.server.take_in(self.to_server.popleft()))
                elif (frame := self.server.step()) is not None:
                    self.to_client.append(frame)

    def deliver(self, count: int) -> None:
        for _ in range(min(count, len(self.to_client))):
            raw = self.to_client.popleft()
            try:
                self.session.received(raw, self.now)
            except ProtocolViolation:
                self.cut()
                return
            self.pump()

    def consume(self, count: int) -> None:
        """Ask for the next item: the last one was processed."""
        for _ in range(count):
            if self.working is not None:
                self.session.processed(STREAM, *self.working, self.now)
                self.working = None
            item = self.session.take(STREAM)
            if item is None:
                break
            for event in item:
                if event.type == "snapshot":
                    self.applied = list(event.data["state"]["nonces"])
                elif event.type == "skipped":
                    assert event.data["first"] == self.last + 1, "a jump that was not announced"
                else:
                    assert event.seq == self.last + 1, "a jump that was not announced"
                    self.applied.append(event.data["nonce"])
                self.last = event.seq
            self.working = (item.era, item.last)
        self.pump()

    def _stream_frames(self, *kinds: str) -> list[int]:
        return [i for i, raw in enumerate(self.to_client) if json.loads(raw)["type"] in kinds]

    def lose(self) -> None:
        """A frame never arrives."""
        for index in self._stream_frames("events", "skipped")[:1]:
            del self.to_client[index]

    def repeat(self) -> None:
        """Frames arrive again, after others."""
        self.to_client.extend([self.to_client[i] for i in self._stream_frames("events", "skipped", "live")])

    def swap(self) -> None:
        """A frame arrives before its predecessor in the same subscription.

        A `snapshot` before the answer that promises it would be the last one: the server sends it once.
        """
        answers = self._stream_frames("subscribed")
        for one, two in pairwise(self._stream_frames("events", "skipped", "snapshot")):
            if not any(one < answer < two for answer in answers):
                queue = self.to_client
                queue[one], queue[two] = queue[two], queue[one]
                return

    def command(self) -> None:
        self.commands += 1
        self.session.command("do", {"n": self.commands})
        self.pump()

    def applied_and_kept(self) -> list[int]:
        """What was applied, without what the server has compacted away since."""
        return [nonce for nonce in self.applied if nonce not in self.log.compacted]

    def settled(self) -> bool:
        return self.saved_at_head() and len(self.replies) == self.commands

    def saved_at_head(self) -> bool:
        saved = self.saved.get(STREAM)
        return saved is not None and (saved.log, saved.seq) == (self.log.id, self.log.streams[STREAM].head)

    def has_check(self) -> bool:
        """Whether the client would notice that its events were replaced."""
        cursor = self.session.streams[STREAM].cursor
        return cursor is not None and cursor.check is not None and cursor.check[0] > 0

    def settle(self) -> None:
        """The faults are over: everything that is on its way arrives."""
        self.log.append(STREAM)  # shows a client that the end of a run was lost
        self.connect()
        for _ in range(500):
            if self.settled():
                return
            self.now += 0.3
            self.serve(50)
            self.deliver(50)
            self.consume(50)
            if self.server is not None and self.server.waits_for_acks and not self.to_server:
                self.cut()  # 4008: the frame to acknowledge was lost
            self.connect()


def _step(world: World, name: str, count: int) -> None:
    match name:
        case "append":
            for _ in range(count):
                world.log.append(STREAM)
        case "prune":
            world.log.prune(STREAM, world.log.streams[STREAM].head - count)
        case "compact":
            world.log.compact(STREAM, count)
        case "replace":
            world.log.replace()
            world.cut()  # a log is replaced with its server down
            world.connect()
        case "revise":
            world.cut()  # as above
            if world.has_check():
                world.log.revise()
            world.connect()
        case "reconnect":
            world.cut()
            world.connect()
        case "flow":
            world.serve(count)
            world.deliver(count)
            world.consume(count // 2)
        case "wait":
            world.now += count / 10
            world.pump()
        case "serve" | "deliver" | "consume":
            getattr(world, name)(count)
        case "lose" | "repeat" | "swap":
            world.serve(2 * count)
            getattr(world, name)()
            world.deliver(count)
        case _:
            getattr(world, name)()


_FAULTLESS = ["append", "append", "flow", "flow", "serve", "deliver", "consume", "wait", "connect", "command"]
_FAULTS = ["cut", "reconnect", "lose", "repeat", "swap", "prune", "compact"]


def _settled(steps: list[tuple[str, int]], window: int) -> World:
    """A world after these steps, and after everything under way has arrived."""
    world = World(window, "start")
    for name, count in steps:
        _step(world, name, count)
    world.settle()
    return world


def _steps(*names: str) -> st.SearchStrategy[list[tuple[str, int]]]:
    return st.lists(st.tuples(st.sampled_from(names), st.integers(1, 9)), min_size=60, max_size=120)


_STEPS = _steps(*_FAULTLESS, *_FAULTS)


@settings(max_examples=examples(150), deadline=None)
@given(_STEPS, st.integers(1, 16), st.sampled_from(["start", "snapshot"]))
def test_what_is_applied_is_the_log_whatever_was_cut_lost_or_repeated(
    steps: list[tuple[str, int]], window: int, start: str
) -> None:
    world = World(window, start)
    for name, count in steps:
        _step(world, name, count)
    world.settle()
    assert world.applied_and_kept() == world.log.nonces(STREAM)
    assert world.saved_at_head()


@settings(max_examples=examples(150), deadline=None)
@given(_steps(*_FAULTLESS, *_FAULTS, "replace"), st.integers(1, 16))
def test_after_the_log_was_replaced_the_new_one_is_applied_from_a_snapshot(
    steps: list[tuple[str, int]], window: int
) -> None:
    world = _settled(steps, window)
    assert world.applied_and_kept() == world.log.nonces(STREAM)


@settings(max_examples=examples(150), deadline=None)
@given(_STEPS, st.integers(1, 16))
def test_each_command_is_executed_once_and_answered_once(steps: list[tuple[str, int]], window: int) -> None:
    world = _settled(steps, window)
    assert len(world.log.executed) == len(world.replies) == world.commands
    written = [event["command"] for event in world.log.streams[STREAM].events if "command" in event]
    assert len(written) == len(set(written)) == world.commands


@settings(max_examples=examples(100), deadline=None)
@given(_steps(*_FAULTLESS, "reconnect"), st.integers(1, 8))
def test_the_buffer_never_holds_more_than_a_window(steps: list[tuple[str, int]], window: int) -> None:
    world = World(window, "start")
    for name, count in steps:
        _step(world, name, count)
        following = world.session.streams[STREAM]
        held = sum(len(item) for item in following.buffer if isinstance(item, Batch))
        assert held == following.buffered
        assert following.buffered <= window


_NEW_STATE_NOT_YET_TAKEN = [
    *[("append", 1)] * 51,
    *[("lose", 1), ("lose", 2), ("reconnect", 1), ("prune", 1), ("flow", 2), ("revise", 1), ("flow", 1)],
    *[("append", 1), ("lose", 1)],
]
"""An event is lost behind the state of a replaced log: the client asks again before it applies the state."""


@settings(max_examples=examples(150), deadline=None)
@given(_steps(*_FAULTLESS, *_FAULTS, "revise", "revise"), st.integers(1, 16))
@example(_NEW_STATE_NOT_YET_TAKEN, 2)
def test_a_client_with_a_check_applies_the_events_that_took_the_place_of_those_it_knew(
    steps: list[tuple[str, int]], window: int
) -> None:
    world = _settled(steps, window)
    assert world.applied_and_kept() == world.log.nonces(STREAM)
