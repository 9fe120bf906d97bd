"""Whatever is proposed, and wherever a node stops and starts, two replicas hold the same state.

The nodes differ in name, clock, chance, engine, compression, and in where one commit ends and the next
begins.
"""

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import hypothesis.strategies as st
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings

from huahuo.eventstore.blobs import blob_id
from huahuo.eventstore.core.reader import AUDIT_STREAM
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.model import (
    Ack,
    Append,
    CommandRecord,
    NewEvent,
    Pruning,
    RowDrop,
    RowPut,
    Secret,
    SecretPut,
)
from huahuo.testing.world import VirtualLoop
from tests.support.models.hostile_sequencer import HostileSequencer
from tests.support.models.memory_sequencer import MemoryOrder, MemorySequencer
from tests.support.proofs import examples
from tests.support.worlds.logs import command_key
from tests.support.worlds.replicas import Node, SqliteNode

STREAMS = ("user/1", "user/2", "系统")
BLOBS = (b"one blob " * 20, b"another blob " * 20)
IDS = tuple(blob_id(blob) for blob in BLOBS)
OWNERS = ("o1", "o2")
PACKERS = tuple(SimpleNamespace(compressor=zstandard.ZstdCompressor(level=level)) for level in (3, 19))
"""Nodes may have different versions of zstd, which make other bytes of the same blob."""

streams = st.sampled_from(STREAMS)
owners = st.sampled_from(OWNERS)
keys = st.sampled_from((b"1", b"2", b"3"))
parts = st.sampled_from(("p", "q"))


def few[T](strategy: st.SearchStrategy[T]) -> st.SearchStrategy[tuple[T, ...]]:
    return st.lists(strategy, max_size=2).map(tuple)


appends = st.builds(
    Append,
    ts_ms=st.integers(0, 9),
    events=st.lists(
        st.builds(NewEvent, stream=streams, type=st.sampled_from("ab"), body=st.binary(max_size=9)),
        max_size=3,
    ).map(tuple),
    rows=few(
        st.builds(RowPut, st.just("t"), parts, keys, st.binary(max_size=3))
        | st.builds(RowDrop, st.just("t"), parts, keys, blobs=few(st.sampled_from(IDS)))
        | st.builds(RowDrop, st.just("t"), parts)
    ),
    blobs=few(st.sampled_from(BLOBS)),
    drop_blobs=few(st.sampled_from(IDS)),
    secrets=few(st.builds(SecretPut, owners, st.sampled_from(("n", "m")), st.builds(Secret, st.text("ab")))),
    drop_secrets=few(st.tuples(owners, st.just("n"))),
    shred=few(owners),
    ended=few(streams),
    principal=st.sampled_from(("user/1", "user/2")),
)
nodes = st.integers(0, 1)
steps = st.one_of(
    st.tuples(
        st.just("append"), nodes, appends, st.sampled_from(("", "right", "wrong")),
        st.none() | st.integers(0, 3), st.booleans(),
    ),
    st.tuples(st.just("reserve"), nodes, st.integers(1, 3)),
    st.tuples(st.just("ack"), nodes, st.integers(0, 9)),
    st.tuples(st.just("prune"), nodes),
    st.tuples(st.just("clock"), nodes, st.integers(0, 900_000), st.integers(-10**10, 10**10)),
    st.tuples(st.sampled_from(("restart", "crash")), nodes),
    st.tuples(st.just("late"), st.integers(0, 99)),
    st.tuples(st.just("garbage"), st.binary(max_size=40)),
    st.tuples(st.just("wait"), st.integers(1, 500)),
)  # fmt: skip


