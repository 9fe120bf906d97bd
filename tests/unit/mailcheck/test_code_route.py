"""`GET /mailboxes/<address>/code`: which code is the answer, how long it waits, what it checks meanwhile."""

import asyncio
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from huahuo.actors.plugins.actions import HttpRefused, HttpRequest
from huahuo.actors.plugins.calls import Principal
from huahuo.eventstore.ambient import FakeAmbient
from huahuo.mailcheck.api.code_route import CHECK_AGAIN_S, CodeRoute
from tests.support.models.mail_book import USER, mail
from tests.support.worlds.mail_world import MailWorld, failed, mail_world

ADDRESS = "a@example.com"


async def ask(
    w: MailWorld, address: str = ADDRESS, rights: Any = None, **query: str
) -> dict[str, Any] | None:
    """The answer, None for 204."""
    route, taps = CodeRoute(w.mail.rosters, w.feed.tap), w.feed.tap_count
    [made] = route.routes()
    who = Principal(USER, "alice", rights=rights)
    request = HttpRequest(method="GET", path="", names={"address": address}, query=query, principal=who)
    answer = await made.handler(request)
    assert w.feed.tap_count == taps
    assert answer.status == (200 if answer.body else 204)
    return msgspec.json.decode(answer.body) if answer.body else None


def coded(w: MailWorld, uid: int, code: str, *, age_s: int = 1) -> Any:
    at_ms = w.ambient.now_ms() - age_s * 1000
    return mail(uid, code=code, code_confidence=0.9, date_ms=at_ms, internal_date_ms=at_ms)


async def received(w: MailWorld, email_id: int, *mails: Any) -> None:
    """A check that finds these."""
    await w.do("check_emails", email_ids=[email_id])
    check = await w.script.next()
    await check.mails(*mails)
    check.finish(mails[-1].uid)
    await w.ended(email_id)


@mail_world()
async def test_without_one_the_mailbox_is_checked_until_a_code_comes(w: MailWorld) -> None:
    await w.add(ADDRESS)
    asked = asyncio.create_task(ask(w, wait="60"))
    check = await w.script.next()
    await check.mails(coded(w, 1, "000000", age_s=9_000))
    check.finish(1)
    began_s = asyncio.get_running_loop().time()
    check = await w.script.next()
    assert asyncio.get_running_loop().time() - began_s >= CHECK_AGAIN_S
    await check.mails(coded(w, 2, "222222"))
    found = await asked
    check.finish(2)
    assert found is not None
    assert found["code"] == "222222"


@mail_world()
async def test_when_the_time_is_over_there_is_no_content(w: MailWorld) -> None:
    await w.add(ADDRESS)
    assert await ask(w) is None
    asked = asyncio.create_task(ask(w, wait="2"))
    check = await w.script.next()
    assert await asked is None
    check.finish()


@mail_world()
async def test_a_mailbox_that_cannot_be_signed_in_to_says_so_at_once(w: MailWorld) -> None:
    await w.add(ADDRESS)
    asked = asyncio.create_task(ask(w, wait="60"))
    (await w.script.next()).fail(failed("need_reauth", "密码错误"))
    with pytest.raises(HttpRefused) as refused:
        await asked
    assert (refused.value.code, refused.value.detail) == ("need_reauth", "密码错误")


@pytest.mark.parametrize(
    ("rights", "code"), [(("codes",), ""), (("read",), ""), (("write",), "forbidden"), ((), "forbidden")]
)
@mail_world()
async def test_a_key_needs_the_right_to_codes(w: MailWorld, rights: tuple[str, ...], code: str) -> None:
    await w.add(ADDRESS)
    try:
        await ask(w, rights=rights)
        said = ""
    except HttpRefused as refused:
        said = refused.code
    assert said == code


@pytest.mark.parametrize("query", [{"wait": "61"}, {"wait": "x"}, {"max_age": "-1"}, {"after": "x"}])
@mail_world()
async def test_a_parameter_out_of_bounds_is_refused(w: MailWorld, query: dict[str, str]) -> None:
    await w.add(ADDRESS)
    with pytest.raises(HttpRefused) as refused:
        await ask(w, **query)
    assert refused.value.code == "invalid_field"


@mail_world()
async def test_of_an_alias_only_mails_to_it_count(w: MailWorld) -> None:
    email_id = await w.add("a.b@gmail.com")
    to_tag = replace(coded(w, 2, "222222"), recipients='"X" <A.B+shop@gmail.com>, c@d.example')
    to_dots = replace(coded(w, 3, "333333"), recipients="ab@gmail.com")
    await received(w, email_id, coded(w, 1, "111111"), to_tag, to_dots)
    for address, code in (("a.b+shop@gmail.com", "222222"), ("ab@gmail.com", "333333")):
        found = await ask(w, address)
        assert found is not None
        assert (found["code"], found["address"]) == (code, address)
    assert await ask(w, "a.b+other@gmail.com") is None
    found = await ask(w, "a.b@gmail.com")
    assert found is not None
    assert found["code"] == "333333"
    listed = await w.do("get_mail_records", email_id=email_id, to="A.B+shop@gmail.com")
    assert ([one["code"] for one in listed["data"]], listed["next"]) == (["222222"], None)
    await w.do("delete_emails", email_ids=[email_id])
    with pytest.raises(HttpRefused):
        await ask(w, "ab@gmail.com")


def _advance(w: MailWorld, seconds: float) -> None:
    assert isinstance(w.ambient, FakeAmbient)
    w.ambient.advance(seconds)


@mail_world()
async def test_a_claimed_mailbox_is_one_s_own_for_a_while_and_tells_what_came_since(w: MailWorld) -> None:
    first, second = await w.add("a@example.com"), await w.add("b@example.com")
    await received(w, first, coded(w, 1, "111111"))
    _advance(w, 5)
    told = await w.do("claim_mailbox", seconds=600)
    assert (told["email_id"], told["address"]) == (first, "a@example.com")
    assert await ask(w, "a@example.com") is None, "this code came before the claim"
    other = await w.do("claim_mailbox", seconds=600, alias="shop")
    assert (other["email_id"], other["address"]) == (second, "b+shop@example.com")
    assert (await w.do("claim_mailbox"))["code"] == "not_found"
    [listed, _] = (await w.do("get_all_emails"))["data"]
    assert listed["claim"]["until"] == told["until"]
    _advance(w, 2)
    await received(w, first, coded(w, 2, "222222"))
    found = await ask(w, "a@example.com")
    assert found is not None
    assert found["code"] == "222222"
    await w.do("release_mailbox", email_id=second)
    assert (await w.do("claim_mailbox"))["email_id"] == second
    await w.restart()
    _advance(w, 600)
    assert (await w.do("claim_mailbox", alias="x"))["address"] == "a+x@example.com"
    events = await w.log.read(f"user/{USER}", 0, events_max=100)
    claims = [event for event in events if b'"claim":' in event.body]
    assert (len(claims), {event.principal for event in claims}) == (5, {f"user/{USER}"})
