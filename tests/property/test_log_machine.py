"""The log against a plain list: whatever is done to it, in whatever order, it says what the list says.

One machine for each engine; the in-memory one also loses power in the middle of commits.
"""

import asyncio
import errno
import tempfile
from collections import Counter
from collections.abc import Coroutine, Sequence
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec.structs import replace

from huahuo.eventstore.blobs import blob_id
from huahuo.eventstore.core.log import StoreLog
from huahuo.eventstore.errors import CommandMismatch, Conflict, Unavailable
from huahuo.eventstore.model import (
    Ack,
    Append,
    Appended,
    CommandRecord,
    Duplicate,
    Joined,
    NewEvent,
    RowDrop,
    RowPut,
    Secret,
    SecretPut,
    StoredEvent,
)
from tests.support.proofs import examples
from tests.support.worlds.logs import (
    Engine,
    MemoryEngine,
    ReplicaEngine,
    SqliteEngine,
    command,
    command_key,
    read_joined,
)

OWNERS = ("o1", "o2")
STREAMS = ("user/1", "user/2", "mailbox/1", "系统")
names = st.sampled_from(STREAMS)
parts = st.sampled_from("pq")
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
        self.events: list[StoredEvent] = []
        self.commands: dict[str, CommandRecord] = {}
        self.rows: dict[str, dict[bytes, bytes]] = {"p": {}, "q": {}}
        self.secrets: dict[str, dict[str, str]] = {owner: {} for owner in OWNERS}
        self.acks: dict[str, int] = {}
        self.blobs = Counter[bytes]()
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
        return sum(event.stream == stream for event in self.events)

    def note(self, done: Appended, *, wrote: bool = True) -> None:
        """What was acknowledged is in the model from now on. If a commit `wrote`, numbers taken are kept."""
        for event in done.events:
            assert event.seq == self.head(event.stream) + 1
            self.events.append(event)
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
            heads = {stream: self.head(stream) for stream in STREAMS} | {"log": len(self.events)}
            appends = []
            for some, right in groups:
                made = self.unique(some)
                expected = {stream: heads[stream] + (not right) for stream in (*STREAMS[:2], "log")}
                if right:
                    heads["log"] += len(made)
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

    @rule(number=st.integers(0, 5), some=events, stale=st.booleans(), other=st.booleans())
    def command(self, number: int, some: tuple[NewEvent, ...], stale: bool, other: bool) -> None:
        """Sent twice at once. The record of its id is asked for before the heads that it expects."""
        self.nonce += 1
        name = f"c{number}"
        asked = command(
            name, *self.unique(some), fingerprint=b"g" if other else b"f", reply=b"%d" % self.nonce
        )
        if stale:
            asked = replace(asked, expected={STREAMS[0]: self.head(STREAMS[0]) + 1})

        async def twice() -> Sequence[Appended | Duplicate | BaseException]:
            return await asyncio.gather(
                self.log.append(asked), self.log.append(asked), return_exceptions=True
            )

        first, second = self.do(twice())
        known = self.commands.get(name)
        if known is None and not stale:
            assert isinstance(first, Appended)
            assert first.command is not None
            self.note(first)
            known = self.commands[name] = first.command
            first = second
        assert asked.command is not None
        for outcome in (first, second):
            if known is None:
                assert isinstance(outcome, Conflict)
            elif known.fingerprint != asked.command.fingerprint:
                assert isinstance(outcome, CommandMismatch)
            else:
                assert isinstance(outcome, Duplicate)
                assert outcome.command == known
        assert self.do(self.log.command(command_key(name))) == known

    @rule(changes=st.lists(st.tuples(parts, st.binary(max_size=2) | st.none(), st.binary() | st.none())))
    def change_rows(self, changes: list[tuple[str, bytes | None, bytes | None]]) -> None:
        """Without a key a whole part is dropped, without a value a row."""
        rows: list[RowPut | RowDrop] = []
        for part, key, value in changes:
            if key is None:
                rows.append(RowDrop("t", part))
                self.rows[part].clear()
            elif value is None:
                rows.append(RowDrop("t", part, key))
                self.rows[part].pop(key, None)
            else:
                rows.append(RowPut("t", part, key, value))
                self.rows[part][key] = value
        self.note(self.appended(Append(ts_ms=1, rows=tuple(rows))), wrote=bool(rows))

    @rule(part=parts, key=st.binary(max_size=2), limit=st.integers(1, 3))
    def list_rows(self, part: str, key: bytes, limit: int) -> None:
        rows = sorted(self.rows[part].items())
        below, above = ([row for row in rows if row[0] < key], [row for row in rows if row[0] > key])
        assert self.do(self.log.rows("t", part, before=key, limit=limit)) == below[::-1][:limit]
        assert self.do(self.log.rows("t", part, after=key, limit=limit)) == above[:limit]
        assert self.do(self.log.row("t", part, key)) == self.rows[part].get(key)

    @rule(
        changes=st.lists(
            st.tuples(st.sampled_from(OWNERS), st.sampled_from("pq"), texts | st.none(), st.booleans()),
            max_size=3,
        )
    )
    def secrets_at_once(self, changes: list[tuple[str, str, str | None, bool]]) -> None:
        """Each in an append of its own, which may shred what its owner had; without a text one is dropped."""
        appends = []
        for owner, name, text, shred in changes:
            if shred:
                self.secrets[owner].clear()
            if text is None:
                self.secrets[owner].pop(name, None)
            else:
                self.secrets[owner][name] = text
            appends.append(
                Append(
                    ts_ms=1,
                    shred=(owner,) if shred else (),
                    secrets=() if text is None else (SecretPut(owner, name, Secret(text)),),
                    drop_secrets=((owner, name),) if text is None else (),
                )
            )

        async def all_at_once() -> Sequence[Appended | Duplicate]:
            return await asyncio.gather(*map(self.log.append, appends))

        for outcome in self.do(all_at_once()):
            assert isinstance(outcome, Appended)
            self.note(outcome)

    @rule(client=st.sampled_from(["c1", "c2"]), seq=st.integers(0, 9))
    def ack(self, client: str, seq: int) -> None:
        self.do(self.log.save_acks([Ack("user/1", client, "user/1", seq)]))
        self.acks[client] = max(seq, self.acks.get(client, 0))

    @rule(blob=st.binary(max_size=2), drop=st.booleans())
    def blob(self, blob: bytes, drop: bool) -> None:
        if drop:
            self.appended(Append(ts_ms=1, drop_blobs=(blob_id(blob),)))
        else:
            self.appended(Append(ts_ms=1, blobs=(blob,)))
        self.safe = self.taken
        self.blobs[blob] = max(0, self.blobs[blob] + (-1 if drop else 1))

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
        self.do(self.log.reserve("n", count))
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

    @rule(
        stream=st.sampled_from((*STREAMS, "log")),
        after=st.integers(-1, 30) | st.just(10**30),
        count=st.integers(0, 9),
    )
    def read(self, stream: str, after: int, count: int) -> None:
        wanted = [
            event
            for event in self.events
            if (event.position > after if stream == "log" else event.stream == stream and event.seq > after)
        ][:count]
        assert self.do(self.log.read(stream, after, events_max=count)) == wanted
        places = [(stream, event.position if stream == "log" else event.seq) for event in wanted]
        nowhere = [(stream, 0), (stream, self.log.head(stream).seq + 1), ("never", 1)]
        links = self.do(self.log.links([*places, *nowhere]))
        assert links == [*(event.chain for event in wanted), None, None, None]
        if stream != "log":
            joined = self.do(read_joined(self.log, stream, after, events_max=count))
            bodies = b",".join(event.body for event in wanted)
            assert joined == (Joined(wanted[0].seq, len(wanted), bodies) if wanted else None)

    @rule(start=st.integers(0, 30))
    def verify_a_part(self, start: int) -> None:
        assert self.do(self.log.verify(start)) == max(0, len(self.events) - start)

    @invariant()
    def heads_and_chain_hold(self) -> None:
        if not hasattr(self, "log"):
            return
        assert self.log.position == len(self.events)
        assert {s: self.log.head(s).seq for s in STREAMS} == {s: self.head(s) for s in STREAMS}
        assert self.do(self.log.verify()) == len(self.events)
        for prefix in ("", "user/"):
            begun = {event.stream for event in self.events if event.stream.startswith(prefix)}
            assert self.log.streams(prefix) == sorted(begun)

    @invariant()
    def what_lies_beside_holds(self) -> None:
        if not hasattr(self, "log"):
            return
        for part, rows in self.rows.items():
            assert self.do(self.log.rows("t", part, limit=99)) == sorted(rows.items(), reverse=True)
        for owner, secrets in self.secrets.items():
            told = [one and one.reveal() for one in self.do(self.log.secrets(owner, "qp"))]
            assert told == [secrets.get("q"), secrets.get("p")]
        acks = self.do(self.log.acks())
        assert acks == [Ack("user/1", client, "user/1", seq) for client, seq in sorted(self.acks.items())]
        for blob, count in self.blobs.items():
            assert self.do(self.log.blob(blob_id(blob))) == (blob if count else None)


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
            found = self.do(self.log.read("log", len(self.events), events_max=9))
            assert [(one.stream, one.body) for one in found] == [(one.stream, one.body) for one in made]
            self.events += found
            self.commands[name] = outcome.command
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


class ReplicaLogMachine(LogMachine):
    """The in-memory engine as the one replica of an ordered log."""

    def make_engine(self) -> Engine:
        return ReplicaEngine()


_checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
TestMemoryLog = MemoryLogMachine.TestCase
TestMemoryLog.settings = settings(
    max_examples=examples(300),
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=_checks,
)
TestReplicaLog = ReplicaLogMachine.TestCase
TestReplicaLog.settings = settings(TestMemoryLog.settings, max_examples=examples(150))
TestSqliteLog = SqliteLogMachine.TestCase
pytest.mark.timeout(400)(TestSqliteLog)  # some thousand syncs, and a disk that others use too
TestSqliteLog.settings = settings(
    max_examples=examples(60),
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=_checks,
)
