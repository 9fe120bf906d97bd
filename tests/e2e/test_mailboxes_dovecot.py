"""The domain over IMAP: commands in, checks against a real Dovecot, events out."""

import asyncio
import base64
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from huahuo.mailcheck import zh
from huahuo.mailcheck.checks.check_effect import CheckLimits
from huahuo.mailcheck.records import CHECKS, MAIL, MAILS, PURGES
from huahuo.mailcheck.servers.imap_grammar import JUNK
from huahuo.mailcheck.servers.providers import ProviderOptions, Providers
from tests.support.drivers.checks import QUICK
from tests.support.models.mail_book import USER
from tests.support.models.mail_rules import leaks
from tests.support.servers.dovecot import PASSWORD, Dovecot, dovecot
from tests.support.worlds.mail_world import MailWorld, real_world

pytestmark = pytest.mark.e2e


U = f"user/{USER}"
CANARY = "canary-9f2c-password"


ONE_BY_ONE = msgspec.structs.replace(QUICK, batch_mails_max=1)


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


def mail(subject: str, body: str = "hello", message_id: str = "") -> bytes:
    head = f"Message-ID: <{message_id}>\r\n" if message_id else ""
    return f"{head}Subject: {subject}\r\nFrom: Bob <bob@example.com>\r\n\r\n{body}\r\n".encode()


async def add(world: MailWorld, server: Dovecot, user: str, **fields: Any) -> int:
    where: dict[str, Any] = {"server": server.host, "port": server.port, "use_ssl": False}
    return await world.add(user, **({"password": PASSWORD} | where | fields))


async def subjects(world: MailWorld) -> list[str]:
    """The mails that the user was told of, in order."""
    return [e["subject"] for e in await world.said() if e["type"] == "mail_received"]


async def first_mail(world: MailWorld) -> None:
    await world.until(U, lambda body: body["type"] == "mail_received")


async def test_a_check_finds_every_mail_and_changes_nothing_on_the_server(server: Dovecot, user: str) -> None:
    server.add_mail(user, mail("first"), mail("验证码 1234"))
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
    server.add_mail(user, coded, other)
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
    server.add_user(user, CANARY)
    number = await add(world, server, user, password=CANARY)
    await world.checked(number)
    await world.do("update_email", email_id=number, password=CANARY + "-wrong")
    await world.checked(number)
    assert leaks([CANARY, user], world.disk_bytes()) == [user]
    printed = capfd.readouterr()
    assert leaks([CANARY], printed.out.encode(), printed.err.encode()) == []


async def test_a_refused_login_needs_the_user(world: MailWorld, server: Dovecot, user: str) -> None:
    number = await add(world, server, user, password="not-the-password")
    end = await world.checked(number)
    assert (end["status"], "登录被拒绝" in end["message"]) == ("need_reauth", True)
    row = (await world.rows())[number]
    assert (row["progress"], row["last_check_time"]) == (100, None)
    await world.do("update_email", email_id=number, password=PASSWORD)
    assert (await world.checked(number))["status"] == "ok"


async def test_a_deletion_during_a_check_leaves_nothing(server: Dovecot, user: str) -> None:
    server.add_mail(user, *(mail(f"mail {n}") for n in range(60)))
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


JUNK_TOO = msgspec.structs.replace(QUICK, folders=(JUNK,))


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
    server.add_mail(user, mail("wanders", message_id="1@example.com"), mail("no id"))
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
    server.add_mail(user, *[mail("Your code", message_id="same@example.com")] * 3, mail("other"))
    async with real_world() as world:
        number = await add(world, server, user)
        assert (await world.checked(number))["message"] == "检查完成，共 4 封新邮件"
        server.reset_uidvalidity(user)
        assert (await world.checked(number))["message"] == "没有找到新邮件"
        server.add_mail(user, mail("Your code", message_id="same@example.com"))
        assert (await world.checked(number))["message"] == "检查完成，共 1 封新邮件"
        server.reset_uidvalidity(user)
        await world.restart()
        assert (await world.checked(number))["message"] == "没有找到新邮件"
        assert [subject for subject, _ in await told(world)] == [*["Your code"] * 3, "other", "Your code"]


