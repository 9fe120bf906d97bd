"""Which nodes may not take part in a log of several, and what they are told."""

import asyncio
import contextlib
import shutil
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest

from huahuo.app import credentials, nodes
from huahuo.app.config import Settings
from huahuo.app.ground import open_sqlite
from huahuo.app.service_port import WaitingRoom
from huahuo.cli import maintenance
from huahuo.cli.maintenance import adopt
from huahuo.errors import ConfigError, HuahuoError
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.eventstore.errors import EventStoreError, WrongKey
from huahuo.eventstore.limits import EVENT_BYTES_MAX
from huahuo.eventstore.model import Append, NewEvent
from huahuo.eventstore.port import Log
from huahuo.eventstore.sequencer.port import InDoubt, Sequencer, Unreachable
from huahuo.eventstore.sqlite import log as replicas
from tests.support.models.memory_sequencer import MemoryOrder, MemorySequencer
from tests.support.patience import WITHIN_S
from tests.support.servers.nats import PASSWORD, NatsServers, nats_servers
from tests.support.worlds.sequencers import answered

MASTER_KEY, JWT_SECRET = "5a" * 32, "test-secret-that-is-long-enough-000000"


@pytest.fixture(scope="module")
def order() -> Iterator[NatsServers]:
    with nats_servers() as running:
        yield running


def settings(order: NatsServers, data: Path, log: str) -> Settings:
    return Settings(
        data=data,
        port=0,
        log=f"{order.url}?name={log}",
        master_key=MASTER_KEY,
        jwt_secret=JWT_SECRET,
        node="a",
    )


@contextlib.asynccontextmanager
async def opened(given: Settings) -> AsyncIterator[Log]:
    ambient = SystemAmbient()
    log = await open_sqlite(
        given, credentials.ensure_keys(given, ambient), ambient, WaitingRoom(given.host, 0)
    )
    try:
        yield log
    finally:
        await log.close()


def event(body: bytes = b"{}") -> Append:
    return Append(ts_ms=0, principal="service", events=(NewEvent("user/1", "ticked", body),))


async def test_an_empty_directory_takes_over_the_id_of_the_log(order: NatsServers, tmp_path: Path) -> None:
    async with opened(settings(order, tmp_path / "a", "takes")) as one:
        await one.append(event())
        other = msgspec.structs.replace(settings(order, tmp_path / "b", "takes"), node="b")
        async with opened(other) as log:
            replica = nodes.replica_of(log)
            assert replica is not None
            await replica.joined()
            assert (log.log_id, log.position) == (one.log_id, 1)


async def test_a_node_with_another_master_key_is_refused(order: NatsServers, tmp_path: Path) -> None:
    async with opened(settings(order, tmp_path / "a", "keys")):
        pass
    wrong = msgspec.structs.replace(settings(order, tmp_path / "b", "keys"), master_key="6b" * 32)
    with pytest.raises(WrongKey, match="another master key"):
        async with opened(wrong):
            pass


async def test_a_log_of_another_directory_is_refused(order: NatsServers, tmp_path: Path) -> None:
    for log in ("one", "two"):
        async with opened(settings(order, tmp_path / log, log)) as made:
            await made.append(event())
    with pytest.raises(EventStoreError, match="is that of"):
        async with opened(settings(order, tmp_path / "one", "two")):
            pass


