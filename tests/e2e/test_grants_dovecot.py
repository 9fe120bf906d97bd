"""Mailboxes that sign in with a grant: at Dovecot, with XOAUTH2 and OAUTHBEARER."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from huahuo.eventstore.model import Append
from tests.support.patience import WITHIN_S
from tests.support.servers.dovecot import Dovecot
from tests.support.servers.token_server import GRAPH_SCOPE, TokenServer
from tests.support.worlds.grants import add, mime, outlook, subjects
from tests.support.worlds.mail_world import MailWorld, real_world

pytestmark = pytest.mark.e2e


@pytest.fixture
async def world(mails: Dovecot, tokens: TokenServer) -> AsyncIterator[MailWorld]:
    async with real_world(**outlook(mails, tokens)) as made:
        yield made


@pytest.mark.parametrize("auth", ["xoauth2", "oauthbearer"])
async def test_a_grant_reads_the_mails_of_its_mailbox(
    mails: Dovecot, tokens: TokenServer, user: str, auth: str
) -> None:
    async with real_world(**outlook(mails, tokens, auth=auth)) as world:
        email_id = await add(world, user, tokens.grant(user))
        end = await world.checked(email_id)
        assert end["status"] == "ok", end
        assert await subjects(world, email_id) == ["first", "second"]


async def test_each_rotated_refresh_token_is_the_one_sent_next_also_after_a_restart(
    world: MailWorld, tokens: TokenServer, user: str
) -> None:
    email_id = await add(world, user, tokens.grant(user))
    for _ in range(3):
        assert (await world.checked(email_id))["status"] == "ok"
        tokens.used(user)
        await world.restart()
    assert (await world.checked(email_id))["status"] == "ok"
    sent = [form["refresh_token"] for form in tokens.requests]
    assert len(set(sent)) == len(sent) == 4


async def test_no_token_is_stored_in_clear(world: MailWorld, tokens: TokenServer, user: str) -> None:
    email_id = await add(world, user, tokens.grant(user))
    assert (await world.checked(email_id))["status"] == "ok"
    stored = world.disk_bytes()
    assert b"canary-refresh-token" not in stored
    assert b"canary-access-token" not in stored
    assert tokens.accounts[user].current.encode() not in stored


async def test_a_dead_grant_ends_once_with_what_to_do_and_is_not_tried_again(
    world: MailWorld, tokens: TokenServer, user: str
) -> None:
    email_id = await add(world, user, tokens.grant(user))
    tokens.accounts[user].dead = True
    end = await world.checked(email_id)
    assert (end["status"], end["error_class"]) == ("need_reauth", "auth")
    assert "huahuo mailbox signin" in end["message"]
    assert "canary" not in str(end)
    assert len(tokens.requests) == 2  # for IMAP, and for Graph


async def test_many_checks_of_one_mailbox_share_one_refresh(
    world: MailWorld, tokens: TokenServer, user: str
) -> None:
    email_id = await add(world, user, tokens.grant(user))
    provider = world.settings.providers.of("outlook")
    asked = [world.mail.tokens.get(email_id, provider, graph=False) for _ in range(20)]
    found = await asyncio.gather(*asked)
    assert len({access.token for access in found}) == 1
    assert len(tokens.requests) == 1


@pytest.mark.parametrize("lost", ["before", "after"])
async def test_a_rotated_token_is_durable_before_anything_that_came_with_it_is_used(
    mails: Dovecot, tokens: TokenServer, user: str, lost: str
) -> None:
    """This Graph gives up the old refresh token as soon as the new access token is used (I23)."""
    async with real_world(**outlook(mails, tokens)) as world:
        email_id = await add(world, user, tokens.grant(user, GRAPH_SCOPE))
        tokens.inbox(user).append(mime("one"))

        kept = asyncio.Event()

        def lose(append: Append) -> None:
            if any(event.type == "grant_kept" for event in append.events):
                world.log.lose.append(lost)
                kept.set()

        world.log.before_append = lose
        await world.do("check_emails", email_ids=[email_id])
        await kept.wait()
        await asyncio.sleep(0.2)  # for whoever would go on with the token, although it is not durable
        assert tokens.reads == []
        await world.crash()
        assert (await world.ended(email_id))["status"] == "ok"
        assert await subjects(world, email_id) == ["one"]


async def test_a_cancelled_check_does_not_lose_the_token_that_was_under_way(
    world: MailWorld, tokens: TokenServer, user: str
) -> None:
    email_id = await add(world, user, tokens.grant(user))
    tokens.held.clear()
    await world.do("check_emails", email_ids=[email_id])
    await asyncio.to_thread(tokens.asked.wait, WITHIN_S)
    await world.do("cancel_check", email_ids=[email_id])
    tokens.held.set()
    await world.until(f"mailbox/{email_id}", lambda body: body["type"] == "grant_kept")
    tokens.used(user)
    await world.restart()
    assert (await world.checked(email_id))["status"] == "ok"


async def test_hosts_are_tried_in_turn(mails: Dovecot, tokens: TokenServer, user: str) -> None:

    hosts = ("127.0.0.1:1", f"127.0.0.1:{mails.port}")
    async with real_world(**outlook(mails, tokens, hosts=hosts)) as world:
        email_id = await add(world, user, tokens.grant(user))
        assert (await world.checked(email_id))["status"] == "ok"
