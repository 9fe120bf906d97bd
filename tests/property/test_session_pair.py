"""The session against a model client over a link that loses everything behind a cut.

Whatever happens (cuts, prunes, compactions, another log, moved subscriptions, slow acks, commands
under way), the client applies every event once and in order, or was told first that it cannot.
"""

from collections import deque
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from huahuo.transport.protocol.dialects import DOCUMENT, V1
from huahuo.transport.protocol.flow_control import TransportSettings
from tests.support.drivers.session import Driver, Message, ModelLog, note_command
from tests.support.proofs import examples

STREAMS = ("user/42", "system", "group/ops")
SETTINGS = TransportSettings(frame_bytes_max=1500, frame_events_max=8)


class ModelClient:
    """What a client keeps, written from PROTOCOL: a cursor per stream, and what it applied."""

    def __init__(self) -> None:
        self.log: str | None = None
        self.cursors: dict[str, int] = {}
        self.applied: dict[str, list[tuple[int, str]]] = {stream: [] for stream in STREAMS}
        self.outcomes: dict[str, str] = {}
        self.needs_snapshot: set[str] = set()
        self.open_commands: set[str] = set()
        self.answered: set[str] = set()

    def take(self, message: Message) -> None:
        match message["type"]:
            case "authentication_result":
                assert message["success"]
                for stream, where in message["streams"].items():
                    self._placed(message["log"], stream, where)
                self.log = message["log"]
            case "subscribed":
                self._placed(message["log"], message["stream"], message)
            case "events":
                for seq, event in enumerate(message["events"], message["seq"]):
                    self._event(message["stream"], seq, event)
            case "noted":
                self._event(message["stream"], message["seq"], message)
            case "skipped":
                assert message["seq"] == self.cursors[message["stream"]] + 1
                self.cursors[message["stream"]] = message["to"]
            case "snapshot":
                self.needs_snapshot.remove(message["stream"])
                self.cursors[message["stream"]] = message["seq"]
                self.applied[message["stream"]].append((message["seq"], "snapshot"))
            case "live":
                assert message["seq"] == self.cursors[message["stream"]]
            case "success":
                self.answered.add(message["id"])
            case "lag":
                assert message["behind"] > 0
            case other:
                raise AssertionError(f"unexpected {other}: {message}")

    def _placed(self, log: str, stream: str, where: dict[str, Any]) -> None:
        outcome = where["outcome"]
        self.needs_snapshot.discard(stream)
        if outcome == "resumed":
            assert log == self.log
            assert where["after"] == self.cursors[stream]
        elif outcome == "fresh":
            self.cursors[stream] = where["after"]
            self.applied[stream].append((where["after"], "snapshot"))
        else:
            assert outcome in ("gap", "reset", "snapshot")
            self.needs_snapshot.add(stream)
        self.outcomes[stream] = outcome

    def _event(self, stream: str, seq: int, event: Message) -> None:
        assert stream not in self.needs_snapshot, "an event came before the snapshot that it needs"
        assert seq == self.cursors[stream] + 1, "a hole or a repetition"
        if event["text"].startswith("by "):
            command = event["text"].removeprefix("by ")
            assert command not in self.open_commands or command in self.answered, "an event before its reply"
        self.cursors[stream] = seq
        self.applied[stream].append((seq, event["text"]))


