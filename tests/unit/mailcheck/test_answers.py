"""What a token endpoint's answer means, and when a failed request is tried again."""

import asyncio
import json
from typing import Any

import pytest

from huahuo.eventstore.model import Secret
from huahuo.mailcheck.servers.faults import (
    ConnectFailed,
    GrantRefused,
    HttpFailed,
    MailFault,
    NoScope,
    TimedOut,
    TlsFailed,
)
from huahuo.mailcheck.servers.graph import WITHIN_S, is_passing, with_retries
from huahuo.mailcheck.servers.oauth import code_of
from huahuo.mailcheck.servers.outcome import Answer, issued, refusal, retry_after_s
from huahuo.testing.world import VirtualAmbient, run_virtual, virtual_loop


def answer(status: int, fields: Any, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, named, json.dumps(fields).encode())


def test_an_answer_with_tokens_gives_both_and_their_life() -> None:
    fresh = issued(answer(200, {"access_token": "a", "expires_in": "4000", "refresh_token": "r"}), 0)
    assert fresh.access_token == Secret("a")
    assert fresh.refresh_token == Secret("r")
    assert fresh.lifetime_s == 4000


@pytest.mark.parametrize(
    "error",
    [
        "invalid_grant",
        "interaction_required",
        "login_required",
        "unauthorized_client",
        "expired_token",
    ],
)
def test_a_refused_grant_is_final(error: str) -> None:
    fault = refusal(answer(400, {"error": error, "error_description": "no"}), 0)
    assert type(fault) is GrantRefused
    assert not is_passing(fault)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        ("invalid_scope", "AADSTS70011: the scope is not valid"),
        ("consent_required", ""),
        ("invalid_grant", "AADSTS65001: The user has not consented"),
        ("invalid_resource", "AADSTS650057: Invalid resource. The client has requested access to a resource"),
        ("invalid_grant", "AADSTS500011: The resource principal was not found"),
        ("invalid_grant", "AADSTS70000: one or more scopes requested are unauthorized or expired"),
    ],
)
def test_a_grant_without_the_scope_is_told_apart_from_a_dead_one(error: str, text: str) -> None:
    assert isinstance(refusal(answer(400, {"error": error, "error_description": text}), 0), NoScope)


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_server_in_trouble_is_asked_again_and_not_too_early(status: int) -> None:
    fault = refusal(answer(status, {}, retry_after="7"), 0)
    assert isinstance(fault, HttpFailed)
    assert (fault.passing, fault.retry_after_s) == (True, 7.0)


def test_retry_after_is_read_as_seconds_and_as_a_date() -> None:
    assert retry_after_s({"retry-after": "12"}, 0) == 12
    assert retry_after_s({"retry-after": "Thu, 01 Jan 1970 00:01:40 GMT"}, 40_000) == 60
    assert retry_after_s({"retry-after": "soon"}, 0) is None
    assert retry_after_s({}, 0) is None


def test_what_a_server_said_holds_no_secret() -> None:
    said = {"error": "invalid_grant", "error_description": "token canary-refresh is bad"}
    fault = refusal(answer(400, said), 0, (Secret("canary-refresh"),))
    assert isinstance(fault, GrantRefused)
    assert fault.text == "token *** is bad"


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"\xff", b'{"access_token": 7}', b"null"])
def test_an_answer_that_is_no_answer_is_a_failure_of_the_server(body: bytes) -> None:
    with pytest.raises(HttpFailed):
        issued(Answer(200, {}, body), 0)


def test_an_answer_that_nests_without_end_is_none() -> None:
    assert Answer(200, {}, b'{"a":' + b"[" * 200_000).json() == {}


@pytest.mark.parametrize("seconds", [10**400, "nan", "1e999", "-1e999", [], {}, None, "soon"])
def test_a_life_or_interval_that_is_no_number_of_seconds_is_one_all_the_same(seconds: Any) -> None:
    fresh = issued(answer(200, {"access_token": "a", "expires_in": seconds}), 0)
    assert 1 <= fresh.lifetime_s <= 86_400
    given = {"device_code": "d", "user_code": "u", "verification_uri": "https://example.com"}
    code = code_of(answer(200, {**given, "interval": seconds, "expires_in": seconds}), 0)
    assert 1 <= code.interval_s <= 60
    assert code.life_s <= 3600


@pytest.mark.parametrize("date", ["Mon, 01 Jan 99999999999999999999 00:00:00 +0000", "1 2 3 4:5 +99999999"])
def test_a_date_that_is_none_does_not_say_when_to_ask_again(date: str) -> None:
    assert retry_after_s({"retry-after": date}, 0) is None


@pytest.mark.parametrize("error", [["a"], [[[]]], {"code": ["a"], "message": {}}, 0, True])
def test_an_error_of_any_form_is_a_refusal(error: Any) -> None:
    assert isinstance(refusal(answer(400, {"error": error, "error_description": [1]}), 0), HttpFailed)


def test_an_answer_shows_no_token() -> None:
    assert "canary" not in repr(answer(200, {"access_token": "canary"}))


@pytest.mark.parametrize(
    "fault",
    [
        HttpFailed(503, "", passing=True),
        TimedOut("slow"),
        ConnectFailed("refused"),
    ],
)
def test_passing_trouble_is_tried_at_least_three_times_more_within_30_s(fault: MailFault) -> None:
    tried: list[float] = []

    async def attempt() -> None:
        tried.append(asyncio.get_running_loop().time())
        raise fault

    async def main() -> None:
        with pytest.raises(type(fault)):
            await with_retries(VirtualAmbient(virtual_loop(), 1), attempt)

    run_virtual(main())
    assert len(tried) >= 4
    assert tried[-1] - tried[0] <= WITHIN_S


def test_a_server_that_hangs_is_tried_four_times() -> None:
    tried: list[float] = []

    async def attempt() -> None:
        tried.append(asyncio.get_running_loop().time())
        await asyncio.sleep(7)
        raise TimedOut("slow")

    async def main() -> None:
        with pytest.raises(TimedOut):
            await with_retries(VirtualAmbient(virtual_loop(), 1), attempt)

    run_virtual(main())
    assert len(tried) == 4


def test_no_try_comes_before_retry_after() -> None:
    tried: list[float] = []

    async def attempt() -> None:
        tried.append(asyncio.get_running_loop().time())
        raise HttpFailed(429, "", passing=True, retry_after_s=9)

    async def main() -> None:
        with pytest.raises(HttpFailed):
            await with_retries(VirtualAmbient(virtual_loop(), 1), attempt)

    run_virtual(main())
    assert [round(at - tried[0]) for at in tried] == [0, 9, 18, 27]


@pytest.mark.parametrize("fault", [GrantRefused("invalid_grant", ""), TlsFailed("x", certificate=True)])
def test_what_does_not_pass_is_not_tried_again(fault: MailFault) -> None:
    tried: list[int] = []

    async def attempt() -> None:
        tried.append(1)
        raise fault

    async def main() -> None:
        with pytest.raises(type(fault)):
            await with_retries(VirtualAmbient(virtual_loop(), 1), attempt)

    run_virtual(main())
    assert len(tried) == 1
