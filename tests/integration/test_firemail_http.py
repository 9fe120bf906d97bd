"""What FireMail's front end asks over HTTP: its names, forms and status codes, on the real service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.support.models.outlook_file import attachment, compound, text
from tests.support.worlds.firemail import Running, service

PASSWORD = "a good password"
IMAP = {"mail_type": "imap", "server": "127.0.0.1", "port": 9, "use_ssl": False, "password": "pass-canary"}


def front_end(folder: Path) -> Path:
    """A built front end of three files, with an inline script as the original's page has."""
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text(
        "<!doctype html><script>window.x = 1</script><script src='/env-config.js'></script><p>theirs</p>"
    )
    (folder / "env-config.js").write_text("window.API_URL = 'http://elsewhere.example'")
    (folder / "assets" / "app-1a2b.js").write_text("console.log(1)")
    return folder


@asynccontextmanager
async def classic(tmp_path: Path, **settings: Any) -> AsyncIterator[tuple[Running, httpx.AsyncClient]]:
    """A service that shows that front end, and its administrator."""
    async with service(tmp_path / "d", classic_ui=str(front_end(tmp_path / "ui")), **settings) as running:
        await running.app.users.add("root1", PASSWORD, is_admin=True, principal="test")
        async with running.http() as c:
            signed = await c.post("/api/auth/login", json={"username": "root1", "password": PASSWORD})
            c.headers["Authorization"] = f"Bearer {signed.json()['token']}"
            yield running, c


async def test_the_page_is_served_at_its_paths_and_the_console_beside_it(tmp_path: Path) -> None:
    async with classic(tmp_path) as (_, c):
        for path in ("/", "/login", "/emails/7", "/admin/users"):
            page = await c.get(path)
            assert (page.status_code, "theirs" in page.text) == (200, True), path
            policy = page.headers["content-security-policy"]
            assert "script-src 'self' 'sha256-" in policy
            assert "unsafe-eval" not in policy
        env = await c.get("/env-config.js")
        assert "\nwindow.API_URL = '';\nwindow.WS_URL = '/ws';\n" in env.text
        assert (await c.get("/assets/app-1a2b.js")).text == "console.log(1)"
        for path in ("/assets/none.js", "/api/none", "/none.png"):
            assert (await c.get(path)).status_code == 404, path
        console = await c.get("/console/")
        assert console.status_code == 200
        assert "theirs" not in console.text


async def test_sign_in_answers_what_that_page_needs(tmp_path: Path) -> None:
    async with classic(tmp_path) as (running, c):
        signed = await c.post("/api/auth/login", json={"username": "root1", "password": PASSWORD})
        assert signed.json()["user"] == {"id": 1, "username": "root1", "is_admin": 1}
        assert (await c.get("/api/auth/user")).json() == signed.json()["user"]
        wrong = await c.post("/api/auth/login", json={"username": "root1", "password": "x"})
        assert (wrong.status_code, wrong.json()["error"]) == (401, "用户名或密码错误")
        empty = await c.post("/api/auth/login", json={"username": "root1"})
        assert (empty.status_code, empty.json()["error"]) == (400, "用户名和密码不能为空")
        assert (await c.post("/api/auth/logout")).status_code == 200
        async with running.http("stale") as stranger:
            refused = await stranger.get("/api/emails")
            assert refused.status_code == 401
            assert refused.json()["error"]
            assert (await stranger.get("/api/config")).json()["allow_register"] is False


async def test_mailboxes_are_added_shown_changed_and_deleted(tmp_path: Path) -> None:
    async with classic(tmp_path) as (_, c):
        added = await c.post("/api/emails", json={"email": "a@example.com", **IMAP})
        assert (added.status_code, added.json()["message"]) == (200, "邮箱 a@example.com 添加成功")
        again = await c.post("/api/emails", json={"email": "a@example.com", **IMAP})
        assert (again.status_code, again.json()["error"]) == (409, "邮箱 a@example.com 添加失败，可能已存在")
        bare = await c.post("/api/emails", json={"email": "b@example.com"})
        assert (bare.status_code, bare.json()["error"]) == (400, "邮箱地址和密码不能为空")
        (row,) = (await c.get("/api/emails")).json()
        names = {"id", "email", "password", "mail_type", "server", "port", "use_ssl", "client_id"}
        assert names | {"refresh_token", "last_check_time", "enable_realtime_check", "created_at"} <= set(row)
        changed = await c.put(f"/api/emails/{row['id']}", json={**row, "port": 10})
        assert changed.status_code == 200
        assert (await c.get(f"/api/emails/{row['id']}")).json()["port"] == 10
        assert (await c.get(f"/api/emails/{row['id']}/password")).status_code == 403
        assert (await c.delete(f"/api/emails/{row['id']}")).json()["message"] == f"邮箱 ID {row['id']} 已删除"
        assert (await c.delete(f"/api/emails/{row['id']}")).status_code == 404


