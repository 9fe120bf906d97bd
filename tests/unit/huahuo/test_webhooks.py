"""Webhooks: what is sent, when, signed how, how often, and what becomes of what cannot be delivered."""

import asyncio
import base64
import hashlib
import hmac
from typing import Any

import msgspec
import pytest

from huahuo.actors.plugins.calls import Principal
from huahuo.eventstore.errors import Unavailable
from huahuo.webhooks import deliveries, delivery_books
from huahuo.webhooks.hooks import HOOKS_PER_DAY_MAX, HOOKS_PER_USER_MAX, WEBHOOKS
from tests.support.worlds.hooks import URL, HookWorld

pytestmark = pytest.mark.virtual_time

ROOT = Principal(1, "root", is_admin=True)
BOB = Principal(7, "bob")
DAY_S = 86_400


@pytest.mark.parametrize(
    ("fields", "events"),
    [
        ({}, ["user/42#1", "user/42#2", "user/42#3", "user/42#4"]),
        ({"fields": {"status": ["error", "need_reauth"]}}, ["user/42#2", "user/42#4"]),
        ({"fields": {"status": ["error"], "email_id": [5]}}, ["user/42#4"]),
        ({"has": ["code"]}, ["user/42#3"]),
        ({"fields": {"email_id": [1]}}, ["user/42#3"]),
    ],
)
async def test_filters_choose_by_fields(w: HookWorld, fields: dict[str, Any], events: list[str]) -> None:
    await w.add("s", **fields)
    await w.write("user/42", "s", status="ok", email_id=True)
    await w.write("user/42", "s", status="error", email_id=4)
    await w.write("user/42", "s", code="123456", email_id=1)
    await w.write("user/42", "s", status="error", email_id=5)
    await w.write("user/42", "other", status="error", code="1")
    await w.write("user/7", "s", status="error", code="1")
    await w.pass_s(1)
    assert sorted(w.receiver.got) == events


async def test_streams_of_an_application_are_sent_to_those_who_may_read_them_at_that_moment(
    w: HookWorld,
) -> None:
    w.judged["job/17"] = True
    await w.add("t", streams=["job/17"])
    refused = await w.ask("add_webhook", url=URL, types=["t"], streams=["job/18"])
    assert refused["code"] == "forbidden"
    await w.write("job/17")
    await w.pass_s(1)
    w.judged["job/17"] = False
    await w.write("job/17")
    await w.pass_s(1)
    assert w.receiver.got == ["job/17#1"]


async def test_administrators_may_ask_for_all_streams_of_a_kind(w: HookWorld) -> None:
    refused = await w.ask("add_webhook", url=URL, types=["t"], streams=["user/*"])
    assert refused["code"] == "forbidden"
    hidden = await w.ask("add_webhook", ROOT, url=URL, types=["t"], streams=["mailbox/*"])
    assert hidden["code"] == "invalid_field"
    await w.add("t", who=ROOT, streams=["user/*", "user/42"])
    await w.write("user/42")
    await w.write("user/7")
    await w.pass_s(1)
    assert sorted(w.receiver.got) == ["user/42#1", "user/7#1"]


async def test_a_dead_letter_is_sent_when_its_user_has_it_tried_again(w: HookWorld) -> None:
    made = await w.add("t")
    w.receiver.answer = lambda _url: "the connection failed"
    for _ in range(3):
        await w.write("user/42")
    await w.pass_s(2 * DAY_S)
    w.receiver.requests.clear()
    w.receiver.answer = lambda _url: 200
    again = await w.ask("retry_webhook", webhook_id=made["webhook_id"])
    assert again["dead_letters"] == 3
    await w.pass_s(1)
    assert sorted(w.receiver.got) == ["user/42#1", "user/42#2", "user/42#3"]
    [row] = (await w.ask("list_webhooks"))["data"]
    assert (row["waiting"], row["dead_letters"], row["last_error"]) == (0, 0, "")


async def test_dead_letters_come_in_pages_the_newest_first(w: HookWorld) -> None:
    made = await w.add("t")
    w.receiver.answer = lambda _url: "the connection failed"
    for _ in range(5):
        await w.write("user/42")
    await w.pass_s(2 * DAY_S)
    seen = list[list[int]]()
    before: int | None = None
    while len(seen) < 4:
        fields = {"webhook_id": made["webhook_id"], "limit": 2, "before": before}
        page = await w.ask("get_webhook_letters", **fields)
        assert page["total"] == 5
        seen.append([letter["seq"] for letter in page["data"]])
        before = page["next"]
        if before is None:
            break
    assert seen == [[5, 4], [3, 2], [1]]


async def test_a_redirect_is_not_followed(w: HookWorld) -> None:
    made = await w.add("t")
    w.receiver.answer = lambda _url: 308
    await w.write("user/42")
    await w.pass_s(2 * DAY_S)
    [letter] = (await w.ask("get_webhook_letters", webhook_id=made["webhook_id"]))["data"]
    assert letter["error"].startswith("HTTP 308: redirects are not followed")
    assert {url for _, url, _, _ in w.receiver.requests} == {URL}


