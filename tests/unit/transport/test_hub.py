"""The table of live connections: takeover, revocation, acks behind, and one timer for all."""

import asyncio
import errno

import pytest
from structlog.testing import capture_logs

from huahuo.actors.plugins.actions import Registry
from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.errors import Unavailable
from huahuo.eventstore.memory import MemoryLog, ModelDisk
from huahuo.transport.access.revocations import Revocations, RevocationWatch, Revoked
from huahuo.transport.commands.publishing import Publisher
from huahuo.transport.server.hub import AckCollector, Hub
from tests.support.models.faulty_log import FaultyLog, faulty_log
from tests.support.worlds.services import Recorder, verified

TURN_S = 0.05
"""The length of a turn, in place of 1 s."""


class World:
    """A started hub over a log in memory."""

    def __init__(self, log: FaultyLog, per_user: int) -> None:
        self.log = log
        self.ambient = FakeAmbient()
        self.revocations = Revocations()
        self.hub = Hub(
            log, self.ambient, revocations=self.revocations, connections_per_user=per_user, turn_s=TURN_S
        )
        self.publisher = Publisher(log, self.ambient, Registry())

    def joined(
        self, user_id: int = 42, client: str = "", *, jti: str = "", iat_ms: int | None = None
    ) -> Recorder:
        connection = Recorder()
        self.hub.opened(connection)
        assert self.hub.join(connection, verified(user_id, jti=jti, iat_ms=iat_ms), client)
        return connection


async def world(per_user: int = 32) -> World:
    w = World(await faulty_log(), per_user)
    await w.hub.start()
    return w


async def test_a_user_over_the_limit_does_not_join() -> None:
    w = await world(per_user=2)
    first, _ = w.joined(), w.joined()
    extra = Recorder()
    assert not w.hub.join(extra, verified(), "")
    assert w.hub.join(Recorder(), verified(43), "")
    w.hub.leave(first)
    assert w.hub.join(extra, verified(), "")
    await w.hub.stop()


async def test_a_revoked_user_loses_the_sockets_of_tokens_up_to_now_and_no_other() -> None:
    w = await world()
    now_ms = w.ambient.now_ms()
    old, bare = w.joined(iat_ms=now_ms), w.joined()
    later, other = w.joined(iat_ms=now_ms + 1), w.joined(user_id=43)
    await w.publisher.revoke(user_id=42)
    await old.was_closed.wait()
    assert [one.closed for one in (old, bare, later, other)] == [[4503], [4503], [], []]
    await w.hub.stop()


async def test_a_revoked_token_loses_its_sockets_and_the_users_other_token_does_not() -> None:
    w = await world()
    bad, good = w.joined(jti="bad"), w.joined(jti="good")
    await w.publisher.revoke(jti="bad")
    await bad.was_closed.wait()
    assert good.closed == []
    await w.hub.stop()


async def test_a_revocation_whose_signal_was_missed_closes_within_a_turn() -> None:
    w = await world()
    connection = w.joined(jti="bad")
    w.log.deaf = True
    await w.publisher.revoke(jti="bad")
    assert connection.closed == []
    await connection.was_closed.wait()
    assert w.revocations.covers(42, "bad", None)
    await w.hub.stop()


async def test_revocations_of_users_and_of_tokens_are_counted_once_each() -> None:
    log, ambient = await faulty_log(), FakeAmbient()
    publisher, revocations = Publisher(log, ambient, Registry()), Revocations()
    for _ in range(2):
        await publisher.revoke(user_id=42)
        await publisher.revoke(jti="one")
    watch = RevocationWatch(log, revocations, list[Revoked]().append)
    await watch.start()
    assert len(revocations) == 2
    watch.stop()


async def test_a_revocation_made_while_the_old_ones_load_is_not_lost() -> None:
    log, ambient = await faulty_log(), FakeAmbient()
    publisher = Publisher(log, ambient, Registry())
    await publisher.revoke(jti="first")
    log.read_gate = asyncio.Event()
    revocations, told = Revocations(), list[Revoked]()
    watch = RevocationWatch(log, revocations, told.append)
    starting = asyncio.create_task(watch.start())
    await asyncio.sleep(0)
    await publisher.revoke(jti="second")
    log.read_gate.set()
    await starting
    assert [revoked.jti for revoked in told] == ["first", "second"]
    watch.stop()


