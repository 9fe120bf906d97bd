"""`huahuo import-firemail` on a database made by FireMail's own schema."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from huahuo.app.config import Settings, Table
from huahuo.cli.import_firemail import Report, import_database
from huahuo.errors import HuahuoError
from huahuo.mailcheck import mail
from huahuo.users.book import is_dated
from tests.support.models.firemail_database import FireMailDatabase
from tests.support.worlds.firemail import Running, service

UUID = "0e2d1c3b-1111-2222-3333-444455556666"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[FireMailDatabase]:
    made = FireMailDatabase(tmp_path / "huohuo_email.db")
    yield made
    made.close()


def settings(data: Path) -> Settings:
    return Table([mail()]).load(environ={}, flags={"data": data, "port": 0})


async def imported(database: FireMailDatabase, data: Path) -> Report:
    database.close()
    steps: list[int] = []
    report = await import_database(settings(data), [mail()], database.file, steps.append)
    assert steps == [1] * len(steps)
    return report


async def signed_in(running: Running, name: str, password: str) -> tuple[int, str]:
    async with running.http() as c:
        answer = await c.post("/login", json={"username": name, "password": password})
        assert answer.status_code == 200, answer.text
        return answer.json()["user"]["user_id"], answer.json()["token"]


async def asked(running: Running, token: str, action: str, **fields: Any) -> Any:
    async with running.http(token) as c:
        return (await c.post(f"/commands/{action}", json=fields)).json()


def fill(database: FireMailDatabase) -> None:
    """Two users with three mailboxes and five mails, and what cannot be brought."""
    root = database.user("root", "old-6", is_admin=1)
    alice = database.user("alice", "canary-user-pass")
    imap = database.mailbox(root, "a@example.com")
    database.mailbox(
        alice, "b@outlook.com", mail_type="outlook", client_id=UUID, refresh_token="canary-refresh",
        access_token="canary-access", server=None, port=None,
    )  # fmt: skip
    qq = database.mailbox(alice, "c@qq.com", mail_type="qq")
    database.mailbox(99, "lost@example.com")
    database.mailbox(alice, "no grant@outlook.com", mail_type="outlook", server=None, port=None)
    for subject in ("Your code", "Your code", "Your code"):
        database.mail(imap, subject, "code 482913")
    html = '{"content": "<p>hello</p>", "content_type": "text/html", "has_html": true}'
    first = database.mail(qq, "html", html, has_attachments=1, received_time="2026-02-01 08:00:00+08:00")
    database.put("attachments", mail_id=first, filename="a.pdf", content_type="application/pdf", size=5)
    database.mail(404, "of nobody")


async def test_users_mailboxes_and_mails_come_over(database: FireMailDatabase, tmp_path: Path) -> None:
    fill(database)
    report = await imported(database, tmp_path / "d")
    assert dict(report.added) == {"users": 2, "mailboxes": 3, "mails": 4}
    lines = list(report.lines())
    assert "mailboxes: 3 added, 0 there already, 2 left out" in lines
    assert "left out: 1 of the mailboxes: their user was not brought" in lines
    assert "left out: 1 of the mails: their mailbox was not brought" in lines
    assert "left out: the content of 1 attachments; their names and sizes are listed" in lines
    assert "canary" not in str(lines)
    assert str(lines).isascii()
    async with service(tmp_path / "d") as running:
        _, token = await signed_in(running, "alice", "canary-user-pass")
        rows = (await asked(running, token, "get_all_emails"))["data"]
        assert [(row["email"], row["mail_type"], row["mail_count"]) for row in rows] == [
            ("b@outlook.com", "outlook", 0),
            ("c@qq.com", "qq", 1),
        ]
        records = (await asked(running, token, "get_mail_records", email_id=rows[1]["id"]))["data"]
        assert [(one["subject"], one["received_time"], one["folder"]) for one in records] == [
            ("html", "2026-02-01T00:00:00.000Z", "IMPORTED")
        ]
        shown = await asked(running, token, "get_mail", mail_id=records[0]["mail_id"])
        assert (shown["html"], shown["attachments"][0]["name"]) == ("<p>hello</p>", "a.pdf")


async def test_passwords_still_sign_in_and_are_hashed_anew_at_the_first_time(
    database: FireMailDatabase, tmp_path: Path
) -> None:
    fill(database)
    await imported(database, tmp_path / "d")
    async with service(tmp_path / "d") as running:

        async def stored() -> str:
            sealed = await running.app.log.secret("account/1", "password")
            assert sealed is not None
            return sealed.reveal()

        assert is_dated(await stored())
        async with running.http() as c:
            wrong = await c.post("/login", json={"username": "root", "password": "old-7"})
            assert wrong.status_code == 401
        await signed_in(running, "root", "old-6")
        assert (await stored()).startswith("$argon2id$")
        await signed_in(running, "root", "old-6")
        user = running.app.users.users.named("root")
        assert user is not None
        assert user.is_admin


async def test_secrets_are_sealed_and_nothing_of_them_is_in_the_clear(
    database: FireMailDatabase, tmp_path: Path
) -> None:
    fill(database)
    await imported(database, tmp_path / "d")
    stored = b"".join(file.read_bytes() for file in (tmp_path / "d").rglob("*") if file.is_file())
    assert b"canary" not in stored
    async with service(tmp_path / "d") as running:
        sealed = await running.app.log.secret("mailbox/2", "refresh_token")
        assert sealed is not None
        assert sealed.reveal() == "canary-refresh"


async def test_a_second_import_brings_only_what_is_new(database: FireMailDatabase, tmp_path: Path) -> None:
    fill(database)
    await imported(database, tmp_path / "d")
    again = await imported(FireMailDatabase(database.file, ""), tmp_path / "d")
    assert dict(again.added) == {}
    assert dict(again.known) == {"users": 2, "mailboxes": 3, "mails": 4}
    later = FireMailDatabase(database.file, "")
    for number in range(250):
        later.mail(1, f"later {number}")
    third = await imported(later, tmp_path / "d")
    assert dict(third.added) == {"mails": 250}
    async with service(tmp_path / "d") as running:
        _, token = await signed_in(running, "root", "old-6")
        (row,) = (await asked(running, token, "get_all_emails"))["data"]
        assert (row["mail_count"], row["status"], row["message"]) == (253, "ok", "已导入 250 封邮件")


async def test_the_file_is_only_read(database: FireMailDatabase, tmp_path: Path) -> None:
    fill(database)
    before = hashlib.sha256(database.file.read_bytes()).digest()
    await imported(database, tmp_path / "d")
    assert hashlib.sha256(database.file.read_bytes()).digest() == before
    assert sorted(one.name for one in tmp_path.iterdir()) == ["d", "huohuo_email.db"]


async def test_an_older_database_without_the_later_columns_comes_over(tmp_path: Path) -> None:
    schema = """
    CREATE TABLE users (id INTEGER PRIMARY KEY, username TEXT, password TEXT, is_admin INTEGER);
    CREATE TABLE emails (id INTEGER PRIMARY KEY, user_id INTEGER, email TEXT, password TEXT,
        client_id TEXT, refresh_token TEXT, mail_type TEXT);
    """
    old = FireMailDatabase(tmp_path / "old.db", schema)
    old.put("users", username="root", password="in clear", is_admin=1)
    old.put(
        "emails", user_id=1, email="b@outlook.com", password="p", client_id=UUID, refresh_token="t",
        mail_type="outlook",
    )  # fmt: skip
    report = await imported(old, tmp_path / "d")
    assert dict(report.added) == {"users": 1, "mailboxes": 1}
    async with service(tmp_path / "d") as running:
        await signed_in(running, "root", "in clear")


async def test_what_is_no_such_database_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database " * 100)
    FireMailDatabase(tmp_path / "other.db", "CREATE TABLE things (id INTEGER)").close()
    for name, why in (("text.db", "cannot be read"), ("other.db", "no tables"), ("none.db", "no file")):
        with pytest.raises(HuahuoError, match=f"{why}"):
            await import_database(settings(tmp_path / "d"), [mail()], tmp_path / name, lambda _rows: None)
    assert not (tmp_path / "d").exists()


async def test_a_directory_in_use_is_refused(database: FireMailDatabase, tmp_path: Path) -> None:
    fill(database)
    async with service(tmp_path / "d"):
        with pytest.raises(HuahuoError, match="in use"):
            await import_database(settings(tmp_path / "d"), [mail()], database.file, lambda _rows: None)
