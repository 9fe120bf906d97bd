"""Watching mailboxes on a real Dovecot: what the user is told, when, and over which connections."""

import asyncio
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from huahuo.mailcheck.checks.backoff import Pace
from huahuo.mailcheck.servers.providers import ProviderOptions, Providers
from tests.support.drivers.checks import QUICK
from tests.support.models.mail_book import USER
from tests.support.servers.dovecot import Dovecot, dovecot
from tests.support.servers.proxy import chaos_proxy
from tests.support.worlds.mail_world import MailWorld, real_world

pytestmark = pytest.mark.e2e

U = f"user/{USER}"
BY_IDLE = Pace(poll_s=10_000)
"""What else would look at a mailbox does so long after a test has ended."""
IMPATIENT = msgspec.structs.replace(QUICK, command_timeout_s=2.0)
WITH_JUNK = msgspec.structs.replace(QUICK, folders=("junk",))
WITHOUT_IDLE = Providers({"imap": ProviderOptions(idle=False)})


@pytest.fixture(scope="module")
def server() -> Iterator[Dovecot]:
    with dovecot() as running:
        yield running


@pytest.fixture
def user(server: Dovecot, request: pytest.FixtureRequest) -> str:
    """A user of this test's own."""
    name = f"{request.node.name.removeprefix('test_')[:40]}@example.com"
    server.add_user(name)
    return name


def mail(subject: str) -> bytes:
    return f"Subject: {subject}\r\nFrom: Bob <bob@example.com>\r\n\r\nhello\r\n".encode()


async def deliver(server: Dovecot, user: str, *subjects: str) -> None:
    await asyncio.to_thread(server.add_mail, user, *[mail(subject) for subject in subjects])


async def watched(world: MailWorld, server: Dovecot, user: str, port: int = 0) -> int:
    """A mailbox that is watched."""
    number = await world.add(
        user, server=server.host, port=port or server.port, use_ssl=False, password="secret"
    )
    answer = await world.do("watch_emails", email_ids=[number], on=True)
    assert (answer["type"], answer["accepted"], answer["refused"]) == ("success", [number], [])
    return number


async def waits_in_idle(world: MailWorld, count: int = 1) -> None:
    while world.mail.watching.idle < count:  # noqa: ASYNC110  nothing tells of it
        await asyncio.sleep(0.01)


async def told(world: MailWorld, subject: str) -> dict[str, Any]:
    return await world.until(U, lambda body: body.get("subject") == subject)


async def subjects(world: MailWorld) -> list[str]:
    return [e["subject"] for e in await world.said() if e["type"] == "mail_received"]


async def test_a_new_mail_is_told_as_soon_as_idle_tells_of_it_and_nothing_else_is(
    server: Dovecot, user: str
) -> None:
    async with real_world(watch=BY_IDLE) as world:
        number = await watched(world, server, user)
        await waits_in_idle(world)
        for subject in ("first", "second", "third"):
            await deliver(server, user, subject)
            await told(world, subject)
        assert [e["type"] for e in await world.said()] == [
            "email_added",
            "email_updated",
            *["mail_received"] * 3,
        ]
        row = (await world.rows())[number]
        assert (row["status"], row["progress"], row["last_check_time"]) == ("idle", 0, None)
        assert (row["watched"], row["mail_count"]) == (True, 3)


async def test_the_mailbox_on_the_server_stays_as_it_is(server: Dovecot, user: str) -> None:
    server.add_mail(user, mail("before"))
    before = server.snapshot(user)
    async with real_world() as world:
        await watched(world, server, user)
        await told(world, "before")
        await waits_in_idle(world)
    assert server.snapshot(user) == before


async def test_a_check_and_a_watcher_tell_a_mail_once(world: MailWorld, server: Dovecot, user: str) -> None:
    number = await watched(world, server, user)
    await waits_in_idle(world)
    for turn in range(5):
        await asyncio.gather(deliver(server, user, f"mail {turn}"), world.checked(number))
        await told(world, f"mail {turn}")
    assert await subjects(world) == [f"mail {turn}" for turn in range(5)]


