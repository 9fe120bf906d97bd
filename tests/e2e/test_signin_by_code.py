"""A code that is entered on another device gives a mailbox its grant."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.models.mail_book import USER
from tests.support.servers.dovecot import Dovecot
from tests.support.servers.token_server import CLIENT_ID, TokenServer
from tests.support.worlds.grants import add, outlook
from tests.support.worlds.mail_world import MailWorld, real_world

pytestmark = pytest.mark.e2e


@pytest.fixture
async def world(mails: Dovecot, tokens: TokenServer) -> AsyncIterator[MailWorld]:
    async with real_world(**outlook(mails, tokens)) as made:
        yield made


async def signed_in(world: MailWorld, email: str, ends: str) -> dict[str, Any]:
    """Ask until the sign-in is no longer pending."""
    while (body := await world.do("get_signin", email=email))["state"] == "pending":  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    assert body["state"] == ends, body
    return body


@pytest.mark.slow
async def test_a_code_entered_on_another_device_adds_the_mailbox_with_its_grant(
    world: MailWorld, tokens: TokenServer, user: str
) -> None:
    tokens.grant(user)
    begun = await world.do("signin_email", email=user, client_id=CLIENT_ID)
    assert (begun["state"], begun["user_code"]) == ("pending", "ABCD-EFGH")
    assert "canary" not in str(begun)
    tokens.device_state = user
    done = await signed_in(world, user, "success")
    assert (await world.checked(done["email_id"]))["status"] == "ok"


@pytest.mark.slow
async def test_a_code_gives_a_mailbox_that_must_sign_in_a_new_grant(
    world: MailWorld, tokens: TokenServer, user: str
) -> None:
    email_id = await add(world, user, tokens.grant(user))
    tokens.accounts[user].dead = True
    assert (await world.checked(email_id))["status"] == "need_reauth"
    tokens.grant(user)
    tokens.device_state = user
    begun = await world.do("signin_email", email=user)  # the client id is the mailbox's own
    assert (begun["state"], "moves" in begun) == ("pending", False)
    assert (await signed_in(world, user, "success"))["email_id"] == email_id
    assert (await world.checked(email_id))["status"] == "ok"


@pytest.mark.slow
async def test_a_grant_goes_to_its_provider_though_somebody_moved_the_mailbox_to_a_server_of_their_own(
    world: MailWorld, tokens: TokenServer, user: str
) -> None:
    email_id = await add(world, user, tokens.grant(user))
    given = {"client_id": CLIENT_ID, "refresh_token": "another"}
    await world.do("update_email", email_id=email_id, server="elsewhere.example.com", **given)
    tokens.device_state = user
    begun = await world.do("signin_email", email=user)
    done = await signed_in(world, user, "success")
    home = begun["moves"]["to"]
    assert begun["moves"]["from"].startswith("elsewhere.example.com:")
    assert done["moves"] == begun["moves"]
    assert all(begun["moves"]["from"] in one["message"] for one in (begun, done))
    assert all(home in one["message"] for one in (begun, done))
    row = (await world.rows())[email_id]
    assert (row["server"], f"127.0.0.1:{row['port']}") == ("127.0.0.1", home)
    assert (await world.checked(email_id))["status"] == "ok"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "ends"),
    [("expired_token", "expired"), ("authorization_declined", "denied"), ("invalid_grant", "error")],
)
async def test_a_code_that_leads_nowhere_says_why(
    world: MailWorld, tokens: TokenServer, user: str, error: str, ends: str
) -> None:
    tokens.device_state = error
    await world.do("signin_email", email=user, client_id=CLIENT_ID)
    await signed_in(world, user, ends)
    assert await world.rows() == {}


async def test_nobody_sees_the_sign_in_of_another(world: MailWorld, user: str) -> None:
    await world.do("signin_email", email=user, client_id=CLIENT_ID)
    assert (await world.do("get_signin", USER + 1, email=user))["code"] == "not_found"


async def test_a_user_has_at_most_16_sign_ins_under_way(world: MailWorld, user: str) -> None:
    for number in range(16):
        body = await world.do("signin_email", email=f"{number}@example.com", client_id=CLIENT_ID)
        assert body["state"] == "pending"
    body = await world.do("signin_email", email=user, client_id=CLIENT_ID)
    assert (body["code"], body["retry_s"] > 0) == ("busy", True)
    again = await world.do("signin_email", email="0@example.com", client_id=CLIENT_ID)
    assert again["state"] == "pending"


async def test_a_user_that_begins_many_sign_ins_in_one_moment_has_16_too(world: MailWorld) -> None:
    emails = [f"{number}@example.com" for number in range(20)]
    said = await asyncio.gather(
        *(world.do("signin_email", email=email, client_id=CLIENT_ID) for email in emails)
    )
    assert [one.get("state", one.get("code")) for one in said].count("pending") == 16


async def test_a_type_without_a_sign_in_page_is_refused(world: MailWorld, user: str) -> None:
    body = await world.do("signin_email", email=user, mail_type="qq", client_id=CLIENT_ID)
    assert body["code"] == "invalid_field"
