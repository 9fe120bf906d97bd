"""`POST /login` on the real service: what it answers, and what its token is good for."""

import asyncio
import contextlib
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from huahuo.transport.client.client import Client
from tests.support.patience import WITHIN_S
from tests.support.servers.serving import Serving, serving

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
    request = urllib.request.Request(
        f"{service.url}/login", body, {"Content-Type": "application/json"} | named, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=WITHIN_S) as answer:
            return answer.status, json.loads(answer.read()), answer.headers
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, json.loads(refused.read()), refused.headers


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
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{service.url}/login", timeout=WITHIN_S)
    with refused.value:
        assert refused.value.code in (404, 405)


def test_neither_log_nor_metrics_hold_the_password(service: Serving) -> None:
    login(service, of("alice", PASSWORD))
    login(service, of(PASSWORD, "wrong-password"))
    assert PASSWORD not in service.log()