async def test_a_mailbox_of_nobody_is_not_watched_and_refusals_are_in_chinese(tmp_path: Path) -> None:
    async with classic(tmp_path) as (running, c):
        nobody = await c.post("/api/emails/999/realtime", json={"enable": True})
        assert (nobody.status_code, nobody.json()["error"]) == (404, "邮箱不存在或您没有权限")
        broken = await c.post("/api/emails", content=b"no json")
        assert (broken.status_code, broken.json()["error"]) == (400, "无效的请求数据格式")
        async with running.http("") as stranger:
            unknown = await stranger.get("/api/emails", headers={"Authorization": ""})
            assert (unknown.status_code, unknown.json()["error"]) == (401, "未认证，请先登录")


async def test_a_check_answers_202_at_once_and_409_while_it_runs(tmp_path: Path) -> None:
    async with classic(tmp_path) as (_, c):
        email_id = (await c.post("/api/emails", json={"email": "a@example.com", **IMAP})).json()["email_id"]
        begun = await c.post(f"/api/emails/{email_id}/check")
        assert (begun.status_code, begun.json()["success"]) == (202, True)
        assert (await c.post("/api/emails/99/check")).status_code == 404
        # The next one either finds it running or begins another, as that check goes.
        again = await c.post(f"/api/emails/{email_id}/check")
        assert (again.status_code, again.json()["status"]) in {(202, "processing"), (409, "processing")}
        many = await c.post("/api/emails/batch_check", json={"email_ids": [email_id]})
        assert many.status_code in {202, 409}
        nothing = await c.post("/api/emails/batch_delete", json={"email_ids": []})
        assert (nothing.status_code, nothing.json()["error"]) == (400, "未提供邮箱ID")


async def test_the_page_is_told_chinese_whatever_its_browser_prefers(tmp_path: Path) -> None:
    async with classic(tmp_path) as (_, c):
        english = {"Accept-Language": "en-US,en;q=0.9"}
        given = {"username": "root1", "password": "not this one"}
        wrong = await c.post("/api/auth/login", json=given, headers=english)
        assert wrong.json()["error"] == "用户名或密码错误"
        missing = await c.delete("/api/emails/99", headers=english)
        assert missing.json()["error"] == "邮箱ID 99 不存在或您没有权限"


async def test_an_import_tells_its_counts_and_no_line(tmp_path: Path) -> None:
    async with classic(tmp_path) as (_, c):
        lines = "a@outlook.com----canary----0e2d1c3b-1111-2222-3333-444455556666----t\nonly----canary"
        done = await c.post("/api/emails/import", json={"data": lines, "mail_type": "outlook"})
        assert {name: done.json()[name] for name in ("total", "success", "failed")} == {
            "total": 2,
            "success": 1,
            "failed": 1,
        }
        assert "canary" not in done.text
        assert (await c.post("/api/emails/import", json={"data": " "})).status_code == 400


async def test_an_import_that_is_larger_than_a_command_is_taken_whole(tmp_path: Path) -> None:
    async with classic(tmp_path) as (_, c):
        grant = f"pw----0e2d1c3b-1111-2222-3333-444455556666----{'t' * 1000}"
        lines = [f"a{number}@outlook.com----{grant}" for number in range(1_200)]
        lines[1_100] = "only----canary"
        done = await c.post("/api/emails/import", json={"data": "\n".join(lines), "mail_type": "outlook"})
        counts = {name: done.json()[name] for name in ("total", "success", "failed")}
        assert counts == {"total": 1_200, "success": 1_199, "failed": 1}
        assert [one["line"] for one in done.json()["failed_details"]] == [1_101]
        assert len((await c.get("/api/emails")).json()) == 1_199


