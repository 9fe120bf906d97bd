"""FireMail's front end on its WebSocket: the dialect over real sockets, with mail behind it."""

import asyncio
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from huahuo.mailcheck import zh
from tests.support.patience import WITHIN_S
from tests.support.worlds.firemail import FrontEnd, service

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


async def test_rule_8_ids_are_integers_and_times_are_readable(tmp_path: Path) -> None:
    async with service(tmp_path / "d") as running, running.signed_in() as client:
        await add(client)
        await client.say("get_all_emails")
        row = (await client.until("emails_list"))["data"][0]
        assert [type(row[name]) for name in ("id", "user_id", "port", "use_ssl")] == [int] * 4
        datetime.fromisoformat(row["created_at"])
        assert row["last_check_time"] is None


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
