"""Webhooks after they were made: another secret with an overlap, a pause, and that both outlive a crash."""

import base64
import hashlib
import hmac
from typing import Any

import msgspec
import pytest

from huahuo.actors.plugins.calls import Principal
from tests.support.worlds.hooks import HookWorld

pytestmark = pytest.mark.virtual_time

BOB = Principal(7, "bob")
DAY_S = 86_400


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