async def test_a_removed_hook_gets_nothing_more_and_its_secret_is_destroyed(w: HookWorld) -> None:
    made = await w.add("t")
    number = made["webhook_id"]
    w.receiver.answer = lambda _url: 500
    await w.write("user/42")
    await w.pass_s(1)
    assert (await w.ask("remove_webhook", BOB, webhook_id=number))["code"] == "not_found"
    assert (await w.ask("remove_webhook", webhook_id=number))["type"] == "success"
    await w.write("user/42")
    await w.pass_s(100)
    assert len(w.receiver.requests) == 1
    assert await w.log.secret(f"webhook/{number}", "secret") is None
    assert (await w.ask("list_webhooks"))["data"] == []
    assert (await w.ask("get_webhook_letters", webhook_id=number))["code"] == "not_found"


async def test_a_hook_of_a_disabled_user_sends_nothing(w: HookWorld) -> None:
    user = await w.users.add("carol", "canary-password", principal="test")
    await w.add("t", who=Principal(user.user_id, "carol"))
    await w.write(f"user/{user.user_id}")
    await w.pass_s(1)
    await w.users.set_disabled("carol", disabled=True, principal="test")
    await w.write(f"user/{user.user_id}")
    await w.pass_s(1)
    assert w.receiver.got == [f"user/{user.user_id}#1"]


async def test_the_secret_is_told_once_and_is_not_in_the_log(w: HookWorld) -> None:
    fields: dict[str, Any] = {"url": URL, "types": ["t"]}
    first = await w.ask("add_webhook", key="k1", **fields)
    again = await w.ask("add_webhook", key="k1", **fields)
    assert first["secret"].startswith("whsec_")
    assert "secret" not in again
    stored = b"".join(event.body for event in await w.log.read(WEBHOOKS, 0, events_max=9))
    assert first["secret"].removeprefix("whsec_").encode() not in stored
    assert len((await w.ask("list_webhooks"))["data"]) == 1


@pytest.mark.parametrize(
    "url",
    [
        "http://receiver.example/",
        "ftp://receiver.example/",
        "https://user:password@receiver.example/",
        "https://0x7f000001/",
        "https://127.1/",
        "https://receiver.example/#x",
        "https:///path",
        "https://receiver.example:99999/",
        "https://receiver.example/a b",
        "javascript:alert(1)",
        "",
    ],
)
async def test_an_address_that_nothing_may_be_sent_to_is_refused_at_once(w: HookWorld, url: str) -> None:
    said = await w.ask("add_webhook", url=url, types=["t"])
    assert said["code"] == "invalid_field"


async def test_a_user_has_a_bounded_number_of_hooks(w: HookWorld) -> None:
    for _ in range(HOOKS_PER_USER_MAX):
        await w.add("t")
    assert (await w.ask("add_webhook", url=URL, types=["t"]))["code"] == "rate_limited"
    await w.add("t", who=BOB)