async def test_a_connection_whose_tick_raises_is_closed_and_the_others_go_on() -> None:
    w = await world()
    bad = w.joined()
    bad.fault = RuntimeError("boom")
    good = [w.joined() for _ in range(10)]
    with capture_logs() as lines:
        for connection in (bad, *good):
            await connection.ticked.wait()
    assert bad.closed == [1011]
    assert {line["event"] for line in lines} == {"connection_tick_failed", "connection_close_failed"}
    await w.hub.stop()


async def test_whoever_waits_for_an_ack_hears_of_it_before_it_is_written() -> None:
    w = await world()
    waits = w.hub.acked("laptop", "system", 7)
    for client, stream, seq in (("laptop", "system", 6), ("phone", "system", 7), ("laptop", "user/42", 7)):
        w.hub.note_ack("user/42", client, stream, seq)
    assert not waits.done()
    w.hub.note_ack("user/42", "laptop", "system", 8)
    assert waits.done()
    assert w.hub.acked("laptop", "system", 8).done()
    w.hub.acked("laptop", "system", 9).cancel()
    await w.hub.stop()
    w.hub.note_ack("user/42", "laptop", "system", 9)


async def test_acks_that_the_log_could_not_take_wait_and_newer_ones_win() -> None:
    disk = ModelDisk()
    log = await MemoryLog.open(disk, ambient=FakeAmbient(), master_key=bytes(32), build="t")
    acks = AckCollector(log)
    acks.note("user/42", "laptop", "system", 7)
    acks.note("user/42", "laptop", "user/42", 3)
    disk.fail_writes.append(errno.ENOSPC)
    with capture_logs() as lines:
        await acks.flush()
    assert [line["event"] for line in lines] == ["commit_failed", "acks_not_saved"]
    acks.note("user/42", "laptop", "system", 9)
    await acks.flush()
    assert {ack.stream: ack.seq for ack in await log.acks()} == {"system": 9, "user/42": 3}


async def test_acks_that_a_log_refuses_turn_after_turn_are_told_once_and_again_after_it_took_some() -> None:
    disk = ModelDisk()
    log = await MemoryLog.open(disk, ambient=FakeAmbient(), master_key=bytes(32), build="t")
    acks = AckCollector(log)
    told: list[int] = []
    for refused in (True, True, True, False, True, True):
        acks.note("user/42", "laptop", "system", len(told) + 1)
        disk.fail_writes += [errno.ENOSPC] * refused
        with capture_logs() as lines:
            await acks.flush()
        told.append([line["event"] for line in lines].count("acks_not_saved"))
    assert told == [1, 0, 0, 0, 1, 0]


async def test_acks_waiting_for_a_log_that_does_not_write_have_a_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("huahuo.transport.server.hub.ACKS_WAITING_MAX", 10)
    acks = AckCollector(await faulty_log())
    for n in range(100):
        acks.note("user/42", str(n), "system", 1)
    assert acks.waiting == 10
    acks.note("user/42", "0", "system", 2)
    await acks.flush()
    assert acks.waiting == 0


async def test_a_log_that_fails_a_chore_does_not_stop_the_wheel() -> None:
    w = await world()
    connection = w.joined(jti="bad")
    w.log.deaf = True
    w.log.read_fault = Unavailable("no")
    await w.publisher.revoke(jti="bad")
    with capture_logs() as lines:
        while not lines:
            connection.ticked.clear()
            await connection.ticked.wait()
        w.log.read_fault = None
        await connection.was_closed.wait()
    assert lines[0]["event"] == "hub_chore_failed"
    await w.hub.stop()


async def test_the_connections_of_others_include_those_whose_sockets_other_processes_have() -> None:
    w = await world()
    here, theirs, unknown = w.joined(), Recorder(), Recorder()
    w.hub.opened(unknown)
    assert w.hub.join(theirs, verified(43), "", ticked=False)
    assert set(w.hub.connections) == {here, unknown}
    assert set(w.hub.others(None)) == {here, theirs}
    assert w.hub.others((43, "cli")) == (here,)
    named = Recorder()
    assert w.hub.join(named, verified(43), "tail", ticked=False)
    assert w.hub.others((43, "cli")) == (here, named)
    assert w.hub.others((43, "tail")) == (here, theirs)
    assert w.hub.others((43, None)) == (here,)
    await w.hub.stop()
