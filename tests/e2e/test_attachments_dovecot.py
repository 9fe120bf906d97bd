"""Attachments are read from a real mail server when they are asked for, and the server is left as it is."""

import asyncio
from base64 import b64decode
from pathlib import Path

import pytest

from tests.support.servers.dovecot import PASSWORD, dovecot
from tests.support.worlds.firemail import FrontEnd, service

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

USER = "a@example.com"
FILE = bytes(range(256)) * 40


def quoted(content: bytes) -> bytes:
    """Quoted-printable, each byte as a number."""
    lines = (content[at : at + 20] for at in range(0, len(content), 20))
    return b"=\r\n".join(b"".join(b"=%02X" % byte for byte in line) for line in lines)


def with_files(subject: str) -> bytes:
    """A mail with a picture inside and two files, one with a Chinese name."""
    head = f"Subject: {subject}\r\nMIME-Version: 1.0\r\n".encode()
    head += b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
    text = b"--b\r\nContent-Type: text/plain\r\n\r\nsee the files\r\n"
    first = (
        b"--b\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: quoted-printable\r\n"
        b"Content-Disposition: attachment; filename*=UTF-8''%E6%8A%A5%E5%91%8A.bin\r\n\r\n"
        + quoted(FILE)
        + b"\r\n"
    )
    second = (
        b"--b\r\nContent-Type: text/html; name=page.html\r\nContent-Disposition: attachment; "
        b"filename=page.html\r\n\r\n<script>alert(1)</script>\r\n--b--\r\n"
    )
    return head + text + first + second


async def checked(client: FrontEnd, email_id: int) -> None:
    await client.say("check_emails", email_ids=[email_id])
    await client.until("check_progress", progress=100)


async def test_a_file_is_read_when_it_is_asked_for_and_gone_when_the_mail_is(tmp_path: Path) -> None:
    ui = tmp_path / "ui"
    ui.mkdir()
    (ui / "index.html").write_text("<p>page</p>")
    with dovecot() as server:
        server.add_user(USER)
        server.add_mail(USER, b"Subject: none\r\n\r\nplain", with_files("files"))
        async with (
            service(tmp_path / "d", classic_ui=str(ui)) as running,
            running.signed_in() as client,
            running.http(running.token()) as c,
            running.http(running.token(7)) as other,
        ):
            await client.say(
                "add_email", email=USER, password=PASSWORD, mail_type="imap", server="127.0.0.1",
                port=server.port, use_ssl=False,
            )  # fmt: skip
            email_id = (await client.until("email_added"))["email_id"]
            await checked(client, email_id)
            before = server.snapshot(USER)
            mails = (await c.get(f"/api/emails/{email_id}/mail_records")).json()
            (mail,) = [one for one in mails if one["has_attachments"]]
            files = (await c.get(f"/api/mail_records/{mail['id']}/attachments")).json()
            assert [(one["filename"], one["content_type"]) for one in files] == [
                ("报告.bin", "application/octet-stream"),
                ("page.html", "text/html"),
            ]
            got = await c.get(f"/api/attachments/{files[0]['id']}/download")
            assert (got.status_code, got.content == FILE) == (200, True)
            assert got.headers["content-disposition"] == "attachment; filename*=UTF-8''%E6%8A%A5%E5%91%8A.bin"
            page = await c.get(f"/api/attachments/{files[1]['id']}/download")
            assert page.text.strip() == "<script>alert(1)</script>"
            assert page.headers["content-security-policy"].startswith("sandbox")
            assert page.headers["x-content-type-options"] == "nosniff"
            assert server.snapshot(USER) == before
            command = {"mail_id": mail["id"], "index": 0}
            reply = (await c.post("/commands/get_attachment", json=command)).json()
            assert (reply["name"], b64decode(reply["data"]) == FILE) == ("报告.bin", True)
            for number, asker in ((2, c), (0, other)):
                refused = await asker.post(
                    "/commands/get_attachment", json={"mail_id": mail["id"], "index": number}
                )
                assert (refused.status_code, refused.json()["code"]) == (404, "not_found")
            many = await asyncio.gather(*(c.post("/commands/get_attachment", json=command) for _ in range(4)))
            assert {one.status_code for one in many} <= {200, 503}
            server.expunge(USER, 2)
            gone = await c.get(f"/api/attachments/{files[0]['id']}/download")
            assert (gone.status_code, gone.json()["error"]) == (404, "邮件已不在邮箱服务器上")
