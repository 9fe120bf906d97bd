"""What an operator reads in the log when clients are refused, and what the clients are told."""

import asyncio
import os
from pathlib import Path

import httpx
import msgspec
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

from tests.support.patience import WITHIN_S
from tests.support.servers.serving import JWT_SECRET, Serving, serving

PROCESSES = int(os.environ.get("HUAHUO_WORKERS", "1"))

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

OLDER_SECRET = "an-older-secret-that-is-long-enough-00"


async def sign_in(server: Serving, token: str, **headers: str) -> dict[str, object]:
    url = server.url.replace("http", "ws")
    async with connect(
        url,
        subprotocols=["huahuo.v1"],  # type: ignore[list-item]
        additional_headers=headers,
        open_timeout=WITHIN_S,
    ) as ws:
        await ws.send(msgspec.json.encode({"action": "authenticate", "token": token}).decode())
        answer: dict[str, object] = msgspec.json.decode(await ws.recv())
        return answer


async def test_a_refused_origin_is_named_with_the_setting_that_admits_it(server: Serving) -> None:
    with pytest.raises(InvalidStatus, match="403"):
        async with connect(
            server.url.replace("http", "ws"), origin=Origin("http://shop.example"), open_timeout=WITHIN_S
        ):
            pass
    assert "http://shop.example" in server.log()
    assert "HUAHUO_ORIGINS" in server.log()


async def test_why_a_token_was_refused_is_told_to_the_log_and_not_to_the_client(server: Serving) -> None:
    answer = await sign_in(server, server.token(1, "alice")[:-4] + "AAAA")
    assert answer["code"] == "token_invalid"
    assert "signature" not in msgspec.json.encode(answer).decode()
    assert "its signature fits no secret of this service" in server.log()


async def test_a_ticket_that_is_used_up_is_called_a_ticket_in_the_log(server: Serving) -> None:
    headers = {"Accept": "text/event-stream"}
    async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=WITHIN_S) as client:
        answer = await client.get("/streams/user/1", params={"ticket": "0" * 48})
    assert (answer.status_code, answer.json()["code"]) == (401, "token_invalid")
    assert "its ticket was used before, is too old" in server.log()


async def test_no_part_of_a_refused_token_is_in_the_log(server: Serving) -> None:
    token = server.token(1, "alice")
    await sign_in(server, token[:-4] + "AAAA")
    assert not any(part in server.log() for part in token.split("."))


def test_a_proxy_that_is_not_trusted_is_named_once(server: Serving) -> None:
    token = server.token(1, "alice")
    for address in ("203.0.113.7", "203.0.113.8"):
        answer = asyncio.run(sign_in(server, token, **{"X-Forwarded-For": address}))
        assert answer["success"] is True
    assert server.log().count("HUAHUO_TRUSTED_PROXIES") in range(1, PROCESSES + 1), "once by each process"


def test_a_token_of_an_older_secret_is_good_while_that_secret_is_named(tmp_path: Path) -> None:
    with serving(tmp_path / "data", HUAHUO_JWT_SECRET=OLDER_SECRET) as old:
        token = old.token(1, "alice")
        assert asyncio.run(sign_in(old, token))["success"] is False, "this token is of the newer secret"
    with serving(
        tmp_path / "data", HUAHUO_JWT_SECRET=OLDER_SECRET, HUAHUO_JWT_SECRETS_PREVIOUS=JWT_SECRET
    ) as rotated:
        assert asyncio.run(sign_in(rotated, token))["success"] is True
