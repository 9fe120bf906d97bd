"""Watchers in virtual time, with mail servers that the test plays: who looks when, and what is told."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, cast

import pytest

from huahuo.mailcheck.checks.backoff import Host, Pace
from huahuo.mailcheck.checks.check_effect import CheckFailed
from huahuo.mailcheck.checks.watchers import MailboxGone, Seen, Turns, Watched
from huahuo.mailcheck.servers.faults import ConnectionLost, outcome_of
from huahuo.mailcheck.servers.imap_client import ImapClient
from tests.support.models.mail_book import USER, mail
from tests.support.worlds.mail_world import MailWorld, ScriptedCheck, mail_world

U = f"user/{USER}"
SLOW = Pace(poll_s=1_000.0)


async def watched(world: MailWorld, count: int, server: str = "imap.a.com") -> list[int]:
    """`count` watched mailboxes at a server."""
    numbers = [await world.add(f"{n}@{server}", server=server) for n in range(count)]
    await world.do("watch_emails", email_ids=numbers, on=True)
    return numbers


def now_s() -> float:
    return asyncio.get_running_loop().time()


async def looks(world: MailWorld, seconds: float) -> list[ScriptedCheck]:
    """The looks that begin in the next seconds, each of which finds nothing."""
    found: list[ScriptedCheck] = []
    until_s = now_s() + seconds
    while (left_s := until_s - now_s()) > 0:
        try:
            async with asyncio.timeout(left_s):
                found.append(await world.script.next())
        except TimeoutError:
            break
        found[-1].finish()
    return found


def refuse(look: ScriptedCheck, kind: str) -> None:
    look.fail(CheckFailed(outcome_of(kind)))


async def statuses(world: MailWorld) -> list[str]:
    return [e["status"] for e in await world.said() if "status" in e]


@mail_world(checks_per_host_max=3, watch=SLOW)
async def test_no_more_than_a_few_look_at_one_server_at_once(world: MailWorld) -> None:
    await watched(world, 20)
    begun = [await world.script.next() for _ in range(3)]
    await asyncio.sleep(100)
    assert world.script.running == 3
    for look in begun:
        look.finish()
    assert len(await looks(world, 100)) == 17
    assert world.script.running_peak == 3


@mail_world(watch=Pace(poll_s=5.0))
async def test_a_server_that_limits_us_is_left_alone_and_others_are_not(world: MailWorld) -> None:
    await watched(world, 5, "imap.limits.com")
    await watched(world, 1, "imap.other.com")
    begun = [await world.script.next() for _ in range(6)]
    for look in begun:
        if look.target.host == "imap.limits.com":
            refuse(look, "throttled")
        else:
            look.finish()
    assert {look.target.host for look in await looks(world, 29)} == {"imap.other.com"}
    assert world.mail.watching.hosts_left_alone == 1
    assert {look.target.host for look in await looks(world, 90)} == {"imap.limits.com", "imap.other.com"}
    assert (world.mail.watching.hosts_left_alone, world.mail.watching.backoffs) == (0, 1)


@mail_world(watch=Pace(poll_s=5.0))
async def test_a_mailbox_whose_own_proxy_is_broken_keeps_no_other_one_of_its_server_waiting(
    world: MailWorld,
) -> None:
    broken, *others = await watched(world, 4)
    await world.do("update_email", email_id=broken, proxy="http://203.0.113.7:3128")
    for _ in range(30):
        look = await world.script.next()
        if look.target.proxy is None:
            look.finish()
        else:
            refuse(look, "proxy")
        assert world.mail.watching.hosts_left_alone == 0
    assert len(others) == 3


@pytest.mark.parametrize(
    "kind", ["http_away", "http_certificate", "http_tls", "http_protocol", "http_down", "http_throttled"]
)
@mail_world(watch=SLOW)
async def test_a_token_endpoint_that_is_away_closes_no_mail_server(world: MailWorld, kind: str) -> None:
    await watched(world, 4)
    refuse(await world.script.next(), kind)
    await asyncio.sleep(0.5)
    assert world.mail.watching.hosts_left_alone == 0


@mail_world(watch=SLOW)
async def test_a_failure_is_told_when_it_happened_twice_and_the_return_once(world: MailWorld) -> None:
    await watched(world, 1)
    refuse(await world.script.next(), "timeout")
    look = await world.script.next()
    assert await statuses(world) == []
    refuse(look, "timeout")
    refuse(await world.script.next(), "timeout")
    look = await world.script.next()
    assert await statuses(world) == ["error"]
    look.finish()
    assert (await world.until(U, lambda body: body.get("status") == "ok"))["check_id"] == 0
    assert len(await looks(world, 10_000)) > 5
    assert await statuses(world) == ["error", "ok"]


class Idling:
    """A connection in IDLE, whose server speaks when the test calls `spoke`."""

    idles, lost = True, False

    def __init__(self) -> None:
        self.spoke: asyncio.Future[Callable[[], None]] = asyncio.get_running_loop().create_future()
        self.used_s: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    async def begin_idle(self, spoke: Callable[[], None]) -> None:
        self.spoke.set_result(spoke)

    async def end_idle(self) -> None:
        self.used_s.set_result(now_s())
        raise ConnectionLost("it was needed for no more")

    def abort(self) -> None:
        self.lost = True


@mail_world(watch=SLOW)
async def test_what_a_server_says_in_idle_is_looked_at_at_once(world: MailWorld) -> None:
    await watched(world, 1)
    look, client = await world.script.next(), Idling()
    assert isinstance(look.sink, Seen)
    look.sink.client = cast("ImapClient", client)
    look.finish()
    spoke = await client.spoke
    await asyncio.sleep(100)
    before_s = now_s()
    spoke()
    assert await client.used_s == pytest.approx(before_s, abs=0.1)


@mail_world(watch=SLOW)
async def test_a_deleted_mailbox_is_not_looked_at_any_more(world: MailWorld) -> None:
    numbers = await watched(world, 2)
    begun = [await world.script.next() for _ in numbers]
    await world.do("delete_emails", email_ids=numbers[:1])
    with pytest.raises(MailboxGone):
        await begun[0].mails(mail(1))
    for look in begun:
        look.finish(1)
    assert len(await looks(world, 5_000)) > 2
    assert world.mail.watching.count == 1
    await world.restart()
    assert world.mail.watching.count == 1


class Work:
    """A look lasts until the test ends it."""

    def __init__(self) -> None:
        self.begun: asyncio.Queue[tuple[int, asyncio.Event]] = asyncio.Queue()

    def begin(self, watched: Watched, host: Host) -> Coroutine[Any, Any, None]:
        ends = asyncio.Event()
        self.begun.put_nowait((watched.email_id, ends))
        return self._look(watched, ends)

    async def _look(self, watched: Watched, ends: asyncio.Event) -> None:
        await ends.wait()
        watched.news = False

    def ended(self, watched: Watched, host: Host, error: BaseException | None) -> None:
        assert error is None


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110  nothing tells of it
        await asyncio.sleep(0)


async def test_a_mailbox_with_news_comes_before_those_without_and_once() -> None:
    work = Work()
    turns = Turns(work.begin, work.ended, at_once=1, per_host=1)
    turns.open = True
    for number in range(1, 6):
        turns.later(turns.add(number, "imap.example.com"), 0.0)
    first, ends = await work.begun.get()
    last = turns.watched[5]
    last.news = True
    turns.later(last, 0.0)
    await until(lambda: last.timer is None)
    seen = [first]
    for _ in range(4):
        ends.set()
        number, ends = await work.begun.get()
        seen.append(number)
        if number == 5:
            turns.later(last, 3_600.0)
    assert seen == [1, 5, 2, 3, 4]
    ends.set()
    await until(lambda: not turns.watched[4].running)
    assert work.begun.empty()
    await turns.close()
