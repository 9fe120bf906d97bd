"""`POST /login` on the real service: what it answers, and what its token is good for."""

import asyncio
import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

from huahuo.transport.client.client import Client
from tests.support.drivers.http import ask
from tests.support.patience import WITHIN_S
from tests.support.servers.serving import JWT_SECRET, Serving, serving

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


PASSWORD = "canary-password"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with of_alice(tmp_path_factory.mktemp("service")) as server:
        yield server


@contextlib.contextmanager
def of_alice(folder: Path) -> Iterator[Serving]:
    """A service with one user."""
    with serving(folder / "data") as server:
        asyncio.run(add_alice(server))
        yield server


async def add_alice(server: Serving) -> None:
    async with Client(server.url, token=server.token(0, "root", admin=True)) as root:
        await root.send("add_user", name="alice", password=PASSWORD)


def login(service: Serving, body: bytes, **headers: str) -> tuple[int, dict[str, Any], Any]:
    """Status, JSON object and headers of one sign-in."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = ask(f"{service.url}/login", content=body, headers={"Content-Type": "application/json"} | named)
    return answer.status_code, answer.json(), answer.headers


def of(username: str, password: str) -> bytes:
    return json.dumps({"username": username, "password": password}).encode()


def test_its_token_opens_the_service_for_that_user(service: Serving) -> None:
    status, body, headers = login(service, of("alice", PASSWORD))
    assert status == 200
    assert body["user"] == {"user_id": 1, "username": "alice", "is_admin": False}
    assert body["expires_at"].endswith("Z")
    assert headers["Cache-Control"] == "no-store"

    async def stream() -> Any:
        async with Client(service.url, token=body["token"]) as client:
            return (await client.send("get_all_emails"))["stream"]

    assert asyncio.run(stream()) == "user/1"


def test_a_wrong_name_and_a_wrong_password_get_the_same_answer(service: Serving) -> None:
    wrong_password = login(service, of("alice", "wrong-password"))
    wrong_name = login(service, of("nobody", PASSWORD))
    assert wrong_password[0] == wrong_name[0] == 401
    assert wrong_password[1] == wrong_name[1]


def test_the_tenth_failure_is_answered_429_at_once_and_tokens_are_as_good_as_before(tmp_path: Path) -> None:
    with of_alice(tmp_path) as service:
        statuses = [login(service, of("alice", "wrong-password"))[0] for _ in range(10)]
        assert statuses == [401] * 9 + [429]
        status, body, headers = login(service, of("alice", PASSWORD))
        assert (status, body["code"]) == (429, "rate_limited")
        assert 0 < int(headers["Retry-After"]) <= 60

        async def online() -> None:
            async with (
                asyncio.timeout(WITHIN_S),
                Client(service.url, token=service.token(7, "eve")) as client,
            ):
                await client.send("get_all_emails")

        asyncio.run(online())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"nonsense canary",
        b'{"username":"a"}',
        b'{"username":"a","password":7}',
        b"\xff",
        b"[" * 4000,
    ],
)
def test_what_is_no_sign_in_is_refused_without_repeating_it(service: Serving, body: bytes) -> None:
    status, answer, _ = login(service, body)
    assert (status, answer["code"]) == (400, "invalid_field")
    assert "canary" not in str(answer)


def test_a_body_that_is_too_long_is_not_read(service: Serving) -> None:
    status, answer, _ = login(service, of("alice", "x" * 10_000))
    assert (status, answer["code"]) == (413, "too_large")


def test_a_page_of_another_origin_cannot_sign_in(service: Serving) -> None:
    assert login(service, of("alice", PASSWORD), Origin="https://evil.example")[0] == 403


def test_only_post_signs_in(service: Serving) -> None:
    assert ask(f"{service.url}/login").status_code in (404, 405)


def test_neither_log_nor_metrics_hold_the_password(service: Serving) -> None:
    login(service, of("alice", PASSWORD))
    login(service, of(PASSWORD, "wrong-password"))
    assert PASSWORD not in service.log()


PROCESSES = int(os.environ.get("HUAHUO_WORKERS", "1"))


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
