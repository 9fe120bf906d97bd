"""A node that joins gets a copy of a living one: in pieces, resumed, checked, and only then in its place."""

import asyncio
import contextlib
import shutil
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from huahuo.cluster import replica_copies
from huahuo.cluster.members import Member
from huahuo.cluster.node_requests import Asker, NodesDoor, NodeSilent, Peers
from huahuo.cluster.replica_copies import JOINING_FOLDER, Copies, NoCopy, fetch_copy
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.eventstore.core.storage_port import Passed
from huahuo.eventstore.replicated.writer import ReplicaWriter
from huahuo.eventstore.sqlite import schema
from huahuo.eventstore.sqlite.log import SqliteLog, held_in, open_log
from huahuo.eventstore.sqlite.schema import DATABASE
from tests.support.models.memory_sequencer import MemoryOrder, MemorySequencer
from tests.support.worlds.logs import MASTER_KEY, append, command, event
from tests.support.worlds.wire import until, world

SECRET = b"s" * 32


class Giver:
    """The node `a` with its replica, and the door at which it gives copies."""

    def __init__(self, log: SqliteLog, data: Path, url: str, door: NodesDoor) -> None:
        self.log = log
        self.data = data
        self.door = door
        self.said: list[str] = []
        self.living = {"a": Member(url=url, build="t", keys="k", beat=1, at_ms=0, applied=9)}
        self.asker = Asker(secret=SECRET, node="b", log_id=log.log_id, ambient=SystemAmbient())

    async def fetch(self, into: Path, first: int = 0) -> str:
        return await fetch_copy(into, self.living, self.asker, self.log.log_id, self.said.append, first)


def no_members() -> dict[str, Member]:
    return {}


@contextlib.asynccontextmanager
async def giver(data: Path, told: Passed | None = None) -> AsyncIterator[Giver]:
    ambient = SystemAmbient()
    async with world() as w:
        log = await open_log(
            data, ambient=ambient, master_key=MASTER_KEY, build="t",
            sequencer=MemorySequencer(MemoryOrder()), node="a",
        )  # fmt: skip
        for n in range(40):
            await log.append(append(event("s", b"%d" % n + b"x" * 4000)))
        door = NodesDoor(secret=SECRET, node="a", log_id=log.log_id, ambient=ambient)
        w.api.serve_nodes(door)
        asker = Asker(secret=SECRET, node="a", log_id=log.log_id, ambient=ambient)
        peers = Peers(asker, door, members=no_members, silent_s=lambda _: 0.0)
        given = Copies(data, ambient)
        assert isinstance(log.writer, ReplicaWriter)
        given.serve(peers, log.writer.told if told is None else lambda _: told)
        yield Giver(log, data, f"http://127.0.0.1:{w.port}", door)
        await given.close()
        await log.close()
        assert not (data / replica_copies.COPIES_FOLDER).exists()


async def test_a_copy_comes_in_pieces_and_is_the_giver_s_replica(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica_copies, "PIECE_BYTES", 50_000)
    async with giver(tmp_path / "a") as a:
        assert await a.fetch(tmp_path / "b") == "a"
        held = held_in(tmp_path / "b")
        assert held is not None
        assert held.log_id == a.log.log_id
        assert not (tmp_path / "b" / JOINING_FOLDER).exists()
        assert sum("fetches a copy from a" in said for said in a.said) > 3
        assert a.said[-1] == "this node checks the copy that a gave: 100%"


async def test_a_copy_that_nobody_comes_back_for_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica_copies, "UNUSED_S", 0.01)
    async with giver(tmp_path / "a") as a:
        await a.asker.ask(
            a.living["a"].url, "a", replica_copies.BEGIN, replica_copies.Begin(), replica_copies.Offered
        )
        folder = tmp_path / "a" / replica_copies.COPIES_FOLDER
        await until(folder.exists)
        await until(lambda: not folder.exists())


async def test_a_joiner_that_was_stopped_goes_on_with_the_same_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica_copies, "PIECE_BYTES", 50_000)
    async with giver(tmp_path / "a") as a:
        fetching_ = asyncio.ensure_future(a.fetch(tmp_path / "b"))
        while not any("fetches a copy from a" in said for said in a.said[:-1]):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        fetching_.cancel()
        await asyncio.wait([fetching_])
        if not (tmp_path / "b" / DATABASE).exists():
            came = (tmp_path / "b" / JOINING_FOLDER / DATABASE).stat().st_size
            a.said.clear()
            await a.fetch(tmp_path / "b")
            assert came > 0
        assert held_in(tmp_path / "b") is not None