async def test_administrators_keep_users_and_others_may_not(tmp_path: Path) -> None:
    async with classic(tmp_path) as (running, c):
        made = await c.post("/api/users", json={"username": "alice", "password": PASSWORD, "is_admin": False})
        assert made.status_code == 200
        taken = await c.post("/api/users", json={"username": "alice", "password": PASSWORD})
        assert (taken.status_code, taken.json()["error"]) == (409, "用户名已存在")
        short = await c.post("/api/users", json={"username": "bob", "password": "short"})
        assert short.status_code == 400
        users = (await c.get("/api/users")).json()
        assert [(one["username"], one["is_admin"]) for one in users] == [("alice", 0), ("root1", 1)]
        alice = users[0]["id"]
        reset = await c.post(f"/api/users/{alice}/reset-password", json={"new_password": "another good one"})
        assert reset.status_code == 200
        async with running.http() as hers:
            signed = await hers.post(
                "/api/auth/login", json={"username": "alice", "password": "another good one"}
            )
            hers.headers["Authorization"] = f"Bearer {signed.json()['token']}"
            refused = await hers.get("/api/users")
            assert (refused.status_code, "error" in refused.json()) == (403, True)
            change = {"old_password": "wrong one", "new_password": PASSWORD}
            wrong = await hers.post("/api/auth/change-password", json=change)
            assert (wrong.status_code, wrong.json()["error"]) == (400, "旧密码不正确")
            right = {"old_password": "another good one", "new_password": PASSWORD}
            assert (await hers.post("/api/auth/change-password", json=right)).status_code == 200
            assert (await hers.get("/api/auth/user")).status_code == 401
        assert (await c.delete("/api/users/1")).json()["error"] == "不能删除自己的账户"
        assert (await c.delete(f"/api/users/{alice}")).status_code == 200


async def test_registration_is_off_until_an_administrator_allows_it(tmp_path: Path) -> None:
    async with classic(tmp_path) as (running, c), running.http() as stranger:
        account = {"username": "carol", "password": PASSWORD}
        refused = await stranger.post("/api/auth/register", json=account)
        assert (refused.status_code, refused.json()["error"]) == (403, "注册功能已禁用")
        assert (await c.post("/api/admin/config/registration", json={"allow": True})).status_code == 200
        assert (await stranger.get("/api/config")).json()["allow_register"] is True
        assert (await stranger.post("/api/auth/register", json=account)).json()["is_admin"] is False
        assert (await stranger.post("/api/auth/register", json=account)).status_code == 409
    async with classic_again(tmp_path) as stranger:
        assert (await stranger.get("/api/config")).json()["allow_register"] is True