async def test_only_hooks_that_are_made_take_numbers_and_a_user_makes_a_bounded_number_a_day(
    w: HookWorld,
) -> None:
    for _ in range(HOOKS_PER_DAY_MAX // HOOKS_PER_USER_MAX):
        asked = [w.ask("add_webhook", url=URL, types=["t"]) for _ in range(2 * HOOKS_PER_USER_MAX)]
        told = await asyncio.gather(*asked)
        made = [one["webhook_id"] for one in told if one["type"] == "webhook_added"]
        assert len(made) == HOOKS_PER_USER_MAX
        for number in made:
            await w.ask("remove_webhook", webhook_id=number)
    await w.crash()
    refused = await w.ask("add_webhook", url=URL, types=["t"])
    assert refused["code"] == "rate_limited"
    assert (await w.add("t", who=BOB))["webhook_id"] == HOOKS_PER_DAY_MAX + 1
    await w.pass_s(DAY_S)
    assert (await w.add("t"))["webhook_id"] == HOOKS_PER_DAY_MAX + 2


async def test_what_waits_and_what_is_dead_is_bounded(w: HookWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliveries, "WAITING_MAX", 3)
    monkeypatch.setattr(delivery_books, "DEAD_LETTERS_MAX", 2)

    made = await w.add("t")
    w.receiver.answer = lambda _url: 500
    for _ in range(6):
        await w.write("user/42")
    await w.pass_s(1)
    [row] = (await w.ask("list_webhooks"))["data"]
    assert (row["waiting"], row["dead_letters"]) == (3, 2)
    found = await w.ask("get_webhook_letters", webhook_id=made["webhook_id"])
    assert [letter["seq"] for letter in found["data"]] == [6, 5]
    assert w.hooks.deliveries.books.lost == 1


@pytest.mark.parametrize("hooks", [1, 20])
async def test_one_receiver_that_hangs_does_not_keep_others_waiting(w: HookWorld, hooks: int) -> None:
    for _ in range(hooks):
        await w.ask("add_webhook", url="https://down.example/", types=["t"])
    await w.add("t", who=BOB, streams=["user/7"])
    hang = asyncio.Event()
    w.receiver.hold = lambda url: hang if "down" in url else None
    for _ in range(50):
        await w.write("user/42")
    await w.write("user/7")
    await w.pass_s(1)
    assert [url for _, url, _, _ in w.receiver.requests].count(URL) == 1
    hang.set()
    await w.pass_s(60)
    assert len(w.receiver.requests) == 50 * hooks + 1


@pytest.mark.parametrize("written", ["before", "after"])
async def test_a_first_hook_whose_making_failed_gets_everything_once_it_is_made(
    w: HookWorld, written: str
) -> None:
    """Where matching begins is kept first. If that failed, it is done again with the next attempt."""
    w.log.lose = [written]
    with pytest.raises(Unavailable):
        await w.add("t")
    await w.add("t")
    await w.write("user/42")
    await w.pass_s(1)
    assert w.receiver.got == ["user/42#1"]


def signers(request: tuple[float, str, dict[str, str], dict[str, Any]], *secrets: str) -> list[int]:
    """Which of these secrets signed a request, by their numbers."""
    _, _, headers, body = request
    sent = headers["webhook-signature"].split(" ")
    assert all(one.startswith("v1,") for one in sent)

    def signature(secret: str) -> str:
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + msgspec.json.encode(
            body
        )
        mac = hmac.digest(base64.b64decode(secret.removeprefix("whsec_")), signed, hashlib.sha256)
        return "v1," + base64.b64encode(mac).decode()

    return [number for number, secret in enumerate(secrets) if signature(secret) in sent]


async def test_after_a_change_both_secrets_sign_until_the_overlap_ends(w: HookWorld) -> None:
    made = await w.add("t")
    number, first = made["webhook_id"], made["secret"]
    told = await w.ask("change_webhook_secret", webhook_id=number, overlap_s=DAY_S)
    assert told["type"] == "webhook_secret"
    second = told["secret"]
    assert second != first
    await w.write("user/42")
    await w.pass_s(1)
    assert signers(w.receiver.requests[-1], first, second) == [0, 1]
    await w.crash()
    await w.write("user/42")
    await w.pass_s(DAY_S / 2)
    assert signers(w.receiver.requests[-1], first, second) == [0, 1]
    await w.pass_s(DAY_S)
    await w.write("user/42")
    await w.pass_s(1)
    assert signers(w.receiver.requests[-1], first, second) == [1]


async def test_without_an_overlap_the_secret_before_signs_nothing_more(w: HookWorld) -> None:
    made = await w.add("t")
    told = await w.ask("change_webhook_secret", webhook_id=made["webhook_id"], overlap_s=0)
    assert told["old_until"] is None
    await w.write("user/42")
    await w.pass_s(1)
    assert signers(w.receiver.requests[-1], made["secret"], told["secret"]) == [1]


async def test_a_secret_that_was_changed_is_told_once_and_is_in_no_event(w: HookWorld) -> None:
    made = await w.add("t")
    asked = {"webhook_id": made["webhook_id"], "key": "c"}
    told = await w.ask("change_webhook_secret", **asked)
    again = await w.ask("change_webhook_secret", **asked)
    assert (again["type"], "secret" in again) == ("success", False)
    assert told["secret"].encode() not in w.disk.read()


async def test_nothing_is_sent_while_a_hook_is_paused_and_all_of_it_afterwards(w: HookWorld) -> None:
    made = await w.add("t")
    number = made["webhook_id"]
    assert (await w.ask("pause_webhook", webhook_id=number))["type"] == "success"
    for _ in range(5):
        await w.write("user/42")
    await w.pass_s(100)
    await w.crash()
    await w.pass_s(100)
    assert w.receiver.got == []
    [shown] = (await w.ask("list_webhooks"))["data"]
    assert (shown["paused"], shown["waiting"]) == (True, 5)
    await w.ask("resume_webhook", webhook_id=number)
    await w.pass_s(5)
    assert sorted(w.receiver.got) == [f"user/42#{n}" for n in range(1, 6)]
    [shown] = (await w.ask("list_webhooks"))["data"]
    assert (shown["paused"], shown["waiting"]) == (False, 0)


async def test_a_delivery_that_is_tried_again_waits_for_the_end_of_a_pause(w: HookWorld) -> None:

    number = (await w.add("t"))["webhook_id"]
    w.receiver.answer = lambda _url: 500
    await w.write("user/42")
    await w.pass_s(1)
    await w.ask("pause_webhook", webhook_id=number)
    w.receiver.answer = lambda _url: 204
    await w.pass_s(1_000)
    assert len(w.receiver.requests) == 1
    await w.ask("resume_webhook", webhook_id=number)
    await w.pass_s(40)
    assert len(w.receiver.requests) == 2


@pytest.mark.parametrize("action", ["change_webhook_secret", "pause_webhook", "resume_webhook"])
async def test_a_hook_of_somebody_else_is_not_there(w: HookWorld, action: str) -> None:
    number = (await w.add("t"))["webhook_id"]
    assert (await w.ask(action, BOB, webhook_id=number))["code"] == "not_found"
