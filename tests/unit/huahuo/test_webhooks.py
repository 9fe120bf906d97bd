"""Webhooks: what is sent, when, signed how, how often, and what becomes of what cannot be delivered."""

import asyncio
from typing import Any

import pytest

from huahuo.actors.plugins.calls import Principal
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


async def test_a_redirect_is_not_followed(w: HookWorld) -> None:
    made = await w.add("t")
    w.receiver.answer = lambda _url: 308
    await w.write("user/42")
    await w.pass_s(2 * DAY_S)
    [letter] = (await w.ask("get_webhook_letters", webhook_id=made["webhook_id"]))["data"]
    assert letter["error"].startswith("HTTP 308: redirects are not followed")
    assert {url for _, url, _, _ in w.receiver.requests} == {URL}


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


async def test_a_secret_that_was_changed_is_told_once_and_is_in_no_event(w: HookWorld) -> None:
    made = await w.add("t")
    asked = {"webhook_id": made["webhook_id"], "key": "c"}
    told = await w.ask("change_webhook_secret", **asked)
    again = await w.ask("change_webhook_secret", **asked)
    assert (again["type"], "secret" in again) == ("success", False)
    assert told["secret"].encode() not in w.disk.read()


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