@asynccontextmanager
async def classic_again(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with service(tmp_path / "d", classic_ui=str(tmp_path / "ui")) as running, running.http() as c:
        yield c


EML = (
    b"Subject: Invoice for Paris\r\nFrom: Rail <rail@example.com>\r\nMessage-ID: <up@x>\r\n"
    b"Date: Tue, 24 Nov 2026 10:31:07 +0000\r\n\r\nthe ticket\r\n"
)


async def test_a_mail_file_is_uploaded_listed_and_found(tmp_path: Path) -> None:
    async with classic(tmp_path) as (running, c):
        email_id = (await c.post("/api/emails", json={"email": "a@example.com", **IMAP})).json()["email_id"]
        url = f"/api/emails/{email_id}/upload_email_file"
        sent = await c.post(url, files={"file": ("票.eml", EML, "message/rfc822")})
        assert (sent.status_code, sent.json()["success"]) == (200, True), sent.text
        again = await c.post(url, files={"file": ("a.txt", EML)})
        assert again.json()["mail_id"] == sent.json()["mail_id"]
        second = EML.replace(b"up@x", b"other@x").replace(b"Invoice", b"Receipt")
        box = b"From a@b Tue Nov 24\n" + second + b"\nFrom c@d Tue Nov 24\n" + EML
        assert len((await c.post(url, files={"file": ("all.mbox", box)})).json()["mail_ids"]) == 2
        for name, content in (("a.msg", EML), ("a.eml", b""), ("a.eml", b"\r\n\r\nnothing")):
            refused = await c.post(url, files={"file": (name, content)})
            assert (refused.status_code, bool(refused.json()["error"])) == (400, True), name
        assert (
            await c.post("/api/emails/99/upload_email_file", files={"file": ("a.eml", EML)})
        ).status_code == 404
        records = (await c.get(f"/api/emails/{email_id}/mail_records")).json()
        assert {one["subject"] for one in records} == {"Invoice for Paris", "Receipt for Paris"}
        assert {one["folder"] for one in records} == {"UPLOADED"}
        await running.app.api("mail").idle()
        for asked, count in (
            ({"query": "paris"}, 2),
            ({"query": "invoi"}, 1),
            ({"query": "rail", "search_in": ["sender"]}, 2),
            ({"query": "rail", "search_in": ["subject"]}, 0),
            ({"query": "a@example.com", "search_in": ["recipient"]}, 2),
            ({"query": "ticket", "search_in": ["content"]}, 2),
        ):
            found = (await c.post("/api/search", json=asked)).json()["results"]
            assert len(found) == count, asked
        assert (found[0]["email_address"], found[0]["content"].strip()) == ("a@example.com", "the ticket")


async def test_files_that_came_with_an_uploaded_mail_are_given_out_and_go_with_the_mailbox(
    tmp_path: Path,
) -> None:
    file = b"canary %PDF" * 1_000
    msg = compound({
        **dict([text("0037", "Ticket"), text("5D01", "rail@example.com"), text("1000", "see the file")]),
        **attachment(0, text("3707", "票.pdf"), ("__substg1.0_37010102", file)),
    })  # fmt: skip
    async with classic(tmp_path) as (running, c):
        email_id = (await c.post("/api/emails", json={"email": "a@example.com", **IMAP})).json()["email_id"]
        url = f"/api/emails/{email_id}/upload_email_file"
        sent = await c.post(url, files={"file": ("票.msg", msg)})
        assert (sent.status_code, sent.json()["success"]) == (200, True), sent.text
        records = (await c.get(f"/api/emails/{email_id}/mail_records")).json()
        assert [(one["subject"], one["sender"]) for one in records] == [("Ticket", "rail@example.com")]
        (listed,) = (await c.get(f"/api/mail_records/{sent.json()['mail_id']}/attachments")).json()
        assert listed["filename"] == "票.pdf"
        assert (await c.get(f"/api/attachments/{listed['id']}/download")).content == file
        await running.app.api("mail").idle()
        (found,) = (await c.post("/api/search", json={"query": "ticket"})).json()["results"]
        assert found["attachments"] == [listed]
        await c.delete(f"/api/emails/{email_id}")
        await running.app.api("mail").idle()
        log = running.app.log
        assert await log.rows("sources", str(email_id), limit=9) == []


async def test_a_connection_that_does_not_work_is_told_with_the_reason_and_kept_nowhere(
    tmp_path: Path,
) -> None:
    async with classic(tmp_path, mail_allow_private=True) as (_, c):
        told = await c.post("/api/emails/test-connection", json={"email": "a@example.com", **IMAP})
        assert (told.status_code, told.json()["success"]) == (400, False)
        assert "无法连接邮箱服务器" in told.json()["message"]
        assert "canary" not in told.text
        assert (await c.get("/api/emails")).json() == []


async def test_an_administrator_sees_the_mailboxes_and_mails_of_all(tmp_path: Path) -> None:
    async with classic(tmp_path) as (running, c):
        await running.app.users.add("alice", PASSWORD, principal="test")
        async with running.http() as hers:
            signed = await hers.post("/api/auth/login", json={"username": "alice", "password": PASSWORD})
            hers.headers["Authorization"] = f"Bearer {signed.json()['token']}"
            email_id = (await hers.post("/api/emails", json={"email": "h@example.com", **IMAP})).json()[
                "email_id"
            ]
            await hers.post(f"/api/emails/{email_id}/upload_email_file", files={"file": ("a.eml", EML)})
            own = (await c.post("/api/emails", json={"email": "own@example.com", **IMAP})).json()["email_id"]
            assert [row["id"] for row in (await c.get("/api/emails")).json()] == [own, email_id]
            assert [row["id"] for row in (await hers.get("/api/emails")).json()] == [email_id]
            records = (await c.get(f"/api/emails/{email_id}/mail_records")).json()
            assert [one["subject"] for one in records] == ["Invoice for Paris"]
            assert (await hers.get(f"/api/emails/{own}/mail_records")).status_code == 404
            assert (await c.delete(f"/api/emails/{email_id}")).status_code == 404


async def test_without_the_setting_there_is_no_such_http(tmp_path: Path) -> None:
    async with service(tmp_path / "d") as running, running.http(running.token()) as c:
        assert (await c.get("/api/emails")).status_code == 404
        assert (await c.get("/api/config")).status_code == 404
        assert (await c.get("/login")).status_code == 405