class Script:
    """Plays steps on two nodes; appends that are not waited for are under way together."""

    def __init__(self, pair: Sequence[Node], order: MemoryOrder) -> None:
        self.nodes = pair
        self.order = order
        self.waiting: list[asyncio.Future[Any]] = []

    async def play(self, step: tuple[Any, ...]) -> None:
        match step:
            case ("append", at, append, expected, command, wait):
                with mock.patch("huahuo.eventstore.core.seal._thread_compressor", PACKERS[at]):
                    await self._append(self.nodes[at], append, expected, command, wait=wait)
            case ("reserve", at, count):
                await self.nodes[at].log.reserve("n", 512 * count)
            case ("ack", at, seq):
                await self.nodes[at].log.save_acks([Ack("user/1", "c", "user/1", seq)])
            case ("prune", at):
                await self._prune(self.nodes[at])
            case ("clock", at, seconds, jump_ms):
                self.nodes[at].ambient.advance(seconds)
                self.nodes[at].ambient.jump(jump_ms)
            case ("restart", at):
                await self.nodes[at].log.close()
                await self.nodes[at].start()
            case ("crash", at):
                await self.nodes[at].crash()
                await self.nodes[at].start()
            case ("late", number):
                self.order.put(self.order.get(1 + number % self.order.last) or b"")
            case ("garbage", data):
                self.order.put(data)
            case ("wait", ms):
                await asyncio.sleep(ms / 1000)

    async def _append(
        self, node: Node, append: Append, expected: str, command: int | None, *, wait: bool
    ) -> None:
        more: dict[str, Any] = {}
        if expected:
            off = expected == "wrong"
            more["expected"] = {stream: node.log.head(stream).seq + off for stream in STREAMS[:2]}
        if command is not None:
            fingerprint = bytes([command % 2])
            more["command"] = CommandRecord(command_key(str(command)), fingerprint, b"{}", STREAMS[0])
        done = node.log.submit(
            Append(**{**{f: getattr(append, f) for f in append.__struct_fields__}, **more})
        )
        self.waiting.append(done)
        if wait:
            await asyncio.wait([done])

    async def _prune(self, node: Node) -> None:
        """Prune the oldest event of a stream that has a newer one."""
        for stream in STREAMS:
            head = node.log.head(stream)
            if head.first < head.seq:
                [oldest] = await node.log.read(stream, head.first - 1, events_max=1)
                done = node.log.submit(
                    Append(
                        ts_ms=0,
                        events=(NewEvent(AUDIT_STREAM, "compacted", b"{}"),),
                        expected={AUDIT_STREAM: node.log.head(AUDIT_STREAM).seq, stream: head.seq},
                        prune=Pruning((oldest.position,), {stream: head.first + 1}),
                    )
                )
                self.waiting.append(done)
                return


def compare(make: Any, script: Sequence[tuple[Any, ...]], seed: int) -> None:
    """Play `script` on a pair of nodes, then compare everything that is durable."""

    async def run() -> None:
        order = MemoryOrder(proposal_bytes_max=4000)

        def way(order: MemoryOrder, name: str) -> HostileSequencer:
            return HostileSequencer(MemorySequencer(order), seed=f"{name} {seed}", fault_rate=0.1, lag_s=0.01)

        pair: list[Node] = make(order, way, seed)
        played = Script(pair, order)
        try:
            await asyncio.gather(*(node.start() for node in pair))
            for step in script:
                await played.play(step)
            if played.waiting:
                await asyncio.wait(played.waiting)
            for done in played.waiting:
                assert done.exception() is None or isinstance(done.exception(), EventStoreError)
            while len({node.writer.shared.offset for node in pair} | {order.last}) > 1:
                for node in pair:
                    await node.caught_up()
            await asyncio.sleep(1)
            assert [node.writer.trouble for node in pair] == [None, None]
            one, other = (node.tables() for node in pair)
            assert one == other
            places = [node.writer.place for node in pair]
            assert (places[0].position, places[0].chain) == (places[1].position, places[1].chain)
            heads = [{name: node.log.head(name).seq for name in (*STREAMS, AUDIT_STREAM)} for node in pair]
            assert heads[0] == heads[1]
        finally:
            await asyncio.gather(*(node.log.close() for node in pair if hasattr(node, "log")))

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())


_checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


@settings(max_examples=examples(400), derandomize=True, suppress_health_check=_checks)
@given(script=st.lists(steps, max_size=25), seed=st.integers(0, 1 << 20))
def test_two_replicas_hold_one_state(script: list[tuple[Any, ...]], seed: int) -> None:
    def make(order: MemoryOrder, way: Any, seed: int) -> list[Node]:
        return [Node("north", order, way, seed), Node("south", order, way, seed + 1)]

    compare(make, script, seed)


@pytest.mark.slow
@settings(max_examples=examples(60), derandomize=True, suppress_health_check=_checks)
@given(script=st.lists(steps, max_size=20), seed=st.integers(0, 1 << 20))
def test_two_engines_hold_one_state(script: list[tuple[Any, ...]], seed: int) -> None:
    with tempfile.TemporaryDirectory(prefix="replicas-") as root:

        def make(order: MemoryOrder, way: Any, seed: int) -> list[Node]:
            return [
                Node("memory", order, way, seed),
                SqliteNode("directory", order, way, seed + 1, Path(root)),
            ]

        compare(make, script, seed)
