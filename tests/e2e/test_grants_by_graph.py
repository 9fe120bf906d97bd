"""Mailboxes whose grant is not good for IMAP are read by Graph, and no mail is told twice."""

from base64 import b64decode

import msgspec
import pytest

from tests.support.drivers.checks import QUICK
from tests.support.servers.dovecot import Dovecot, dovecot
from tests.support.servers.token_server import GRAPH_SCOPE, IMAP_SCOPE, TokenServer
from tests.support.worlds.grants import add, mime, outlook, subjects
from tests.support.worlds.mail_world import MailWorld, in_real_world, real_world

pytestmark = pytest.mark.e2e


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
