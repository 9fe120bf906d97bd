"""The log against a plain list: whatever is done to it, in whatever order, it says what the list says.

One machine for each engine; the in-memory one also loses power in the middle of commits.
"""

import asyncio
import errno
import tempfile
from collections.abc import Coroutine
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from huahuo.eventstore.core.log import StoreLog
from huahuo.eventstore.errors import Conflict, Unavailable
from huahuo.eventstore.model import Append, Appended, Duplicate, NewEvent, RowDrop, RowPut, Secret, SecretPut
from tests.support.proofs import examples
from tests.support.worlds.logs import Engine, MemoryEngine, SqliteEngine, command, read_joined

STREAMS = ("user/1", "user/2", "mailbox/1", "系统")
names = st.sampled_from(STREAMS)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
events = st.lists(
    st.builds(
        NewEvent,
        stream=names,
        type=st.sampled_from(["a", "b"]),
        body=st.binary(max_size=20),
        version=st.integers(0, 2**63 - 1),
        entity=texts,
    ),
    max_size=5,
).map(tuple)


class LogMachine(RuleBasedStateMachine):
    """Drives a log and a model of it. Appends of one step are in flight together."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.engine = self.make_engine()
        self.nonce = 0
        self.events: list[tuple[str, int, bytes]] = []
        self.commands: dict[str, int] = {}
        self.rows: dict[bytes, bytes] = {}
        self.secrets: dict[str, str] = {}
        self.taken = 0
        self.safe = 0

    def make_engine(self) -> Engine:
        raise NotImplementedError

    def do[T](self, work: Coroutine[None, None, T]) -> T:
        return self.runner.run(work)

    @initialize()
    def open(self) -> None:
        self.log: StoreLog = self.do(self.engine.open())
        self.log_id = self.log.log_id

    def teardown(self) -> None:
        if hasattr(self, "log"):
            self.do(self.log.close())
        self.runner.close()

    def head(self, stream: str) -> int:
        return sum(1 for name, _, _ in self.events if name == stream)

    def note(self, done: Appended, *, wrote: bool = True) -> None:
        """What was acknowledged is in the model from now on. If a commit `wrote`, numbers taken are kept."""
        self.events += [(e.stream, e.seq, e.body) for e in done.events]
        if wrote:
            self.safe = self.taken
        assert [e.position for e in done.events] == list(
            range(len(self.events) - len(done.events) + 1, len(self.events) + 1)
        )

    def unique(self, some: tuple[NewEvent, ...]) -> tuple[NewEvent, ...]:
        """The same events with bodies that never came before: a lost and reused place shows."""
        made = []
        for event in some:
            self.nonce += 1
            body = b"%d|" % self.nonce + event.body
            made.append(NewEvent(event.stream, event.type, body, event.version, event.entity))
        return tuple(made)

    @rule(groups=st.lists(st.tuples(events, st.booleans()), min_size=1, max_size=4))
    def append(self, groups: list[tuple[tuple[NewEvent, ...], bool]]) -> None:
        """Several at once; the heads that each expects count those before it."""

        async def all_at_once() -> list[Appended | Duplicate | BaseException]:
            heads = {stream: self.head(stream) for stream in STREAMS}
            appends = []
            for some, right in groups:
                made = self.unique(some)
                expected = {stream: heads[stream] if right else heads[stream] + 1 for stream in STREAMS[:2]}
                if right:
                    for event in made:
                        heads[event.stream] += 1
                appends.append(Append(ts_ms=1, events=made, expected=expected))
            return await asyncio.gather(*(self.log.append(one) for one in appends), return_exceptions=True)

        for (_, right), outcome in zip(groups, self.do(all_at_once()), strict=True):
            if right:
                assert isinstance(outcome, Appended)
                self.note(outcome, wrote=bool(outcome.events))
            else:
                assert isinstance(outcome, Conflict)

    @rule(number=st.integers(0, 5), some=events)
    def command(self, number: int, some: tuple[NewEvent, ...]) -> None:
        outcome = self.do(self.log.append(command(f"c{number}", *self.unique(some))))
        known = self.commands.get(f"c{number}")
        if known is None:
            assert isinstance(outcome, Appended)
            self.note(outcome)
            assert outcome.command is not None
            self.commands[f"c{number}"] = outcome.command.at_seq
        else:
            assert isinstance(outcome, Duplicate)
            assert outcome.command.at_seq == known

    @rule(key=st.binary(max_size=3), value=st.binary(max_size=3), drop=st.booleans())
    def row(self, key: bytes, value: bytes, drop: bool) -> None:
        change = RowDrop("t", "p", key) if drop else RowPut("t", "p", key, value)
        outcome = self.do(self.log.append(Append(ts_ms=1, rows=(change,))))
        assert isinstance(outcome, Appended)
        self.note(outcome)
        if drop:
            self.rows.pop(key, None)
        else:
            self.rows[key] = value

    @rule(owner=st.sampled_from(["o1", "o2"]), secret=texts, shred=st.booleans())
    def secret(self, owner: str, secret: str, shred: bool) -> None:
        outcome = self.do(
            self.log.append(
                Append(
                    ts_ms=1,
                    shred=(owner,) if shred else (),
                    secrets=() if shred else (SecretPut(owner, "p", Secret(secret)),),
                )
            )
        )
        assert isinstance(outcome, Appended)
        self.note(outcome)
        if shred:
            self.secrets.pop(owner, None)
        else:
            self.secrets[owner] = secret

    @rule(stream=names, some=events)
    def end(self, stream: str, some: tuple[NewEvent, ...]) -> None:
        """It changes what is in memory, and nothing that the model could tell."""
        done = self.appended(Append(ts_ms=1, events=self.unique(some), ended=(stream,)))
        self.note(done, wrote=bool(done.events))

    def appended(self, append: Append) -> Appended:
        outcome = self.do(self.log.append(append))
        assert isinstance(outcome, Appended)
        return outcome

    @rule(count=st.integers(1, 3))
    def take(self, count: int) -> None:
        first = self.log.take("n", count)
        assert first > self.safe
        assert first == self.taken + 1 or self.taken == self.safe
        self.taken = first + count - 1

    @rule()
    def reopen(self) -> None:
        self.do(self.log.close())
        self.log = self.do(self.engine.open())
        assert self.log.log_id == self.log_id
        self.taken = self.safe

    @rule()
    def crash(self) -> None:
        self.do(self.engine.crash(self.log))
        self.log = self.do(self.engine.open())
        assert self.log.log_id == self.log_id
        self.taken = self.safe

    @rule(stream=st.sampled_from((*STREAMS, "log")), after=st.integers(-1, 30), count=st.integers(1, 9))
    def read(self, stream: str, after: int, count: int) -> None:
        wanted = [
            (name, seq, body)
            for position, (name, seq, body) in enumerate(self.events, 1)
            if (position > after if stream == "log" else name == stream and seq > after)
        ]
        found = self.do(self.log.read(stream, after, events_max=count))
        assert [(e.stream, e.seq, e.body) for e in found] == wanted[:count]
        if stream != "log":
            joined = self.do(read_joined(self.log, stream, after, events_max=count))
            assert (joined.bodies if joined else b"") == b",".join(e.body for e in found)

    @invariant()
    def heads_and_chain_hold(self) -> None:
        if not hasattr(self, "log"):
            return
        assert self.log.position == len(self.events)
        assert {s: self.log.head(s).seq for s in STREAMS} == {s: self.head(s) for s in STREAMS}
        assert self.do(self.log.verify()) == len(self.events)

    @invariant()
    def what_lies_beside_holds(self) -> None:
        if not hasattr(self, "log"):
            return
        rows = self.do(self.log.rows("t", "p", limit=99))
        assert rows == sorted(self.rows.items(), reverse=True)
        for owner in ("o1", "o2"):
            kept = self.do(self.log.secret(owner, "p"))
            assert (None if kept is None else kept.reveal()) == self.secrets.get(owner)


class MemoryLogMachine(LogMachine):
    """The in-memory engine; its disk fails and loses power on demand."""

    def make_engine(self) -> Engine:
        self.memory = MemoryEngine()
        return self.memory

    @rule(some=events, full=st.booleans())
    def append_on_a_failing_disk(self, some: tuple[NewEvent, ...], full: bool) -> None:
        fail = self.memory.disk.fail_writes if full else self.memory.disk.fail_syncs
        fail.append(errno.ENOSPC if full else errno.EIO)
        try:
            self.do(self.log.append(command("never", *self.unique(some))))
        except Unavailable:
            return
        raise AssertionError("acknowledged on a failing disk")

    @precondition(lambda self: hasattr(self, "log"))
    @rule(some=events)
    def power_goes_during_a_commit(self, some: tuple[NewEvent, ...]) -> None:
        """Then the append is there completely or not at all, and its command's repeat tells which."""
        self.nonce += 1
        name = f"unknown-{self.nonce}"
        made = self.unique(some)
        self.memory.disk.cut_in_sync = True
        try:
            self.do(self.log.append(command(name, *made)))
        except Unavailable:
            pass
        else:
            raise AssertionError("acknowledged without power")
        self.do(self.engine.crash(self.log))
        self.log = self.do(self.engine.open())
        self.taken = self.safe
        outcome = self.do(self.log.append(command(name, *made)))
        if isinstance(outcome, Duplicate):
            counts = {stream: self.head(stream) for stream in STREAMS}
            for event in made:
                counts[event.stream] += 1
                self.events.append((event.stream, counts[event.stream], event.body))
            self.commands[name] = outcome.command.at_seq
        else:
            self.note(outcome)


class SqliteLogMachine(LogMachine):
    """The SQLite engine; a crash is a copy of its files in the middle."""

    def make_engine(self) -> Engine:
        self.directory = tempfile.TemporaryDirectory(prefix="log-machine-")
        return SqliteEngine(Path(self.directory.name))

    def teardown(self) -> None:
        super().teardown()
        self.directory.cleanup()


_checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
TestMemoryLog = MemoryLogMachine.TestCase
TestMemoryLog.settings = settings(
    max_examples=examples(60),
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=_checks,
)
TestSqliteLog = SqliteLogMachine.TestCase
pytest.mark.timeout(400)(TestSqliteLog)  # some thousand syncs, and a disk that others use too
TestSqliteLog.settings = settings(
    max_examples=examples(12),
    stateful_step_count=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=_checks,
)