class Pair(RuleBasedStateMachine):
    """See the module. `wire` is what was sent and not yet read by the client."""

    dialect = V1
    by_page = False

    def __init__(self) -> None:
        super().__init__()
        self.logs = 0
        self.log = ModelLog("log-0")
        self.client = ModelClient()
        self.wire: deque[Message] = deque()
        self.commands = 0
        self.connects = 0
        self.events = 0
        self.connect()

    def connect(self, window: int = 8) -> None:
        self.connects += 1
        self.wire.clear()
        self.client.open_commands.clear()
        self.driver = Driver(
            self.log, dialect=self.dialect, settings=SETTINGS, commands=[note_command()], by_page=self.by_page
        )
        self.driver.hold_snapshots = True
        cursors = {s: c for s, c in self.client.cursors.items() if s not in self.client.needs_snapshot}
        resume = {"log": self.client.log, "cursors": cursors}
        self.send(action="authenticate", token="alice", window=window, resume=resume)
        if "group/ops" not in cursors:
            self.send(action="subscribe", stream="group/ops")

    def send(self, **message: Any) -> None:
        self.wire += self.driver.say(**message)

    @rule(stream=st.sampled_from(STREAMS), count=st.integers(1, 12))
    def commit(self, stream: str, count: int) -> None:
        texts = [f"nonce-{self.events + n}" for n in range(count)]
        self.events += count
        self.wire += self.driver.append(stream, *texts)

    @rule(count=st.integers(1, 30))
    def read(self, count: int) -> None:
        for _ in range(min(count, len(self.wire))):
            self.client.take(self.wire.popleft())

    @rule()
    def ack(self) -> None:
        cursors = {s: c for s, c in self.client.cursors.items() if s not in self.client.needs_snapshot}
        if not self.wire:  # a client acks what it read; with messages unread, positions may have moved
            self.send(action="ack", cursors=cursors)

    @rule(window=st.integers(1, 20))
    def cut(self, window: int) -> None:
        self.connect(window)

    @rule(stream=st.sampled_from(STREAMS), share=st.floats(0, 1))
    def prune(self, stream: str, share: float) -> None:
        """Everything up to some place is gone; only for readers that come later."""
        head = self.log.head(stream)
        self.log.prune(stream, max(head.first - 1, int(head.seq * share)))
        self.connect()

    @rule(stream=st.sampled_from(STREAMS), after=st.integers(0, 30), size=st.integers(1, 9))
    def compact(self, stream: str, after: int, size: int) -> None:
        if stream not in self.log.holes and after + size < self.log.head(stream).seq:
            self.log.compact(stream, after, after + size)

    @rule()
    def restore_a_backup(self) -> None:
        """Numbers go back: another log id, and nothing of the old one."""
        self.logs += 1
        self.log = ModelLog(f"log-{self.logs}")
        self.connect()

    @precondition(lambda self: not self.wire)
    @rule(stream=st.sampled_from(STREAMS))
    def move_to_the_own_cursor(self, stream: str) -> None:
        if stream not in self.client.needs_snapshot:
            self.send(
                action="subscribe", stream=stream, after=self.client.cursors[stream], log=self.client.log
            )

    @precondition(lambda self: bool(self.driver.snapshots_due))
    @rule()
    def give_snapshot(self) -> None:
        stream = self.driver.snapshots_due[0].sub.stream
        self.wire += self.driver.give_snapshot(self.log.head(stream).seq)

    @rule()
    def command(self) -> None:
        """A command is sent; its events are committed before it is answered."""
        self.commands += 1
        name = f"c{self.commands}"
        self.client.open_commands.add(name)
        self.send(action="note", id=name, text="x")
        self.wire += self.driver.append("user/42", f"by {name}", principal="user/42", command_id=name)

    @precondition(lambda self: bool(self.driver.executing))
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.driver.executing) - 1))
        self.wire += self.driver.reply(index=index)

    @precondition(lambda self: bool(self.driver.pages))
    @rule()
    def page_comes(self) -> None:
        self.wire += self.driver.page_comes()

    @invariant()
    def what_is_outstanding_fits_the_window(self) -> None:
        window = self.driver.session.delivery.window
        assert 0 <= window.outstanding <= window.size

    def teardown(self) -> None:
        """Let everything come to rest: the client then holds exactly the log."""
        for _ in range(10_000):
            while self.wire:
                self.client.take(self.wire.popleft())
            if self.driver.snapshots_due:
                self.give_snapshot()
            elif self.driver.executing:
                self.wire += self.driver.reply()
            elif self.driver.pages:
                self.page_comes()
            else:
                self.ack()
                if not self.wire and not self.driver.pages:
                    break
        for stream in STREAMS:
            self._compare(stream)

    def _compare(self, stream: str) -> None:
        events = self.log.streams.get(stream, [])
        assert self.client.cursors[stream] == len(events)
        applied = self.client.applied[stream]
        last_jump = max(index for index, (_, text) in enumerate(applied) if text == "snapshot")
        since = applied[last_jump:]
        gone_after, gone_to = self.log.holes.get(stream, (0, 0))
        for seq, text in since[1:]:
            assert f'"text":"{text}"'.encode() in events[seq - 1].body
        expected = set(range(since[0][0] + 1, len(events) + 1))
        got = [seq for seq, _ in since[1:]]
        assert got == sorted(set(got))
        assert expected - set(got) <= set(range(gone_after + 1, gone_to + 1))


class ClassicPair(Pair):
    """The same for a classic client, who owes no acks."""

    dialect = DOCUMENT


class PagedPair(Pair):
    """The same where what is missing comes as joined pages, while other things happen."""

    by_page = True

    def __init__(self) -> None:
        super().__init__()
        self.commit("user/42", 3)
        self.read(30)  # what was read before a cut is what there is to come back to


Pair.TestCase.settings = ClassicPair.TestCase.settings = settings(
    max_examples=examples(60), stateful_step_count=40, deadline=None
)
PagedPair.TestCase.settings = settings(max_examples=examples(150), stateful_step_count=40, deadline=None)
TestPair = Pair.TestCase
TestPagedPair = PagedPair.TestCase
TestClassicPair = ClassicPair.TestCase
