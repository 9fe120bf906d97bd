"""Grants of Microsoft: tokens that rotate, mails by Graph where IMAP is off, and the sign-in by a code."""

import asyncio
from base64 import b64decode
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from huahuo.eventstore.model import Append
from tests.support.drivers.checks import QUICK
from tests.support.models.mail_book import USER
from tests.support.patience import WITHIN_S
from tests.support.servers.dovecot import Dovecot, dovecot
from tests.support.servers.token_server import CLIENT_ID, GRAPH_SCOPE, IMAP_SCOPE, TokenServer
from tests.support.worlds.grants import add, mime, outlook, subjects
from tests.support.worlds.mail_world import MailWorld, in_real_world, real_world

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


async def test_a_grant_without_the_scope_of_imap_goes_on_by_graph_and_stays_there(
    mails: Dovecot, tokens: TokenServer, user: str
) -> None:
    async with real_world(**outlook(mails, tokens)) as world:
        email_id = await add(world, user, tokens.grant(user, GRAPH_SCOPE))
        tokens.inbox(user).extend(mime(f"by graph {n}") for n in range(5))
        assert (await world.checked(email_id))["status"] == "ok"
        assert await subjects(world, email_id) == [f"by graph {n}" for n in range(5)]
        asked = len(tokens.requests)
        await world.restart()
        tokens.inbox(user).append(mime("new"))
        assert (await world.checked(email_id))["message"] == "检查完成，共 1 封新邮件"
        assert len(tokens.requests) == asked + 1  # for Graph alone


def test_a_tenant_with_imap_off_goes_on_by_graph(mails: Dovecot, tokens: TokenServer, user: str) -> None:
    async def test(world: MailWorld) -> None:
        email_id = await add(world, user, tokens.grant(user, IMAP_SCOPE, GRAPH_SCOPE))
        tokens.inbox(user).append(mime("by graph"))
        end = await world.checked(email_id)
        assert end["status"] == "ok", end
        assert await subjects(world, email_id) == ["by graph"]

    with dovecot() as without_tokens:
        without_tokens.add_user(user)
        in_real_world(test, **outlook(without_tokens, tokens))


@pytest.mark.parametrize("listing", ["delta", "delta without links", "plain"])
async def test_no_mail_of_graph_is_told_twice(
    mails: Dovecot, tokens: TokenServer, user: str, listing: str
) -> None:
    tokens.delta = listing != "plain"
    tokens.links = listing == "delta"
    async with real_world(**outlook(mails, tokens)) as world:
        email_id = await add(world, user, tokens.grant(user, GRAPH_SCOPE))
        for count in (3, 0, 2):
            tokens.inbox(user).extend([mime("equal")] * count)
            assert (await world.checked(email_id))["status"] == "ok"
        assert await subjects(world, email_id) == ["equal"] * 5
        await world.do("delete_emails", email_ids=[email_id])
        await world.mail.idle()
        assert await world.log.rows("graph", str(email_id), limit=1) == []


async def test_junk_and_chosen_folders_are_read_by_graph_too(
    mails: Dovecot, tokens: TokenServer, user: str
) -> None:

    limits = msgspec.structs.replace(QUICK, folders=("junk",))
    async with real_world(limits, **outlook(mails, tokens)) as world:
        email_id = await add(world, user, tokens.grant(user, GRAPH_SCOPE))
        account = tokens.accounts[user]
        account.inbox.append(mime("inbox"))
        account.junk.extend([mime("junk"), mime("more junk")])
        account.archive.append(mime("archive"))
        for _ in range(2):
            assert (await world.checked(email_id))["status"] == "ok"
            assert await subjects(world, email_id) == ["inbox", "junk", "more junk"]
        account.junk.append(mime("new junk"))
        await world.do("update_email", email_id=email_id, folders=["junk", "archive", "none such"])
        assert (await world.checked(email_id))["status"] == "ok"
        rows = (await world.do("get_mail_records", email_id=email_id))["data"]
        assert {row["subject"]: row["folder"] for row in rows} == {
            "inbox": "INBOX",
            "junk": "Junk Email",
            "more junk": "Junk Email",
            "new junk": "Junk Email",
            "archive": "Archive",
        }


async def test_older_mails_of_graph_are_told_by_the_listing_and_opened_on_demand(
    mails: Dovecot, tokens: TokenServer, user: str
) -> None:
    async with real_world(
        msgspec.structs.replace(QUICK, bodies="on_demand"), **outlook(mails, tokens)
    ) as world:
        email_id = await add(world, user, tokens.grant(user, GRAPH_SCOPE))
        tokens.accounts[user].days_old = 3
        tokens.inbox(user).extend(mime(f"old {n}") for n in range(3))
        assert (await world.checked(email_id))["status"] == "ok"
        assert not any(path.endswith("$value") for path in tokens.reads)
        rows = (await world.do("get_mail_records", email_id=email_id))["data"]
        assert [(row["subject"], row["sender"]) for row in rows] == [(f"old {n}", "a@b.c") for n in (2, 1, 0)]
        assert (await world.do("get_mail", mail_id=rows[0]["mail_id"]))["text"].strip() == "body"


async def test_an_attachment_is_read_by_graph_where_the_mail_was_found_there(
    mails: Dovecot, tokens: TokenServer, user: str
) -> None:
    async with real_world(**outlook(mails, tokens)) as world:
        grant = tokens.grant(user, GRAPH_SCOPE)
        tokens.inbox(user).append(
            b"Subject: files\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\ntext\r\n--b\r\n"
            b"Content-Type: text/csv\r\nContent-Disposition: attachment; filename=a.csv\r\n\r\n"
            b"1,2\r\n--b--\r\n"
        )
        email_id = await add(world, user, grant)
        assert (await world.checked(email_id))["status"] == "ok"
        (row,) = (await world.do("get_mail_records", email_id=email_id))["data"]
        file = await world.do("get_attachment", mail_id=row["mail_id"], index=0)
        assert (file["name"], b64decode(file["data"]).strip()) == ("a.csv", b"1,2"), file
        tokens.inbox(user).clear()
        gone = await world.do("get_attachment", mail_id=row["mail_id"], index=0)
        assert (gone["type"], gone["code"]) == ("error", "not_found")


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
