"""Watchers in virtual time, with mail servers that the test plays: who looks when, and what is told."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, cast

import pytest

from huahuo.mailcheck.checks.backoff import Host, Pace, renew_s
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


@mail_world(watch=SLOW)
async def test_watching_is_switched_for_ids_or_a_filter_and_others_are_refused(world: MailWorld) -> None:
    first, second = [await world.add(f"{name}@x.com") for name in ("a", "b")]
    strange = await world.add("c@x.com", user_id=USER + 1)
    answer = await world.do("watch_emails", email_ids=[first, strange, 99], on=True)
    assert (answer["accepted"], answer["refused"]) == ([first], [strange, 99])
    answer = await world.do("watch_emails", filter={}, on=True)
    assert (answer["accepted"], answer["refused"]) == ([first, second], [])
    assert [e["email_id"] for e in await world.said() if e.get("watched")] == [first, second]
    await world.do("watch_emails", filter={"text": "a@"}, on=False)
    assert {n: row["watched"] for n, row in (await world.rows()).items()} == {first: False, second: True}
    assert (await world.do("watch_emails", on=True))["code"] == "invalid_field"
    assert world.mail.watching.count == 1


@mail_world(watch=SLOW)
async def test_a_filter_of_many_mailboxes_is_switched_in_parts_with_one_answer(world: MailWorld) -> None:
    lines = "\n".join(f"m{n}@x.com----secret" for n in range(501))
    await world.do("import_emails", data=lines, mail_type="imap")
    numbers = list(await world.rows())
    reply = await world.reply("watch_emails", command_id="w1", filter={}, on=True)
    again = await world.reply("watch_emails", command_id="w1", filter={}, on=True)
    for one in (reply, again):
        assert b'"accepted":[%s]' % ",".join(map(str, numbers)).encode() in one.body
    assert len([e for e in await world.said() if e["type"] == "email_updated"]) == 501


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


@mail_world(watch=SLOW)
async def test_one_mailbox_tries_a_server_that_was_away_before_the_others(world: MailWorld) -> None:
    await watched(world, 10)
    for look in [await world.script.next() for _ in range(8)]:
        refuse(look, "connect")
    trying = await world.script.next()
    await asyncio.sleep(30)
    assert world.script.running == 1
    trying.finish()
    assert len(await looks(world, 60)) >= 9


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


def test_a_token_endpoint_that_is_away_opens_no_mail_server() -> None:
    host = Host()
    host.failed(outcome_of("connect"), 0.0, 1.0)
    host.begin()
    assert not host.failed(outcome_of("http_away"), 10.0, 1.0)
    assert (host.failures, host.tries) == (1, False)


@mail_world(watch=SLOW)
async def test_a_mailbox_that_is_limited_behind_its_own_proxy_waits_as_for_a_limit(world: MailWorld) -> None:
    (number,) = await watched(world, 1)
    (await world.script.next()).finish()
    await world.do("update_email", email_id=number, proxy="http://203.0.113.7:3128")
    refuse(await world.script.next(), "throttled")
    assert await looks(world, 29) == []
    assert world.mail.watching.hosts_left_alone == 0
    assert len(await looks(world, 40)) == 1


@mail_world(watch=SLOW)
async def test_a_way_of_ones_own_says_nothing_good_of_a_server_either(world: MailWorld) -> None:
    (number,) = await watched(world, 1)
    refuse(await world.script.next(), "connect")
    await world.do("update_email", email_id=number, proxy="http://203.0.113.7:3128")
    own = await world.script.next()
    assert own.target.proxy is not None
    own.finish()
    await asyncio.sleep(1)
    assert world.mail.watching.hosts_left_alone == 1


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


@mail_world(watch=SLOW)
async def test_after_a_refused_sign_in_only_the_user_or_a_check_starts_it_again(world: MailWorld) -> None:
    [number] = await watched(world, 1)
    refuse(await world.script.next(), "login_refused")
    await world.until(U, lambda body: body.get("status") == "need_reauth")
    assert await looks(world, 100_000 / 2) == []
    head = world.log.head(U).seq
    await world.do("check_emails", email_ids=[number])
    (await world.script.next()).finish()
    await world.ended(number, after=head)
    assert len(await looks(world, 10)) == 1


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


@pytest.mark.parametrize("watched", [1, 100, 800])
def test_up_to_eight_hundred_mailboxes_are_looked_at_each_minute(watched: int) -> None:
    assert 36.0 <= renew_s(Pace(), watched, watched, 1.0) <= renew_s(Pace(), watched, watched, 0.0) == 60.0


@pytest.mark.parametrize("there", [1, 1_000, 3_000, 10_000])
@pytest.mark.parametrize("watched", [10_000, 30_000])
def test_looks_are_bounded_at_one_server_and_in_all(there: int, watched: int) -> None:
    each_s = renew_s(Pace(renew_s=10_000.0), there, watched, 0.5)
    assert there / each_s < 17
    assert watched / each_s < 63