async def adopted(given: Settings) -> None:
    """Adopt the directory, again until the ordered log answers in time."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            try:
                return await adopt(given, SystemAmbient(), str)
            except HuahuoError as error:
                if not isinstance(error.__context__, InDoubt | Unreachable):
                    raise


async def trimmed(given: Settings) -> None:
    """Trim the log of `given` behind all that it has, as its nodes do."""
    async with opened(given) as log:
        replica = nodes.replica_of(log)
        assert replica is not None
        await replica.joined()
        for _ in range(4):
            await log.append(event())
        told = await answered(replica.tell_birth_again)
        await answered(lambda: replica.trim(told))


async def test_a_log_of_another_directory_is_refused_also_once_it_was_trimmed(
    order: NatsServers, tmp_path: Path
) -> None:
    given = settings(order, tmp_path / "c", "third")
    async with opened(given) as made:
        await made.append(event())
    await trimmed(settings(order, tmp_path / "d", "fourth"))
    with pytest.raises(ConfigError, match="is that of"):
        async with opened(msgspec.structs.replace(given, log=f"{order.url}?name=fourth")):
            pass


async def test_a_single_service_is_not_adopted_into_a_log_that_was_trimmed(
    order: NatsServers, tmp_path: Path
) -> None:
    given = settings(order, tmp_path / "e", "fifth")
    async with opened(msgspec.structs.replace(given, log="")) as log:
        await log.append(event())
    await trimmed(settings(order, tmp_path / "f", "fifth"))
    with pytest.raises(HuahuoError, match="in use already: use an empty one"):
        await adopted(given)


async def test_a_replica_is_opened_by_its_node_only(order: NatsServers, tmp_path: Path) -> None:
    given = settings(order, tmp_path / "a", "alone")
    async with opened(given) as log:
        await log.append(event())
    with pytest.raises(EventStoreError, match="replica of a log that several nodes share"):
        async with opened(msgspec.structs.replace(given, log="")):
            pass


async def test_a_directory_of_a_single_service_is_not_mixed_with_a_log(
    order: NatsServers, tmp_path: Path
) -> None:
    given = settings(order, tmp_path / "a", "mixed")
    async with opened(msgspec.structs.replace(given, log="")) as log:
        await log.append(event())
    with pytest.raises(EventStoreError, match="single service"):
        async with opened(given):
            pass


async def test_an_adopted_directory_may_hold_what_any_service_takes(
    order: NatsServers, tmp_path: Path
) -> None:
    largest = event(b'"' + b"x" * (EVENT_BYTES_MAX - 2) + b'"')
    given = settings(order, tmp_path, "large")
    async with opened(msgspec.structs.replace(given, log="")) as single:
        await single.append(largest)
    await adopted(given)
    async with opened(given) as log:
        await log.append(largest)
        assert [len(one.body) for one in await log.read("user/1", 0, events_max=9, bytes_max=9 << 20)] == [
            EVENT_BYTES_MAX
        ] * 2


@pytest.mark.parametrize("used", [False, True])
async def test_a_birth_that_a_slow_log_put_in_order_twice_is_no_use_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, used: bool
) -> None:
    given = Settings(data=tmp_path, port=0, master_key=MASTER_KEY, jwt_secret=JWT_SECRET, node="a")
    async with opened(given) as single:
        await single.append(event())
    order = MemoryOrder()

    async def slow(*_: object) -> Sequencer:
        return Twice(order, b"of somebody else" if used else b"")

    monkeypatch.setattr(maintenance, "sequencer_of", slow)
    given = msgspec.structs.replace(given, log="nats://127.0.0.1")
    with pytest.raises(HuahuoError, match="in use already") if used else contextlib.nullcontext():
        await adopt(given, SystemAmbient(), str)
    assert replicas.is_replica(tmp_path) is not used
    assert order.last == (3 if used else 2)


class Twice(MemorySequencer):
    """One that was asked for each proposal again before it answered."""

    def __init__(self, order: MemoryOrder, more: bytes) -> None:
        super().__init__(order)
        self._more = more

    async def propose(self, proposal: bytes, proposal_id: str) -> int:
        first = await super().propose(proposal, proposal_id)
        await super().propose(proposal, proposal_id)
        if self._more:
            await super().propose(self._more, "more")
        return first


async def test_an_event_that_no_service_takes_is_named_and_not_adopted(
    order: NatsServers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = settings(order, tmp_path, "over")
    async with opened(msgspec.structs.replace(given, log="")) as single:
        await single.append(event(b'"' + b"x" * 100 + b'"'))
    monkeypatch.setattr(maintenance, "EVENT_BYTES_MAX", 100)
    with pytest.raises(HuahuoError, match=r"the event 1 \(ticked of user/1\) has 102 bytes"):
        await adopt(given, SystemAmbient(), str)


async def test_a_directory_that_differed_is_refused_until_it_is_made_anew(
    order: NatsServers, tmp_path: Path
) -> None:
    given = settings(order, tmp_path / "a", "differs")
    async with opened(given) as log:
        await log.append(event())
        replica = nodes.replica_of(log)
        assert replica is not None
        replica.differed("the history of this node differs from that of b")
    with pytest.raises(
        ConfigError, match=r"differs from that of b; .*first keep a copy.* Only then empty .* fetches a copy"
    ):
        async with opened(given):
            pass
    shutil.rmtree(tmp_path / "a")
    async with opened(given) as log:
        await until_applied(log)
        assert log.position == 1


async def until_applied(log: Log) -> None:
    replica = nodes.replica_of(log)
    assert replica is not None
    await replica.joined()


def test_a_node_makes_no_keys(order: NatsServers, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="huahuo cluster keys"):
        credentials.ensure_keys(Settings(data=tmp_path / "a", log=order.url), SystemAmbient())


@pytest.mark.parametrize("log", ["mysql://a:{}@b", "nats://a:{}@b?colour=red", "nats://a:{}@127.0.0.1:1x"])
async def test_a_bad_address_is_refused_without_its_password(tmp_path: Path, log: str) -> None:
    given = Settings(data=tmp_path, log=log.format(PASSWORD), master_key=MASTER_KEY, jwt_secret=JWT_SECRET)
    with pytest.raises(ConfigError) as refused:
        async with opened(given):
            pass
    assert PASSWORD not in f"{refused.value}{given!r}"


def test_a_node_has_one_name_for_good(tmp_path: Path) -> None:
    first = nodes.node_name(Settings(data=tmp_path / "a"), SystemAmbient())
    assert nodes.node_name(Settings(data=tmp_path / "a"), SystemAmbient()) == first
    assert nodes.node_name(Settings(data=tmp_path / "a", node="web-1"), SystemAmbient()) == "web-1"
    with pytest.raises(ConfigError, match="not the name of a node"):
        nodes.node_name(Settings(data=tmp_path / "a", node="no spaces"), SystemAmbient())


def test_a_node_that_listens_everywhere_announces_the_name_of_its_machine() -> None:
    name = socket.gethostname()
    assert (
        nodes.reachable("http://0.0.0.0:8765") == nodes.reachable("http://[::]:8765") == f"http://{name}:8765"
    )
    assert nodes.reachable("http://10.0.0.7:8765") == "http://10.0.0.7:8765"
    assert nodes.reachable("") == ""