async def test_without_idle_it_looks_now_and_then(server: Dovecot, user: str) -> None:
    async with real_world(providers=WITHOUT_IDLE, watch=Pace(poll_s=0.1)) as world:
        await watched(world, server, user)
        await deliver(server, user, "polled")
        await told(world, "polled")
        assert world.mail.watching.idle == 0


async def test_what_idle_does_not_tell_of_is_found_as_soon_as_without_idle(
    server: Dovecot, user: str
) -> None:
    with server.client(user, "secret") as client:
        client.create("Spam")
    async with real_world(check=WITH_JUNK, watch=Pace(poll_s=0.5)) as world:
        await watched(world, server, user)
        await waits_in_idle(world)
        await asyncio.to_thread(server.add_mail, user, mail("your code"), folder="Spam")
        assert (await told(world, "your code"))["folder"] == "Spam"


async def test_news_of_one_folder_put_off_no_look_at_the_others(server: Dovecot, user: str) -> None:
    with server.client(user, "secret") as client:
        client.create("Spam")
    async with real_world(check=WITH_JUNK, watch=Pace(poll_s=2.0)) as world:
        await watched(world, server, user)
        await waits_in_idle(world)
        await asyncio.to_thread(server.add_mail, user, mail("your code"), folder="Spam")
        for n in range(200):
            await deliver(server, user, f"news {n}")
            await told(world, f"news {n}")
            if "your code" in await subjects(world):
                return
        raise AssertionError("the other folder was not read")


async def test_connections_to_a_host_are_bounded_and_every_mailbox_has_its_turn(server: Dovecot) -> None:
    users = [f"bounded-{n}@example.com" for n in range(5)]
    for name in users:
        server.add_user(name)
    bounded = Providers({"imap": ProviderOptions(connections_max=2)})
    async with real_world(providers=bounded, watch=Pace(poll_s=0.2)) as world:
        numbers = [await watched(world, server, name) for name in users]
        await waits_in_idle(world, 2)
        for name in users:
            await deliver(server, name, f"to {name}")
            assert world.mail.connections.open <= 2
        for name in users[:2]:
            await told(world, f"to {name}")
        # A check needs a place: it gets that of a watcher.
        assert (await world.checked(numbers[4]))["status"] == "ok"
        await told(world, f"to {users[4]}")
        assert world.mail.connections.open <= 2


async def test_who_has_a_connection_leaves_it_to_others_though_looks_come_sooner(server: Dovecot) -> None:
    users = [f"in-turn-{n}@example.com" for n in range(3)]
    for name in users:
        server.add_user(name)

    one = Providers({"imap": ProviderOptions(connections_max=1)})
    async with real_world(providers=one, watch=Pace(poll_s=0.1, hold_s=0.2)) as world:
        for name in users:
            await watched(world, server, name)
        await waits_in_idle(world)
        for name in users:
            await deliver(server, name, f"to {name}")
        for name in users:
            await told(world, f"to {name}")


# -- a proxy between us and the server ---------------------------------------------------------------


async def test_an_idle_that_is_cut_misses_no_mail_and_doubles_none(
    world: MailWorld, server: Dovecot, user: str
) -> None:
    async with chaos_proxy(server.port) as proxy:
        await watched(world, server, user, proxy.port)
        for turn in range(4):
            await waits_in_idle(world)
            if turn % 2:
                proxy.cut()
            await deliver(server, user, f"mail {turn}")
            await told(world, f"mail {turn}")
        assert await subjects(world) == [f"mail {turn}" for turn in range(4)]
        assert [e for e in await world.said() if "status" in e] == []


async def test_a_hung_idle_is_found_by_its_renewal(server: Dovecot, user: str) -> None:
    async with real_world(check=IMPATIENT, watch=Pace(renew_s=1.0)) as world:
        async with chaos_proxy(server.port) as proxy:
            await watched(world, server, user, proxy.port)
            await waits_in_idle(world)
            proxy.blackhole()
            await deliver(server, user, "while it hung")
            await proxy.connection(2)
            proxy.heal()
            await told(world, "while it hung")
            await waits_in_idle(world)
        assert await subjects(world) == ["while it hung"]
