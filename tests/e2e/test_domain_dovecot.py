"""The domain over IMAP: commands in, checks against a real Dovecot, events out."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from huahuo.mailcheck.records import CHECKS, MAIL, MAILS, PURGES
from tests.support.drivers.checks import QUICK
from tests.support.models.mail_book import USER
from tests.support.models.mail_rules import leaks
from tests.support.servers.dovecot import Dovecot, dovecot
from tests.support.worlds.mail_world import MailWorld, real_world

pytestmark = pytest.mark.e2e

U = f"user/{USER}"
PASSWORD = "canary-9f2c-password"
ONE_BY_ONE = msgspec.structs.replace(QUICK, batch_mails_max=1)


@pytest.fixture(scope="module")
def server() -> Iterator[Dovecot]:
    with dovecot() as running:
        yield running


@pytest.fixture
def user(server: Dovecot, request: pytest.FixtureRequest) -> str:
    """A user of this test's own."""
    name = f"{request.node.name.removeprefix('test_')[:40]}@example.com"
    server.add_user(name, PASSWORD)
    return name


def mail(subject: str, body: str = "hello") -> bytes:
    return f"Subject: {subject}\r\nFrom: Bob <bob@example.com>\r\n\r\n{body}\r\n".encode()


def add_mails(server: Dovecot, user: str, *subjects: str) -> None:
    server.add_mail(user, *[mail(subject) for subject in subjects], password=PASSWORD)


async def add(world: MailWorld, server: Dovecot, user: str, **fields: Any) -> int:
    reached: dict[str, Any] = {
        "server": server.host,
        "port": server.port,
        "use_ssl": False,
        "password": PASSWORD,
    }
    return await world.add(user, **(reached | fields))


async def subjects(world: MailWorld) -> list[str]:
    """The mails that the user was told of, in order."""
    return [e["subject"] for e in await world.said() if e["type"] == "mail_received"]


async def first_mail(world: MailWorld) -> None:
    await world.until(U, lambda body: body["type"] == "mail_received")


async def test_a_check_finds_every_mail_and_changes_nothing_on_the_server(server: Dovecot, user: str) -> None:
    add_mails(server, user, "first", "验证码 1234")
    before = server.snapshot(user)
    async with real_world() as world:
        number = await add(world, server, user)
        end = await world.checked(number)
        assert (end["status"], end["message"]) == ("ok", "检查完成，共 2 封新邮件")
        assert await subjects(world) == ["first", "验证码 1234"]
        listed = (await world.do("get_mail_records", email_id=number))["data"]
        opened = await world.do("get_mail", mail_id=listed[-1]["mail_id"])
        assert (opened["subject"], opened["text"]) == ("first", "hello\n")
        row = (await world.rows())[number]
        assert (row["status"], row["progress"], row["mail_count"]) == ("ok", 100, 2)
        assert row["last_check_time"] == end["timestamp"]
    assert server.snapshot(user) == before


async def test_the_code_in_a_mail_comes_with_its_event_and_its_record(server: Dovecot, user: str) -> None:
    coded, other = mail("Sign in", "Your verification code: 482 913"), mail("Order 4829134", "shipped")
    server.add_mail(user, coded, other, password=PASSWORD)
    async with real_world() as world:
        number = await add(world, server, user)
        await world.checked(number)
        told = [e for e in await world.said() if e["type"] == "mail_received"]
        assert told[0]["code"] == "482913"
        assert told[0]["code_confidence"] > 0.9
        assert "code" not in told[1]
        listed = (await world.do("get_mail_records", email_id=number))["data"]
        assert [one.get("code") for one in listed] == [None, "482913"]
        opened = await world.do("get_mail", mail_id=listed[1]["mail_id"])
        assert opened["code"] == "482913"


async def test_the_password_is_in_nothing_that_is_stored_or_logged(
    world: MailWorld, server: Dovecot, user: str, capfd: pytest.CaptureFixture[str]
) -> None:
    number = await add(world, server, user)
    await world.checked(number)
    await world.do("update_email", email_id=number, password=PASSWORD + "-wrong")
    await world.checked(number)
    assert leaks([PASSWORD, user], world.disk_bytes()) == [user]
    printed = capfd.readouterr()
    assert leaks([PASSWORD], printed.out.encode(), printed.err.encode()) == []


async def test_a_refused_login_needs_the_user(world: MailWorld, server: Dovecot, user: str) -> None:
    number = await add(world, server, user, password="not-the-password")
    end = await world.checked(number)
    assert (end["status"], "登录被拒绝" in end["message"]) == ("need_reauth", True)
    row = (await world.rows())[number]
    assert (row["progress"], row["last_check_time"]) == (100, None)
    await world.do("update_email", email_id=number, password=PASSWORD)
    assert (await world.checked(number))["status"] == "ok"


async def test_a_deletion_during_a_check_leaves_nothing(server: Dovecot, user: str) -> None:
    add_mails(server, user, *[f"mail {n}" for n in range(60)])
    async with real_world(ONE_BY_ONE) as world:
        number = await add(world, server, user)
        await world.do("check_emails", email_ids=[number])
        await first_mail(world)
        (_, value), *_ = await world.log.rows(MAILS, str(number), limit=1)
        await world.do("delete_emails", email_ids=[number])
        await world.mail.idle()
        assert await world.rows() == {}
        for table, part in ((MAILS, str(number)), (MAIL, ""), (CHECKS, ""), (PURGES, "")):
            assert await world.log.rows(table, part, limit=1) == []
        assert await world.log.blob(msgspec.json.decode(value)["blob"]) is None
        assert await world.log.secret(f"mailbox/{number}", "password") is None
        last = [e["type"] for e in await world.said()][-3:]
        assert last == ["check_progress", "email_status_update", "email_deleted"]