async def test_a_long_history_comes_from_its_end_and_a_second_check_goes_on_where_the_first_was_cut(
    server: Dovecot, user: str
) -> None:
    server.add_mail(user, *[mail(f"mail {n}", message_id=f"{n}@example.com") for n in range(1, 301)])
    async with real_world() as world:
        number = await add(world, server, user)
        await world.do("check_emails", email_ids=[number])
        await world.until(U, lambda body: body["type"] == "mail_received")
        await world.do("cancel_check", email_ids=[number])
        first = [subject for subject, _ in await told(world)]
        assert 0 < len(first) < 300
        assert "mail 300" in first
        assert "mail 1" not in first
        server.add_mail(user, mail("newest", message_id="new@example.com"))
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


LIMITS = msgspec.structs.replace(QUICK, folders=("junk",), unread=True)


def mime(subject: str) -> bytes:
    return f"Subject: {subject}\r\nFrom: a@b.c\r\nMessage-ID: <{subject}@b.c>\r\n\r\nx\r\n".encode()


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


DAYS = 3


def limits(bodies: str, **changed: Any) -> CheckLimits:
    return msgspec.structs.replace(QUICK, bodies=bodies, **changed)


def with_file(subject: str, text: str = "the text") -> bytes:
    return (
        f"Subject: {subject}\r\nFrom: a@b.c\r\nTo: team@b.c\r\nMessage-ID: <{subject}@b.c>\r\n"
        "Content-Type: multipart/mixed; boundary=x\r\n\r\n"
        f"--x\r\n\r\n{text}\r\n"
        '--x\r\nContent-Disposition: attachment; filename="a.txt"\r\n\r\nfile\r\n--x--\r\n'
    ).encode()


async def text_of(world: MailWorld, mail_id: int) -> str:
    body = await world.do("get_mail", mail_id=mail_id)
    return str(body.get("text", body.get("code")))


async def test_history_is_told_by_headers_and_a_new_mail_with_its_code(server: Dovecot, user: str) -> None:
    async with real_world(limits("on_demand")) as world:
        server.add_mail(user, with_file("old", "your verification code is 111111"), days_old=DAYS)
        server.add_mail(user, with_file("new", "your verification code is 222222"))
        email_id = await add(world, server, user)
        assert (await world.checked(email_id))["status"] == "ok"
        rows = await listed(world, email_id)
        assert (rows["new"]["code"], "code" in rows["old"]) == ("222222", False)
        assert (rows["old"]["has_attachments"], rows["old"]["size"] > 100) == (True, True)
        assert "111111" in await text_of(world, rows["old"]["mail_id"])
        server.expunge(user, 1)
        assert "111111" in await text_of(world, rows["old"]["mail_id"]), "it is kept once it was read"


async def test_the_rest_is_read_in_the_background_and_the_mailbox_stays_untouched(
    server: Dovecot, user: str
) -> None:
    async with real_world(limits("background")) as world:
        server.add_mail(user, *(with_file(f"old {n}", f"text {n}") for n in range(120)), days_old=DAYS)
        before = server.snapshot(user)
        email_id = await add(world, server, user)
        await world.checked(email_id)
        await world.mail.idle()
        assert server.snapshot(user) == before
        server.expunge(user, *range(1, 121))
        rows = await listed(world, email_id)
        for n in (0, 60, 119):
            assert await text_of(world, rows[f"old {n}"]["mail_id"]) == f"text {n}"


async def test_a_restart_goes_on_with_what_is_missing(server: Dovecot, user: str) -> None:
    async with real_world(limits("background")) as world:
        server.add_mail(user, with_file("old"), days_old=DAYS)
        email_id = await add(world, server, user)
        await world.checked(email_id)
        await world.restart()
        await world.mail.idle()
        server.expunge(user, 1)
        assert await text_of(world, (await listed(world, email_id))["old"]["mail_id"]) == "the text"


async def test_a_mailbox_that_is_deleted_meanwhile_leaves_nothing(server: Dovecot, user: str) -> None:
    async with real_world(limits("background")) as world:
        server.add_mail(user, *(with_file(f"old {n}") for n in range(30)), days_old=DAYS)
        email_id = await add(world, server, user)
        await world.checked(email_id)
        await world.do("delete_emails", email_ids=[email_id])
        await world.mail.idle()
        for table, part in (("missing", str(email_id)), ("mails", str(email_id)), ("unread_bodies", "")):
            assert await world.log.rows(table, part, limit=5) == []