async def test_a_copy_from_before_what_the_ordered_log_keeps_is_made_anew(tmp_path: Path) -> None:
    async with giver(tmp_path / "a") as a:
        await a.fetch(tmp_path / "b")
        old = held_in(tmp_path / "b")
        assert old is not None
        for _ in range(3):
            await a.log.append(append(event("s")))
        await a.fetch(tmp_path / "b", old.offset + 1)
        assert held_in(tmp_path / "b") == old, "the log still has all that comes after the copy"
        await a.fetch(tmp_path / "b", old.offset + 2)
        new = held_in(tmp_path / "b")
        assert new is not None
        assert new.offset > old.offset
        with pytest.raises(NoCopy, match="its copy ends at"):
            await a.fetch(tmp_path / "b", new.offset + 100_000)
        assert held_in(tmp_path / "b") == new


async def test_a_copy_from_which_a_row_was_taken_on_its_way_is_thrown_away(tmp_path: Path) -> None:
    async with giver(tmp_path / "a") as a:
        await a.log.append(command("once", event("s")))
        await a.fetch(tmp_path / "b")
        folder = tmp_path / "c" / JOINING_FOLDER
        folder.mkdir(parents=True)
        shutil.copyfile(tmp_path / "b" / DATABASE, folder / DATABASE)
        with contextlib.closing(sqlite3.connect(folder / DATABASE, isolation_level=None)) as connection:
            assert connection.execute("DELETE FROM command").rowcount == 1
        offered = await a.asker.ask(
            a.living["a"].url, "a", replica_copies.BEGIN, replica_copies.Begin(), replica_copies.Offered
        )
        (folder / replica_copies.COPY_NOTE).write_bytes(replica_copies.note_of("a", offered))
        with pytest.raises(NoCopy, match=r"table command .* its 0 rows are not the 1 that were backed up"):
            await a.fetch(tmp_path / "c")
        assert not (tmp_path / "c" / DATABASE).exists()
        assert await a.fetch(tmp_path / "c") == "a", "the next try begins again"


async def test_a_copy_of_a_newer_version_is_refused_and_the_next_node_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with giver(tmp_path / "a") as a:
        monkeypatch.setattr(schema, "FORMAT", schema.FORMAT - 1)
        with pytest.raises(NoCopy, match="a: a newer version of huahuo wrote this log"):
            await a.fetch(tmp_path / "b")
        assert not (tmp_path / "b" / DATABASE).exists()


async def test_a_copy_of_another_history_than_most_nodes_have_is_refused(tmp_path: Path) -> None:
    async with giver(tmp_path / "a", told=Passed(1, b"", b"another digest")) as a:
        a.living["c"] = a.living["a"]
        a.door.node = ""  # so it answers as both
        with pytest.raises(NoCopy, match="its history differs"):
            await fetch_copy(tmp_path / "b", a.living, Both(a.asker), a.log.log_id, a.said.append)


class Both(Asker):
    """Asks whoever is there, by no name."""

    def __init__(self, inner: Asker) -> None:
        self._inner = inner

    async def ask[T](
        self, url: str, node: str, name: str, asked: object, kind: type[T], *, timeout_s: float = 5.0
    ) -> T:
        return await self._inner.ask(url, "", name, asked, kind, timeout_s=timeout_s)


async def test_without_a_living_node_what_the_directory_held_is_untouched(tmp_path: Path) -> None:
    async with giver(tmp_path / "a") as a:
        await a.fetch(tmp_path / "b")
        before = (tmp_path / "b" / DATABASE).read_bytes()
        asker = Asker(secret=SECRET, node="b", log_id=a.log.log_id, ambient=SystemAmbient())
        gone = {"a": Member(url="http://127.0.0.1:9", build="t", keys="k", beat=1, at_ms=0, applied=9)}
        with pytest.raises(NoCopy, match="can't be reached"):
            await fetch_copy(tmp_path / "b", gone, asker, a.log.log_id, a.said.append)
        assert (tmp_path / "b" / DATABASE).read_bytes() == before
        shutil.rmtree(tmp_path / "b")
        with pytest.raises(NoCopy, match="no other node lives"):
            await fetch_copy(tmp_path / "b", {}, asker, a.log.log_id, a.said.append)
        with pytest.raises(NodeSilent):
            await asker.ask(
                "http://127.0.0.1:9",
                "a",
                replica_copies.BEGIN,
                replica_copies.Begin(),
                replica_copies.Offered,
            )
