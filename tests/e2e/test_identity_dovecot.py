"""What is one mail, on a real Dovecot: moved mails, equal mails, new UIDs, long histories, junk."""

import asyncio
import base64
from collections.abc import Iterator

import msgspec
import pytest

from huahuo.mailcheck.servers.imap_grammar import JUNK
from tests.support.drivers.checks import QUICK
from tests.support.models.mail_book import USER
from tests.support.servers.dovecot import PASSWORD, Dovecot, dovecot
from tests.support.worlds.mail_world import MailWorld, real_world

pytestmark = pytest.mark.e2e

U = f"user/{USER}"
JUNK_TOO = msgspec.structs.replace(QUICK, folders=(JUNK,))
_FOLDERS = """
namespace inbox {
  inbox = yes
  separator = /
  mailbox Unwanted {
    special_use = \\Junk
    auto = create
  }
}
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Dovecot]:
    with dovecot(extra_config=_FOLDERS) as running:
        yield running


@pytest.fixture
def user(server: Dovecot, request: pytest.FixtureRequest) -> str:
    """A user of this test's own."""
    name = f"{request.node.name.removeprefix('test_')[:40]}@example.com"
    server.add_user(name)
    return name


def mail(subject: str, message_id: str = "") -> bytes:
    head = f"Message-ID: <{message_id}>\r\n" if message_id else ""
    return f"{head}Subject: {subject}\r\nFrom: Bob <bob@example.com>\r\n\r\nhello\r\n".encode()


async def add(world: MailWorld, server: Dovecot, user: str) -> int:
    return await world.add(user, server=server.host, port=server.port, use_ssl=False, password=PASSWORD)


async def told(world: MailWorld) -> list[tuple[str, str]]:
    return [(e["subject"], e["folder"]) for e in await world.said() if e["type"] == "mail_received"]


def move(server: Dovecot, user: str, uid: int, folder: str) -> None:
    with server.client(user) as client:
        client.select("INBOX")
        assert client.uid("MOVE", str(uid), folder)[0] == "OK"


async def test_junk_is_read_by_its_special_use_whatever_it_is_called(server: Dovecot, user: str) -> None:
    server.add_mail(user, mail("for me"))
    server.add_mail(user, mail("buy this"), folder="Unwanted")
    async with real_world(JUNK_TOO) as world:
        number = await add(world, server, user)
        assert (await world.checked(number))["message"] == "检查完成，共 2 封新邮件"
        assert await told(world) == [("for me", "INBOX"), ("buy this", "Unwanted")]
        assert (await world.checked(number))["message"] == "没有找到新邮件"


async def test_a_moved_mail_is_one_mail_and_its_record_says_where_it_is(server: Dovecot, user: str) -> None:
    server.add_mail(user, mail("wanders", "1@example.com"), mail("no id"))
    async with real_world(JUNK_TOO) as world:
        number = await add(world, server, user)
        await world.checked(number)
        for uid in (1, 2):
            await asyncio.to_thread(move, server, user, uid, "Unwanted")
        assert (await world.checked(number))["message"] == "没有找到新邮件"
        records = (await world.do("get_mail_records", email_id=number))["data"]
        assert sorted((one["subject"], one["folder"]) for one in records) == [
            ("no id", "Unwanted"),
            ("wanders", "Unwanted"),
        ]
        assert (await world.rows())[number]["mail_count"] == 2


async def test_new_uids_bring_no_doubles_and_equal_mails_stay_apart(server: Dovecot, user: str) -> None:
    server.add_mail(user, *[mail("Your code", "same@example.com")] * 3, mail("other"))
    async with real_world() as world:
        number = await add(world, server, user)
        assert (await world.checked(number))["message"] == "检查完成，共 4 封新邮件"
        server.reset_uidvalidity(user)
        assert (await world.checked(number))["message"] == "没有找到新邮件"
        server.add_mail(user, mail("Your code", "same@example.com"))
        assert (await world.checked(number))["message"] == "检查完成，共 1 封新邮件"
        server.reset_uidvalidity(user)
        await world.restart()
        assert (await world.checked(number))["message"] == "没有找到新邮件"
        assert [subject for subject, _ in await told(world)] == [*["Your code"] * 3, "other", "Your code"]


async def test_a_long_history_comes_from_its_end_and_a_second_check_goes_on_where_the_first_was_cut(
    server: Dovecot, user: str
) -> None:
    server.add_mail(user, *[mail(f"mail {n}", f"{n}@example.com") for n in range(1, 301)])
    async with real_world() as world:
        number = await add(world, server, user)
        await world.do("check_emails", email_ids=[number])
        await world.until(U, lambda body: body["type"] == "mail_received")
        await world.do("cancel_check", email_ids=[number])
        first = [subject for subject, _ in await told(world)]
        assert 0 < len(first) < 300
        assert "mail 300" in first
        assert "mail 1" not in first
        server.add_mail(user, mail("newest", "new@example.com"))
        await world.checked(number)
        subjects = [subject for subject, _ in await told(world)]
        assert subjects[len(first)] == "newest"
        assert sorted(subjects) == sorted([f"mail {n}" for n in range(1, 301)] + ["newest"])
        assert (await world.checked(number))["message"] == "没有找到新邮件"


async def test_a_watcher_of_an_unread_folder_tells_its_newest_mails_and_a_check_the_rest(
    server: Dovecot, user: str
) -> None:
    server.add_mail(user, *[mail(f"mail {n}") for n in range(1, 151)])
    async with real_world() as world:
        number = await add(world, server, user)
        await world.do("watch_emails", email_ids=[number], on=True)
        await world.until(U, lambda body: body.get("subject") == "mail 51")
        assert (await world.checked(number))["message"] == "检查完成，共 50 封新邮件"
        assert len(await told(world)) == 150


WITH_FILES = (
    b"Subject: files\r\nFrom: bob@example.com\r\nMessage-ID: <f@example.com>\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nsee below\r\n"
    b"--b\r\nContent-Type: text/csv; name=a.csv\r\nContent-Disposition: attachment\r\n\r\n1,2\r\n"
    b"--b\r\nContent-Type: image/png; name=b.png\r\nContent-Disposition: attachment\r\n"
    b"Content-Transfer-Encoding: base64\r\n\r\niVBORw==\r\n--b--\r\n"
)


async def test_attachments_are_fetched_when_asked_for_also_of_a_moved_mail(
    server: Dovecot, user: str
) -> None:
    server.add_mail(user, WITH_FILES)
    async with real_world(JUNK_TOO) as world:
        number = await add(world, server, user)
        await world.checked(number)
        await asyncio.to_thread(move, server, user, 1, "Unwanted")
        gone = await world.do("get_attachment", mail_id=1, index=0)
        assert (gone["type"], gone["code"]) == ("error", "not_found")
        await world.checked(number)
        before = server.snapshot(user)
        listed = (await world.do("get_mail", mail_id=1))["attachments"]
        found = [await world.do("get_attachment", mail_id=1, index=n) for n in range(len(listed))]
        assert [(one["name"], base64.b64decode(one["data"])) for one in found] == [
            ("a.csv", b"1,2"),
            ("b.png", b"\x89PNG"),
        ]
        assert (await world.do("get_attachment", mail_id=1, index=2))["code"] == "not_found"
        assert (await world.do("get_attachment", USER + 1, mail_id=1, index=0))["code"] == "not_found"
        assert server.snapshot(user) == before
