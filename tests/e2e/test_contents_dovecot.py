"""Older mails are told by their headers; their text is read in the background, or when somebody opens one."""

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from huahuo.mailcheck.checks.check_effect import CheckLimits
from tests.support.drivers.checks import QUICK
from tests.support.servers.dovecot import Dovecot, dovecot
from tests.support.worlds.mail_world import MailWorld, real_world

pytestmark = pytest.mark.e2e
DAYS = 3


def limits(bodies: str, **changed: Any) -> CheckLimits:
    return msgspec.structs.replace(QUICK, bodies=bodies, **changed)


def mime(subject: str, text: str = "the text") -> bytes:
    return (
        f"Subject: {subject}\r\nFrom: a@b.c\r\nTo: team@b.c\r\nMessage-ID: <{subject}@b.c>\r\n"
        "Content-Type: multipart/mixed; boundary=x\r\n\r\n"
        f"--x\r\n\r\n{text}\r\n"
        '--x\r\nContent-Disposition: attachment; filename="a.txt"\r\n\r\nfile\r\n--x--\r\n'
    ).encode()


@pytest.fixture(scope="module")
def mails() -> Iterator[Dovecot]:
    with dovecot() as server:
        yield server


@pytest.fixture
def user(mails: Dovecot, request: pytest.FixtureRequest) -> str:
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[-50:] + "@example.com"
    mails.add_user(name)
    return name


async def add(world: MailWorld, mails: Dovecot, user: str) -> int:
    return await world.add(user, password="secret", server="127.0.0.1", port=mails.port, use_ssl=False)


async def listed(world: MailWorld, email_id: int) -> dict[str, dict[str, Any]]:
    body = await world.do("get_mail_records", email_id=email_id, limit=200)
    return {row["subject"]: row for row in body["data"]}


async def text_of(world: MailWorld, mail_id: int) -> str:
    body = await world.do("get_mail", mail_id=mail_id)
    return str(body.get("text", body.get("code")))


async def test_history_is_told_by_headers_and_a_new_mail_with_its_code(mails: Dovecot, user: str) -> None:
    async with real_world(limits("on_demand")) as world:
        mails.add_mail(user, mime("old", "your verification code is 111111"), days_old=DAYS)
        mails.add_mail(user, mime("new", "your verification code is 222222"))
        email_id = await add(world, mails, user)
        assert (await world.checked(email_id))["status"] == "ok"
        rows = await listed(world, email_id)
        assert (rows["new"]["code"], "code" in rows["old"]) == ("222222", False)
        assert (rows["old"]["has_attachments"], rows["old"]["size"] > 100) == (True, True)
        assert "111111" in await text_of(world, rows["old"]["mail_id"])
        mails.expunge(user, 1)
        assert "111111" in await text_of(world, rows["old"]["mail_id"]), "it is kept once it was read"


async def test_the_rest_is_read_in_the_background_and_the_mailbox_stays_untouched(
    mails: Dovecot, user: str
) -> None:
    async with real_world(limits("background")) as world:
        mails.add_mail(user, *(mime(f"old {n}", f"text {n}") for n in range(120)), days_old=DAYS)
        before = mails.snapshot(user)
        email_id = await add(world, mails, user)
        await world.checked(email_id)
        await world.mail.idle()
        assert mails.snapshot(user) == before
        mails.expunge(user, *range(1, 121))
        rows = await listed(world, email_id)
        for n in (0, 60, 119):
            assert await text_of(world, rows[f"old {n}"]["mail_id"]) == f"text {n}"


async def test_a_restart_goes_on_with_what_is_missing(mails: Dovecot, user: str) -> None:
    async with real_world(limits("background")) as world:
        mails.add_mail(user, mime("old"), days_old=DAYS)
        email_id = await add(world, mails, user)
        await world.checked(email_id)
        await world.restart()
        await world.mail.idle()
        mails.expunge(user, 1)
        assert await text_of(world, (await listed(world, email_id))["old"]["mail_id"]) == "the text"


async def test_a_mailbox_that_is_deleted_meanwhile_leaves_nothing(mails: Dovecot, user: str) -> None:
    async with real_world(limits("background")) as world:
        mails.add_mail(user, *(mime(f"old {n}") for n in range(30)), days_old=DAYS)
        email_id = await add(world, mails, user)
        await world.checked(email_id)
        await world.do("delete_emails", email_ids=[email_id])
        await world.mail.idle()
        for table, part in (("missing", str(email_id)), ("mails", str(email_id)), ("unread_bodies", "")):
            assert await world.log.rows(table, part, limit=5) == []
