"""Command records and acks, whose ids clients choose, are bounded on disk: per user and for all users."""

from pathlib import Path

from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.core.command_records import AckClients, KeptLimits
from huahuo.eventstore.model import Ack, Append, CommandKey, CommandRecord, Duplicate
from huahuo.eventstore.sqlite.log import SqliteLog
from tests.support.worlds.logs import MASTER_KEY


async def opened(
    directory: Path, limits: KeptLimits | None = None, ambient: FakeAmbient | None = None
) -> SqliteLog:
    return await SqliteLog.open(
        directory,
        ambient=ambient or FakeAmbient(1),
        master_key=MASTER_KEY,
        build="b",
        limits=limits or KeptLimits(),
    )


def command(user: str, id_: str) -> Append:
    record = CommandRecord(CommandKey(user, "dev", id_), b"f", b"{}")
    return Append(ts_ms=0, command=record, command_id=id_)


async def test_a_user_that_sends_too_many_commands_loses_its_own_oldest_records(tmp_path: Path) -> None:
    log = await opened(tmp_path, KeptLimits(command_records_per_user=50))
    for number in range(20):
        await log.append(command("quiet", f"q{number}"))
    for number in range(300):
        await log.append(command("loud", f"l{number}"))
    assert log.command_records <= 20 + 51
    for number in range(20):
        assert isinstance(await log.append(command("quiet", f"q{number}")), Duplicate)
    for number in range(251, 300):
        assert isinstance(await log.append(command("loud", f"l{number}")), Duplicate)
    await log.close()


async def test_all_records_together_are_bounded_also_after_a_restart(tmp_path: Path) -> None:
    log = await opened(tmp_path)
    for number in range(200):
        await log.append(command(f"u{number}", "c"))
    await log.close()
    log = await opened(tmp_path, KeptLimits(command_records_max=100))
    for number in range(10):
        await log.append(command("late", f"{number}"))
    assert log.command_records <= 101
    assert isinstance(await log.append(command("late", "0")), Duplicate)
    assert isinstance(await log.append(command("u199", "c")), Duplicate)
    await log.close()


def ack(user: str, client: str, seq: int = 1) -> Ack:
    return Ack(user, client, f"user/{user}", seq)


async def test_of_a_user_with_too_many_clients_the_longest_unused_is_forgotten(tmp_path: Path) -> None:
    log = await opened(tmp_path, KeptLimits(ack_clients_per_user=3))
    await log.save_acks([ack("1", "a"), ack("1", "b"), ack("1", "c"), ack("2", "a")])
    await log.save_acks([ack("1", "a", 2)])
    await log.save_acks([ack("1", "d")])
    assert {one.client for one in await log.acks("1")} == {"a", "c", "d"}
    assert {one.client for one in await log.acks("2")} == {"a"}
    assert log.ack_clients == 4
    await log.close()
    log = await opened(tmp_path, KeptLimits(ack_clients_per_user=3))
    assert log.ack_clients == 4
    await log.save_acks([ack("1", f"new-{number}") for number in range(100)])
    assert len(await log.acks("1")) == 3
    await log.close()


def test_clients_of_all_users_together_are_bounded() -> None:
    clients = AckClients(KeptLimits(ack_clients_max=2))
    assert clients.use("1", "a") == []
    assert clients.use("2", "a") == []
    assert clients.use("1", "a") == []
    assert clients.use("3", "a") == [("2", "a")]
    assert len(clients) == 2
