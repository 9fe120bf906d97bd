"""`huahuo mailbox signin` against a service whose Outlook is on this machine, as `huahuo.toml` says."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.drivers.command_line import KEYS, huahuo
from tests.support.patience import WITHIN_S
from tests.support.servers.serving import Serving, serving
from tests.support.servers.token_server import CLIENT_ID, TokenServer

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

USER = "alice@outlook.com"


@pytest.fixture
def service(tmp_path: Path, tokens: TokenServer) -> Iterator[Serving]:
    outlook = {
        "token_url": f"{tokens.url}/token",
        "devicecode_url": f"{tokens.url}/devicecode",
        "client_id": CLIENT_ID,
    }
    with serving(tmp_path / "data", HUAHUO_PROVIDERS=json.dumps({"outlook": outlook})) as server:
        yield server


@pytest.mark.parametrize("user_id", ["42", "alice@example.com"])
def test_it_shows_the_code_and_ends_when_the_code_was_entered(
    service: Serving, tokens: TokenServer, user_id: str
) -> None:
    tokens.grant(USER)
    tokens.device_state = USER
    done = huahuo("mailbox", "signin", USER, "--data", str(service.data), "--user-id", user_id, **KEYS)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "Open https://microsoft.com/devicelogin and enter ABCD-EFGH within 15 minutes.",
        f"signed in: {USER}",
    ]


def test_it_says_before_and_after_that_the_mailbox_goes_back_to_its_provider(
    service: Serving, tokens: TokenServer
) -> None:
    tokens.grant(USER)
    tokens.device_state = USER
    fields = {"email": USER, "mail_type": "outlook", "server": "mail.example.com", "port": 993}
    grant = {"client_id": CLIENT_ID, "refresh_token": "r", "password": "p"}
    headers = {"Authorization": f"Bearer {service.token(42, 'alice')}"}
    added = httpx.post(
        f"{service.url}/commands/add_email", json={**fields, **grant}, headers=headers, timeout=WITHIN_S
    )
    assert added.json()["type"] == "success", added.text
    done = huahuo("mailbox", "signin", USER, "--data", str(service.data), "--user-id", "42", **KEYS)
    assert done.returncode == 0, done.stderr
    _open, before, way_out, _signed_in, after = done.stdout.splitlines()
    assert "mail.example.com:993" in before
    assert "moves it back to outlook.office365.com:993" in before
    assert "do not enter the code" in way_out
    assert after == "the mailbox was moved from mail.example.com:993 back to outlook.office365.com:993"


def test_a_code_that_was_declined_ends_with_one_line(service: Serving, tokens: TokenServer) -> None:
    tokens.device_state = "authorization_declined"
    token = service.token(42, "alice")
    done = huahuo("mailbox", "signin", USER, "--url", service.url, "--token", token, **KEYS)
    assert done.returncode == 1
    assert "declined" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_client_id_that_is_missing_is_told_by_its_option(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        done = huahuo("mailbox", "signin", USER, "--data", str(server.data), "--user-id", "42", **KEYS)
    assert (done.returncode, done.stdout) == (1, "")
    assert "give --client-id" in done.stderr


def test_whose_mailbox_it_is_must_be_said(service: Serving) -> None:
    done = huahuo("mailbox", "signin", USER, "--data", str(service.data), **KEYS)
    assert done.returncode == 2
    assert "--user-id" in done.stderr
