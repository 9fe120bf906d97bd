"""FireMail's front end on its WebSocket and over HTTP, and its database brought over."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from huahuo.app.config import Settings, Table
from huahuo.cli.import_firemail import Report, import_database
from huahuo.errors import HuahuoError
from huahuo.mailcheck import mail, zh
from huahuo.users.book import is_dated
from tests.support.models.firemail_database import FireMailDatabase
from tests.support.models.outlook_file import attachment, compound, text
from tests.support.patience import WITHIN_S
from tests.support.worlds.firemail import FrontEnd, Running, service

OUTLOOK = "a@outlook.com----pass-canary----0e2d1c3b-1111-2222-3333-444455556666----refresh-canary"


async def add(client: FrontEnd, email: str = "a@example.com", **fields: Any) -> int:
    given = {"mail_type": "imap", "server": "127.0.0.1", "port": 9, "use_ssl": False} | fields
    await client.say("add_email", email=email, password="pass-canary", **given)
    number: int = (await client.until("email_added"))["email_id"]
    return number


async def test_a_session_as_that_front_end_runs_it(tmp_path: Path) -> None:
    async with service(tmp_path / "d") as running, running.signed_in() as client:
        await client.say("get_all_emails")
        assert (await client.until("emails_list"))["data"] == []
        email_id = await add(client)
        await client.say("heartbeat")
        assert (await client.until("heartbeat_response"))["timestamp"]
        await client.say("get_all_emails")
        row = (await client.until("emails_list"))["data"][0]
        assert (row["id"], row["email"], row["password"], row["use_ssl"]) == (
            email_id,
            "a@example.com",
            "******",
            0,
        )
        await client.say("get_mail_records", email_id=email_id)
        assert await client.until("mail_records", email_id=email_id, data=[])
        await client.say("delete_emails", email_ids=[email_id, email_id + 7])
        gone = await client.until("emails_deleted")
        assert (gone["email_ids"], gone["message"]) == ([email_id], "已删除 1 个邮箱")
        await client.say("get_all_emails")
        await client.until("emails_list")
        kinds = [message["type"] for message in client.seen]
        assert (kinds.count("email_added"), kinds.count("emails_deleted")) == (1, 1)
        assert "canary" not in str(client.seen)


async def test_rule_11_a_close_is_answered_at_once(tmp_path: Path) -> None:
    async with service(tmp_path / "d") as running, running.signed_in() as client:
        await client.say("check_emails", email_ids=[await add(client)])
        async with asyncio.timeout(WITHIN_S):
            await client.ws.close(1000)
        assert client.ws.close_code == 1000


@pytest.mark.parametrize("path", ["/", "/ws", "/anything/else"])
async def test_rules_12_and_13_any_path_and_its_order_of_messages(tmp_path: Path, path: str) -> None:
    async with service(tmp_path / "d") as running, running.front_end(path) as client:
        await client.say("authenticate", token=running.token())
        assert (await client.next())["type"] == "auth_result"
        for _ in range(2):
            await client.say("get_all_emails")
        assert [(await client.until("emails_list"))["data"] for _ in range(2)] == [[], []]


async def test_a_failed_check_ends_at_100_once_and_says_why(tmp_path: Path) -> None:
    async with service(tmp_path / "d") as running, running.signed_in() as client:
        email_id = await add(client)
        await client.say("check_emails", email_ids=[email_id])
        assert (await client.until("success"))["message"] == "开始检查 1 个邮箱"
        await client.until("check_progress", progress=100)
        assert (await client.until("error"))["message"]
        told = [one["progress"] for one in client.seen if one["type"] == "check_progress"]
        assert told == sorted(told)
        assert told.count(100) == 1


async def test_a_bad_token_gets_an_error_and_close_1000(tmp_path: Path) -> None:
    async with service(tmp_path / "d") as running, running.front_end("/") as client:
        await client.say("authenticate", token="no token")
        assert await client.next() == {"type": "error", "message": "无效的认证令牌，请重新登录"}
        assert await client.closed() == 1000


async def test_a_revoked_user_is_told_and_must_not_come_back(tmp_path: Path) -> None:
    async with service(tmp_path / "d") as running, running.signed_in() as client:
        await running.app.users.end_sessions(42, principal="service")
        assert (await client.until("error"))["message"] == "无效的认证令牌，请重新登录"
        assert await client.closed() == 1000


async def test_a_stop_closes_with_a_code_after_which_it_comes_back(tmp_path: Path) -> None:
    async with service(tmp_path / "d") as running, running.signed_in() as client:
        stopping = asyncio.create_task(running.app.stop(5))
        assert await client.closed() == 1012
        await stopping


async def test_a_command_that_arrives_twice_is_done_once_and_answered_twice(tmp_path: Path) -> None:
    async with service(tmp_path / "d") as running, running.signed_in() as client:
        fields = {"email": "a@example.com", "password": "p", "mail_type": "imap", "server": "127.0.0.1"}
        for _ in range(2):
            await client.say("add_email", **fields)
        first, second = await client.until("email_added"), await client.until("email_added")
        assert first == second
        await client.say("add_email", **fields)
        assert await client.until("email_added") == first
        await client.say("get_all_emails")
        assert len((await client.until("emails_list"))["data"]) == 1
        assert "error" not in [one["type"] for one in client.seen]


async def test_an_import_that_is_too_large_is_answered_before_the_close(tmp_path: Path) -> None:
    lines = "\n".join(f"user{number:05}@example.com----pass-canary" for number in range(30_000))
    async with service(tmp_path / "d") as running, running.signed_in() as client:
        await client.say("import_emails", data=lines, mailType="imap")
        assert "1024 KiB" in (await client.until("error"))["message"]
        [failed] = (await client.until("import_result"))["failed_details"]
        assert "1024 KiB" in failed["reason"]
        assert await client.closed() == 1009
    assert "canary" not in str(client.seen)


async def test_an_import_of_more_lines_than_one_command_takes_has_one_answer(tmp_path: Path) -> None:
    lines = "\n".join(f"u{number % 300}@x.de----p" for number in range(25_000))
    async with service(tmp_path / "d") as running, running.signed_in() as client:
        await client.say("import_emails", data=lines, mailType="imap")
        result = await client.until("import_result")
        assert (result["total"], result["success"], result["failed"]) == (25_000, 300, 24_700)
        assert {one["reason"] for one in result["failed_details"]} == {"邮箱地址重复"}
        await client.say("get_all_emails")
        assert len((await client.until("emails_list"))["data"]) == 300


async def test_an_import_ends_with_its_result_and_repeats_no_line(tmp_path: Path) -> None:
    async with service(tmp_path / "d") as running, running.signed_in() as client:
        await client.say("import_emails", data=f"{OUTLOOK}\nonly----pass-canary\n", mail_type="outlook")
        result = await client.until("import_result")
        assert (result["total"], result["success"], result["failed"]) == (2, 1, 1)
        assert result["failed_details"][0]["reason"] == zh.FOUR_FIELDS.format(2)
        await client.say("get_all_emails")
        row = (await client.until("emails_list"))["data"][0]
        assert (row["refresh_token"], row["client_id"]) == ("******", "******")
        kinds = [one["type"] for one in client.seen]
        assert "email_added" not in kinds
        assert kinds.count("emails_imported") == 1
        assert "canary" not in str(client.seen)


async def test_what_another_connection_does_is_told(tmp_path: Path) -> None:
    async with service(tmp_path / "d") as running, running.signed_in() as one, running.signed_in() as other:
        email_id = await add(one)
        assert (await other.until("email_added"))["email_id"] == email_id
        await one.say("delete_emails", email_ids=[email_id])
        assert (await other.until("emails_deleted"))["email_ids"] == [email_id]


async def test_an_import_of_another_client_is_told_in_a_few_messages(tmp_path: Path) -> None:
    lines = "\n".join(f"u{number}@example.com----p" for number in range(2_000))
    async with service(tmp_path / "d") as running, running.signed_in() as one, running.signed_in() as other:
        await one.say("import_emails", data=lines, mail_type="imap")
        assert (await one.until("import_result"))["success"] == 2_000
        await other.until("email_added")
        await other.say("get_all_emails")
        assert len((await other.until("emails_list"))["data"]) == 2_000
        assert [message["type"] for message in other.seen].count("email_added") < 200


async def test_nobody_sees_or_touches_mailboxes_of_another_user(tmp_path: Path) -> None:
    async with service(tmp_path / "d") as running, running.signed_in() as one, running.signed_in(7) as other:
        email_id = await add(one)
        await other.say("get_mail_records", email_id=email_id)
        assert (await other.until("error"))["message"] == f"邮箱ID {email_id} 不存在或您没有权限"
        await other.say("check_emails", email_ids=[email_id])
        assert (await other.until("error"))["message"] == "您没有权限检查任何指定的邮箱"
        await other.say("delete_emails", email_ids=[email_id])
        assert (await other.until("emails_deleted"))["email_ids"] == []
        await one.say("get_all_emails")
        assert len((await one.until("emails_list"))["data"]) == 1


async def test_a_repeated_sign_in_succeeds_and_a_message_before_it_does_not(tmp_path: Path) -> None:
    async with service(tmp_path / "d") as running, running.front_end() as client:
        await client.say("get_all_emails")
        assert await client.next() == {"type": "error", "message": "请先进行认证"}
        for _ in range(2):
            await client.say("authenticate", token=running.token())
            assert (await client.until("auth_result"))["success"]
        await client.say("nothing_known")
        assert (await client.until("error"))["message"] == "未知的消息类型: nothing_known"
        await client.ws.send("{not json")
        assert (await client.until("error"))["message"] == "无效的消息格式"


async def test_the_document_dialect_is_spoken_beside_it(tmp_path: Path) -> None:
    async with service(tmp_path / "d") as running, running.front_end() as client:
        hello = {"action": "authenticate", "token": running.token()}
        await client.ws.send(msgspec.json.encode(hello).decode())
        assert (await client.next())["type"] == "authentication_result"
        await client.ws.send('{"action":"get_all_emails","id":"a"}')
        assert (await client.until("emails_list"))["id"] == "a"


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
