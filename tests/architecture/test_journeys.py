"""Five things that happen all day, and how many files of the server each of them runs through.

A person who follows one of them reads these files. The ceilings of `journeys.json` only go down: a change
that leaves files out lowers them. `python -m pytest -s` lists the files, with calls and hops.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import structlog
from msgspec import Struct

from huahuo import Command, Entity, Event, Service
from huahuo.mailcheck import mail
from tests.support.drivers.rawclient import RawClient, connected
from tests.support.journeys import recorded
from tests.support.servers.pymap import pymap

pytestmark = pytest.mark.e2e

CEILINGS: dict[str, int] = json.loads(Path(__file__).with_name("journeys.json").read_text("utf-8"))
STREAM = "group/ops"


class Placed(Event, type="order_placed"):
    item: str


class Order(Struct, frozen=True):
    item: str = ""


class Place(Command, action="place_order", creates=True):
    item: str


order = Entity("order", Order)


@order.evolve
def placed(_state: Order, event: Placed) -> Order:
    return Order(event.item)


@order.decide
def place(_state: Order, command: Place, _ctx: object) -> list[Placed]:
    return [Placed(item=command.item)]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with Service(
        tmp_path / "data", environ={}, port=0, log_level="error", entities=[order], plugins=[mail()],
        mail_allow_private=True,
    ) as running:  # fmt: skip
        yield running
    structlog.reset_defaults()


class Browsers:
    """Clients of a service."""

    def __init__(self, service: Service, stack: AsyncExitStack) -> None:
        self._service, self._stack = service, stack

    async def signed_in(self, name: str, **fields: Any) -> RawClient:
        client = await self._stack.enter_async_context(connected(self._service.url))
        token = self._service.token(1, "alice", admin=True, groups=("ops",))
        await client.authenticate(token, client=name, **fields)
        return client


@pytest.fixture
async def browsers(service: Service) -> AsyncIterator[Browsers]:
    async with AsyncExitStack() as stack:
        yield Browsers(service, stack)


async def publish(client: RawClient) -> None:
    await client.say(action="publish", id=f"p{len(client.seen)}", stream=STREAM, type="said", text="hello")
    await client.until("success")


async def heard(client: RawClient, **fields: Any) -> None:
    """Read until an event with these fields has come."""
    while True:
        message = await client.next()
        if any(fields.items() <= event.items() for event in message.get("events", [message])):
            return


async def judged(
    name: str, journey: Callable[[], Awaitable[None]], before: Callable[[], Awaitable[None]] | None = None
) -> None:
    found = await recorded(journey, CEILINGS[name], before)
    files = sorted(found.files)
    print(f"\n{name}: {len(files)} files, {found.calls} calls, {found.hops} hops", *files, sep="\n  ")
    assert len(files) <= CEILINGS[name], f"{name}: a file that it did not run through before"


async def test_a_publish_from_one_browser_to_another(browsers: Browsers) -> None:
    one, other = await browsers.signed_in("one"), await browsers.signed_in("other")
    await other.say(action="subscribe", id="s", stream=STREAM)
    await other.until("live")

    async def journey() -> None:
        await publish(one)
        await heard(other, type="said")

    await judged("publish", journey)


async def test_a_command_of_an_own_entity(browsers: Browsers) -> None:
    client = await browsers.signed_in("one")

    async def journey() -> None:
        await client.say(action="place_order", id=f"c{len(client.seen)}", item="tea")
        await client.until("success")

    await judged("command", journey)


async def test_an_ack(browsers: Browsers) -> None:
    client = await browsers.signed_in("one")
    await client.say(action="subscribe", id="s", stream=STREAM)
    await client.until("live")
    seq = 0

    async def before() -> None:
        nonlocal seq
        await publish(client)
        seq += 1

    async def journey() -> None:
        await client.say(action="ack", cursors={STREAM: seq})

    await judged("ack", journey, before)


async def test_a_resume_after_one_lost_event(browsers: Browsers) -> None:
    one, other = await browsers.signed_in("one"), await browsers.signed_in("other")
    log = one.seen[0]["log"]
    seq = 0

    async def journey() -> None:
        nonlocal other, seq
        other.ws.transport.abort()
        await other.ws.wait_closed()
        await publish(one)
        other = await browsers.signed_in("other", resume={"log": log, "cursors": {STREAM: seq}})
        await heard(other, type="said")
        await other.until("live")
        seq += 1

    await judged("resume", journey)


@pytest.mark.slow
async def test_a_mail_check(browsers: Browsers) -> None:
    client = await browsers.signed_in("one")
    with pymap() as server:
        await client.say(
            action="add_email", id="a", email=server.user, password=server.password, mail_type="imap",
            server=server.host, port=server.port, use_ssl=False,
        )  # fmt: skip
        email_id = (await client.until("success", id="a"))["email_id"]
        await client.say(action="subscribe", id="s", stream="user/1")
        await client.until("live")

        async def before() -> None:
            server.add_mail(b"Subject: hello\r\n\r\nYour code is 123456.")

        async def journey() -> None:
            await client.say(action="check_emails", email_ids=[email_id])
            await heard(client, type="email_status_update", status="ok")

        await judged("mail check", journey, before)
