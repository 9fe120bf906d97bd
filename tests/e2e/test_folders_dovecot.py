"""Folders by choice, and which mails are unread on the server, at a real server."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from huahuo.mailcheck import zh
from huahuo.mailcheck.servers.providers import ProviderOptions, Providers
from tests.support.drivers.checks import QUICK
from tests.support.servers.dovecot import Dovecot, dovecot
from tests.support.worlds.mail_world import MailWorld, real_world

pytestmark = pytest.mark.e2e
LIMITS = msgspec.structs.replace(QUICK, folders=("junk",), unread=True)


def mime(subject: str) -> bytes:
    return f"Subject: {subject}\r\nFrom: a@b.c\r\nMessage-ID: <{subject}@b.c>\r\n\r\nx\r\n".encode()


@pytest.fixture(scope="module")
def mails() -> Iterator[Dovecot]:
    with dovecot() as server:
        yield server


async def add(world: MailWorld, mails: Dovecot, user: str) -> int:
    return await world.add(user, password="secret", server="127.0.0.1", port=mails.port, use_ssl=False)


async def listed(world: MailWorld, email_id: int) -> dict[str, dict[str, Any]]:
    body = await world.do("get_mail_records", email_id=email_id, limit=200)
    return {row["subject"]: row for row in body["data"]}


async def test_a_mailbox_reads_the_folders_that_its_user_has_chosen(mails: Dovecot) -> None:
    user = "folders@example.com"
    mails.add_user(user)
    with mails.client(user, "secret") as client:
        for folder in ("Spam", "Archive", "&V4NXPpCuTvY-"):
            client.create(folder)
    mails.add_mail(user, mime("inbox"))
    mails.add_mail(user, mime("spam"), folder="Spam")
    mails.add_mail(user, mime("archived"), folder="Archive")
    async with real_world(LIMITS) as world:
        email_id = await add(world, mails, user)
        await world.checked(email_id)
        assert set(await listed(world, email_id)) == {"inbox", "spam"}
        told = await world.do("get_folders", email_id=email_id)
        assert set(told["data"]) == {"INBOX", "Spam", "Archive", "垃圾邮件"}
        assert (told["junk"], told["chosen"], told["default"]) == ("Spam", None, ["junk"])
        await world.do("update_email", email_id=email_id, folders=["Archive"])
        mails.add_mail(user, mime("more spam"), folder="Spam")
        await world.checked(email_id)
        assert set(await listed(world, email_id)) == {"inbox", "spam", "archived"}
        assert (await world.rows())[email_id]["folders"] == ["Archive"]
        await world.restart()
        assert (await world.do("get_folders", email_id=email_id))["chosen"] == ["Archive"]
        await world.do("update_email", email_id=email_id, folders=None)
        await world.checked(email_id)
        assert set(await listed(world, email_id)) == {"inbox", "spam", "archived", "more spam"}
        assert "folders" not in (await world.rows())[email_id]


async def test_what_is_unread_there_is_told_as_the_last_check_saw_it(mails: Dovecot) -> None:
    user = "unread@example.com"
    mails.add_user(user)
    mails.add_mail(user, *(mime(f"mail {n}") for n in range(3)))

    def unread(rows: dict[str, dict[str, Any]]) -> set[str]:
        return {subject for subject, row in rows.items() if row.get("unread")}

    async with real_world(LIMITS) as world:
        email_id = await add(world, mails, user)
        await world.checked(email_id)
        assert unread(await listed(world, email_id)) == {"mail 0", "mail 1", "mail 2"}
        with mails.client(user, "secret") as client:
            client.select("INBOX")
            client.uid("STORE", "2", "+FLAGS", "(\\Seen)")
        await world.checked(email_id)
        assert unread(await listed(world, email_id)) == {"mail 0", "mail 2"}
        facts = [event.type for event in await world.events()].count("unread_there")
        await world.checked(email_id)
        assert [event.type for event in await world.events()].count("unread_there") == facts == 2


async def test_a_check_that_only_signs_in_reads_no_mail_and_says_whether_the_login_works(
    mails: Dovecot,
) -> None:
    user = "login@example.com"
    mails.add_user(user)
    mails.add_mail(user, mime("waiting"))

    options = ProviderOptions(hosts=(f"127.0.0.1:{mails.port}",), tls="none")
    async with real_world(LIMITS, providers=Providers({"corp": options})) as world:
        email_id = await add(world, mails, user)
        head = world.log.head("user/7").seq
        await world.do("check_emails", email_ids=[email_id], login=True)
        end = await world.ended(email_id, after=head)
        assert (end["status"], end["message"]) == ("ok", zh.LOGIN_WORKS)
        assert await listed(world, email_id) == {}
        lines = f"{user}----secret\nwrong@example.com----no"
        await world.do("delete_emails", email_ids=[email_id])
        head = world.log.head("user/7").seq
        reply = await world.do("import_emails", data=lines, mail_type="corp", validate=True)
        assert reply["success"] == 2
        ends = [await world.ended(number, after=head) for number in (email_id + 1, email_id + 2)]
        assert [one["status"] for one in ends] == ["ok", "need_reauth"]
        assert await listed(world, email_id + 1) == {}


async def test_a_login_is_tried_without_keeping_it_or_with_what_a_mailbox_has(mails: Dovecot) -> None:
    user = "tried@example.com"
    mails.add_user(user)
    async with real_world(LIMITS) as world:
        where: dict[str, Any] = {"server": "127.0.0.1", "port": mails.port, "use_ssl": False}
        told = await world.do("test_login", email=user, password="secret", **where)
        assert (told["message"], told["folders"]) == (zh.LOGIN_TESTED, ["INBOX"])
        wrong = await world.do("test_login", email=user, password="canary", **where)
        assert (wrong["code"], "canary" in str(wrong)) == ("unavailable", False)
        assert await world.rows() == {}
        email_id = await add(world, mails, user)
        assert (await world.do("test_login", email_id=email_id))["type"] == "success"
        assert (await world.do("test_login", 99, email_id=email_id))["code"] == "not_found"
