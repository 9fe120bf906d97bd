"""The table of live connections: takeover, revocation, acks behind, and one timer for all."""

import errno

import pytest
from structlog.testing import capture_logs

from huahuo.actors.plugins.actions import Registry
from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.errors import Unavailable
from huahuo.eventstore.memory import MemoryLog, ModelDisk
from huahuo.transport.access.revocations import Revocations
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
