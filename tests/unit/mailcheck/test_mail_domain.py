"""The domain's shell: checks as effects, restarts, faults of the log, reports, queries."""

import asyncio
from typing import Any

import msgspec
import pytest

from huahuo.eventstore.errors import CommandMismatch, Unavailable
from huahuo.eventstore.model import Append, NewEvent
from huahuo.mailcheck.domain.reports import UnknownMailbox
from huahuo.mailcheck.servers.providers import Place
from huahuo.mailcheck.tables.records import CHECKS, MAIL, MAILS, PURGES
from tests.support.models.mail_book import USER, mail
from tests.support.models.mail_rules import broken_checks
from tests.support.worlds.mail_world import MailWorld, failed, in_mail_world

U = f"user/{USER}"


async def tables(world: MailWorld, email_id: int = 1) -> dict[str, int]:
    """How many rows each projection has."""
    parts = {MAILS: str(email_id), MAIL: "", CHECKS: "", PURGES: ""}
    return {name: len(await world.log.rows(name, part, limit=1000)) for name, part in parts.items()}


def progress_of(events: list[dict[str, Any]]) -> list[int]:
    return [e["progress"] for e in events if e["type"] == "check_progress"]


# -- a check ------------------------------------------------------------------------------------


def test_a_check_gets_target_and_secret_and_its_results_are_told_in_order() -> None:
    async def test(world: MailWorld) -> None:
        await world.add("a@example.com", server="imap.example.com", port=1143, use_ssl=False)
        await world.do("check_emails", email_ids=[1])
        check = await world.script.next()
        target = check.target
        assert target.places == (Place("imap.example.com", 1143, "offered"),)
        assert (target.user, target.secret.reveal()) == ("a@example.com", "canary-password")
        assert check.since is None
        await check.sink.progress(10, "正在登录邮箱")
        await check.mails(mail(1), mail(2))
        check.finish(2)
        assert (await world.ended(1))["status"] == "ok"
        assert [e["type"] for e in await world.said()] == [
            "email_added",
            "email_status_update",
            "email_status_update",
            "check_progress",
            "check_progress",
            "mail_received",
            "mail_received",
            "check_progress",
            "email_status_update",
        ]
        assert (await world.rows())[1]["message"] == "检查完成，共 2 封新邮件"

    in_mail_world(test)


def test_the_next_check_goes_on_behind_the_last() -> None:
    async def test(world: MailWorld) -> None:
        await world.add()
        await world.do("check_emails", email_ids=[1])
        first = await world.script.next()
        await first.mails(mail(7))
        first.finish(9)
        end = await world.ended(1)
        await world.do("check_emails", email_ids=[1])
        second = await world.script.next()
        assert second.since is not None
        assert (second.since.uid, second.since.uidvalidity) == (9, 1)
        second.finish(9)
        later = await world.until(U, lambda b: b.get("message") == "没有找到新邮件")
        assert later["check_id"] == end["check_id"] + 1

    in_mail_world(test)


def test_a_failure_ends_with_its_class_and_the_server_s_words() -> None:
    async def test(world: MailWorld) -> None:
        await world.add()
        for status, server_text in (("error", ""), ("need_reauth", "[AUTHENTICATIONFAILED] no")):
            head = world.log.head(U).seq
            await world.do("check_emails", email_ids=[1])
            (await world.script.next()).fail(failed(status, "失败", server_text))
            end = await world.ended(1, after=head)
            assert end["status"] == status
            assert end["message"] == (f"失败: {server_text}" if server_text else "失败")
        assert (await world.rows())[1]["last_check_time"] is None

    in_mail_world(test)


def test_a_fault_of_our_own_ends_the_check_without_its_text() -> None:
    async def test(world: MailWorld) -> None:
        await world.add()
        await world.do("check_emails", email_ids=[1])
        (await world.script.next()).fail(RuntimeError("canary-in-a-traceback"))
        end = await world.ended(1)
        assert (end["status"], "canary" in end["message"]) == ("error", False)

    in_mail_world(test)


def test_a_server_that_takes_no_passwords_is_not_asked_to_take_one() -> None:
    async def test(world: MailWorld) -> None:
        await world.add(server="outlook.office365.com")
        end = await world.checked(1)
        assert (end["status"], end["error_class"]) == ("need_reauth", "auth")
        assert "huahuo mailbox signin" in end["message"]
        assert world.script.begun == 0

    in_mail_world(test)


# -- how many at once ---------------------------------------------------------------------------


def test_checks_are_bounded_in_all_and_for_each_server_and_none_is_forgotten() -> None:
    async def test(world: MailWorld) -> None:
        for n in range(12):
            await world.add(f"{n}@example.com", server="busy.example.com" if n < 8 else f"s{n}.example.com")
        await world.do("check_emails", email_ids=list(range(1, 13)))
        hosts = []
        for _ in range(12):
            check = await world.script.next()
            hosts.append(check.target.host)
            assert world.mail.checks_running <= 3
            check.finish()
        assert world.script.running_peak <= 3
        # A busy server does not keep the others waiting until it is done.
        assert hosts.index("s11.example.com") < 9
        for n in range(1, 13):
            assert (await world.ended(n))["status"] == "ok"
        await world.mail.idle()
        assert (world.mail.checks_running, world.mail.checks_waiting) == (0, 0)

    in_mail_world(test, checks_max=3, checks_per_host_max=2)


def test_a_server_s_places_are_its_own() -> None:
    async def test(world: MailWorld) -> None:
        for n in range(4):
            await world.add(f"{n}@example.com", server="busy.example.com")
        await world.do("check_emails", email_ids=[1, 2, 3, 4])
        first = await world.script.next()
        await world.script.next()
        assert (world.mail.checks_running, world.mail.checks_waiting) == (2, 2)
        first.finish()
        await world.script.next()
        assert world.script.running_peak == 2

    in_mail_world(test, checks_max=10, checks_per_host_max=2)


def test_what_finds_no_room_in_the_line_is_picked_up_later() -> None:
    async def test(world: MailWorld) -> None:
        for n in range(4):
            await world.add(f"{n}@example.com", server="one.example.com")
        await world.do("check_emails", email_ids=[1, 2, 3, 4])
        for _ in range(4):
            (await world.script.next()).finish()
        for n in range(1, 5):
            assert (await world.ended(n))["status"] == "ok"

    in_mail_world(test, checks_max=1, checks_waiting_max=1)


# -- cancel and delete --------------------------------------------------------------------------


def test_a_cancel_stops_the_running_check() -> None:
    async def test(world: MailWorld) -> None:
        await world.add()
        await world.do("check_emails", email_ids=[1])
        check = await world.script.next()
        body = await world.do("cancel_check", email_ids=[1])
        assert body["cancelled"] == [1]
        await check.cancelled.wait()
        assert (await world.rows())[1]["status"] == "cancelled"

    in_mail_world(test)


def test_a_cancelled_check_that_waits_never_begins() -> None:
    async def test(world: MailWorld) -> None:
        await world.add("a@example.com")
        await world.add("b@example.com")
        await world.do("check_emails", email_ids=[1, 2])
        first = await world.script.next()
        await world.do("cancel_check", email_ids=[2])
        first.finish()
        await world.ended(1)
        assert (world.script.begun, world.mail.checks_waiting) == (0, 0)

    in_mail_world(test, checks_max=1)


def test_a_check_that_keeps_reporting_cannot_hold_a_cancel_up() -> None:
    async def test(world: MailWorld) -> None:
        for n in range(50):
            await world.add(f"{n}@example.com")
        ids = list(range(1, 51))
        await world.do("check_emails", email_ids=ids)
        checks = [await world.script.next() for _ in ids]

        async def report(number: int) -> None:
            for uid in range(1, 1000):
                # Out of step with one another: in every commit there is a mailbox that moves.
                await asyncio.sleep(number * 0.000_13)
                await checks[number].mails(mail(uid))

        reports = [asyncio.create_task(report(n)) for n in range(50)]
        await asyncio.sleep(0.05)
        body = await world.do("cancel_check", email_ids=ids)
        assert sorted(body["cancelled"]) == ids
        for ended in await asyncio.gather(*reports, return_exceptions=True):
            assert isinstance(ended, Exception)

    in_mail_world(test, checks_per_host_max=50, commit_s=0.003)


def test_a_deletion_leaves_no_row_no_blob_and_no_key() -> None:
    async def test(world: MailWorld) -> None:
        await world.add()
        await world.do("check_emails", email_ids=[1])
        check = await world.script.next()
        await check.mails(*[mail(n) for n in range(1, 6)])
        records = (await world.do("get_mail_records", email_id=1))["data"]
        stored = [msgspec.json.decode(v)["blob"] for _, v in await world.log.rows(MAILS, "1", limit=9)]
        assert (len(records), await tables(world)) == (5, {MAILS: 5, MAIL: 5, CHECKS: 1, PURGES: 0})
        await world.do("delete_emails", email_ids=[1])
        assert (await world.do("get_mail", mail_id=records[0]["mail_id"]))["code"] == "not_found"
        await check.cancelled.wait()
        await world.mail.idle()
        assert not any((await tables(world)).values())
        assert [await world.log.blob(blob) for blob in stored] == [None] * 5
        assert await world.log.secret("mailbox/1", "password") is None

    in_mail_world(test)


def test_heads_of_deleted_mailboxes_do_not_stay_in_memory_and_are_still_known() -> None:
    async def test(world: MailWorld) -> None:
        await world.add("kept@example.com")
        before = world.log.streams_in_memory
        for n in range(20):
            await world.do("delete_emails", email_ids=[await world.add(f"{n}@example.com")])
        await world.mail.idle()
        assert world.log.streams_in_memory == before
        assert all(world.log.head(f"mailbox/{n}").seq for n in range(1, 22))
        await world.restart()
        assert world.log.streams_in_memory == before
        assert len(world.log.streams("mailbox/")) == 21

    in_mail_world(test)


def test_a_content_that_two_mailboxes_have_stays_until_both_are_gone() -> None:
    async def test(world: MailWorld) -> None:
        for user in (USER, USER + 1):
            number = await world.add("a@example.com", user)
            await world.do("check_emails", user, email_ids=[number])
            check = await world.script.next()
            await check.mails(mail(1))
            check.finish(1)
            await world.ended(number, user)
        blob = msgspec.json.decode((await world.log.rows(MAILS, "1", limit=1))[0][1])["blob"]
        for user, number, left in ((USER, 1, True), (USER + 1, 2, False)):
            await world.do("delete_emails", user, email_ids=[number])
            await world.mail.idle()
            assert (await tables(world, number))[MAILS] == 0
            assert (await world.log.blob(blob) is not None) is left

    in_mail_world(test)


def test_a_purge_that_was_cut_short_goes_on_after_a_restart() -> None:
    async def test(world: MailWorld) -> None:
        await world.add()
        await world.do("check_emails", email_ids=[1])
        check = await world.script.next()
        await check.mails(mail(1), mail(2))
        tried = asyncio.Event()
        world.log.before_append = lambda append: _no_purges(append.rows, tried)
        await world.do("delete_emails", email_ids=[1])
        await check.cancelled.wait()
        await tried.wait()
        assert (await tables(world))[PURGES] == 1
        await world.restart()
        await world.mail.idle()
        assert not any((await tables(world)).values())

    def _no_purges(rows: tuple[Any, ...], tried: asyncio.Event) -> None:
        if any(row.table == MAIL for row in rows):
            tried.set()
            raise Unavailable("disk full")

    in_mail_world(test)


# -- restarts and faults ------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["restart", "crash"])
def test_a_running_check_goes_on_from_its_cursor_and_its_progress_does_not_go_back(how: str) -> None:
    async def test(world: MailWorld) -> None:
        await world.add()
        await world.do("check_emails", email_ids=[1])
        check = await world.script.next()
        await check.sink.progress(60, "…")
        await check.mails(mail(1), mail(2))
        await (world.restart() if how == "restart" else world.crash())
        again = await world.script.next()
        assert again.since is not None
        assert again.since.uid == 2
        await again.sink.progress(10, "正在登录邮箱")
        await again.mails(mail(2), mail(3))
        again.finish(3)
        end = await world.ended(1)
        assert (end["check_id"], end["message"]) == (1, "检查完成，共 3 封新邮件")
        assert progress_of(await world.said()) == [0, 60, 60, 100]
        assert (await tables(world))[CHECKS] == 0

    in_mail_world(test)


def test_a_check_that_was_only_queued_runs_after_a_restart() -> None:
    async def test(world: MailWorld) -> None:
        await world.add("a@example.com")
        await world.add("b@example.com")
        await world.do("check_emails", email_ids=[1, 2])
        await world.script.next()
        await world.restart()
        for _ in range(2):
            (await world.script.next()).finish()
        assert (await world.ended(1))["status"] == (await world.ended(2))["status"] == "ok"

    in_mail_world(test, checks_max=1)


def test_closing_ends_no_check() -> None:
    async def test(world: MailWorld) -> None:
        await world.add()
        await world.do("check_emails", email_ids=[1])
        check = await world.script.next()
        await world.mail.close()
        assert check.cancelled.is_set()
        assert broken_checks(await world.events(), ended=True) == ["check 1 never ended"]

    in_mail_world(test)


def test_a_check_whose_start_was_lost_with_the_answer_begins_all_the_same() -> None:
    async def test(world: MailWorld) -> None:
        await world.add()
        world.log.lose = ["after"]
        with pytest.raises(Unavailable):
            await world.reply("check_emails", email_ids=[1], command_id="c1")
        (await world.script.next()).finish()
        assert (await world.ended(1))["status"] == "ok"
        repeat = await world.reply("check_emails", email_ids=[1], command_id="c1")
        assert (repeat.duplicate, msgspec.json.decode(repeat.body)["accepted"]) == (True, [1])

    in_mail_world(test)


def test_a_check_that_met_a_full_disk_goes_on_when_there_is_room() -> None:
    async def test(world: MailWorld) -> None:
        await world.add()
        await world.do("check_emails", email_ids=[1])
        check = await world.script.next()
        world.log.lose = ["before"]
        with pytest.raises(Unavailable) as met:
            await check.mails(mail(1))
        check.fail(met.value)
        again = await world.script.next()
        await again.mails(mail(1))
        again.finish(1)
        assert (await world.ended(1))["status"] == "ok"

    in_mail_world(test)


# -- commands with an id ------------------------------------------------------------------------


def test_a_repeated_command_is_answered_and_not_done_again() -> None:
    async def test(world: MailWorld) -> None:
        fields: dict[str, Any] = {"email": "a@example.com", "password": "p"}
        first = await world.reply("add_email", command_id="c1", **fields)
        repeat = await world.reply("add_email", command_id="c1", **fields)
        assert (first.at, first.recorded, first.duplicate) == ((U, 1), True, False)
        assert (repeat.body, repeat.at, repeat.duplicate) == (first.body, first.at, True)
        assert len(await world.rows()) == 1

    in_mail_world(test)


def test_a_refusal_is_kept_too() -> None:
    async def test(world: MailWorld) -> None:
        await world.add("a@example.com")
        fields: dict[str, Any] = {"email": "a@example.com", "password": "p"}
        refused = await world.reply("add_email", command_id="c1", **fields)
        await world.do("delete_emails", email_ids=[1])
        repeat = await world.reply("add_email", command_id="c1", **fields)
        assert msgspec.json.decode(refused.body)["code"] == "already_exists"
        assert (repeat.body, repeat.duplicate) == (refused.body, True)

    in_mail_world(test)


def test_the_answer_s_position_is_that_of_the_last_event_on_the_user_s_stream() -> None:
    async def test(world: MailWorld) -> None:
        await world.add()
        reply = await world.reply("check_emails", email_ids=[1])
        assert reply.at == (U, 2)
        await world.script.next()

    in_mail_world(test)


LONG = "a@x.com----p\nb@x.com----p\nrubbish\nc@x.com----p\nOLD@x.com----p\nd@x.com----p\ne@x.com----p"
LONG_RESULT = {
    "type": "import_result",
    "total": 7,
    "success": 5,
    "failed": 2,
    "failed_details": [
        {"line": 3, "reason": "格式错误，至少需要2个字段"},
        {"line": 5, "reason": "邮箱地址已存在"},
    ],
}
"""What `LONG` brings where there is the address old@x.com already."""


def test_a_long_import_is_committed_in_parts_and_answered_once() -> None:
    async def test(world: MailWorld) -> None:
        await world.add("old@x.com")
        world.log.appends.clear()
        reply = await world.reply("import_emails", command_id="i1", data=LONG, mail_type="imap")
        assert msgspec.json.decode(reply.body) == LONG_RESULT
        assert reply.at == (U, 6)
        assert [len(append.secrets) for append in world.log.appends] == [2, 1, 2]
        assert {append.command_id for append in world.log.appends} == {"i1"}
        assert [row["email"][0] for row in (await world.rows()).values()] == list("oabcde")

    in_mail_world(test, import_lines_a_part=2)


@pytest.mark.parametrize("lost", [["", "before"], ["", "after"], ["", "", "after"]])
@pytest.mark.parametrize("crash", [False, True], ids=["goes on", "crash"])
def test_a_long_import_that_was_interrupted_is_completed_by_its_repeat(lost: list[str], crash: bool) -> None:
    async def test(world: MailWorld) -> None:
        await world.add("old@x.com")
        world.log.lose = list(lost)
        with pytest.raises(Unavailable):
            await world.reply("import_emails", command_id="i1", data=LONG, mail_type="imap")
        if crash:
            await world.crash()
        for _ in range(2):
            reply = await world.reply("import_emails", command_id="i1", data=LONG, mail_type="imap")
            assert msgspec.json.decode(reply.body) == LONG_RESULT
        assert [row["email"][0] for row in (await world.rows()).values()] == list("oabcde")
        await world.sound()

    in_mail_world(test, import_lines_a_part=2)


def test_the_id_of_a_long_import_that_was_interrupted_belongs_to_its_content() -> None:
    async def test(world: MailWorld) -> None:
        world.log.lose = ["", "before"]
        with pytest.raises(Unavailable):
            await world.reply("import_emails", command_id="i1", data=LONG, mail_type="imap")
        with pytest.raises(CommandMismatch):
            await world.reply("import_emails", command_id="i1", data=LONG + "1", mail_type="imap")

    in_mail_world(test, import_lines_a_part=2)


def test_a_long_import_of_an_unknown_type_is_refused_as_a_whole() -> None:
    async def test(world: MailWorld) -> None:
        body = await world.do("import_emails", data=LONG, mail_type="pop3")
        assert body["code"] == "invalid_field"

    in_mail_world(test, import_lines_a_part=2)


def test_an_import_too_long_is_refused_before_anything_is_done() -> None:
    async def test(world: MailWorld) -> None:
        body = await world.do("import_emails", data="a@x.com----p\nb@x.com----p", mail_type="imap")
        assert body["code"] == "too_large"
        body = await world.do("import_emails", data="a@x.com----p", mail_type="imap")
        assert body == {"type": "import_result", "total": 1, "success": 1, "failed": 0, "failed_details": []}

    in_mail_world(test, import_lines_max=1)


# -- queries ------------------------------------------------------------------------------------


def test_the_list_and_the_snapshot_are_cuts_that_say_where() -> None:
    async def test(world: MailWorld) -> None:
        await world.add("a@example.com")
        await world.add("b@example.com")
        listed = await world.do("get_all_emails")
        seq, cut = await world.mail.snapshot(U)
        state = b"".join(cut.pieces())
        assert (listed["type"], listed["stream"], listed["seq"], seq) == ("emails_list", U, 2, 2)
        assert listed["data"] == msgspec.json.decode(state)["emails"]
        assert [row["id"] for row in listed["data"]] == [1, 2]

    in_mail_world(test)


def test_a_user_without_mailboxes_has_an_empty_list() -> None:
    async def test(world: MailWorld) -> None:
        assert await world.do("get_all_emails", 99) == {
            "type": "emails_list",
            "data": [],
            "stream": "user/99",
            "seq": 0,
        }

    in_mail_world(test)


def test_mails_are_listed_newest_first_page_by_page() -> None:
    async def test(world: MailWorld) -> None:
        await world.add()
        await world.do("check_emails", email_ids=[1])
        check = await world.script.next()
        base = 1_700_000_000_000
        await check.mails(*[mail(n, f"m{n}", date_ms=base + (n % 3) * 1000) for n in range(1, 8)])
        pages: list[list[str]] = []
        before: str | None = None
        while True:
            body = await world.do("get_mail_records", email_id=1, before=before, limit=3)
            pages.append([row["subject"] for row in body["data"]])
            before = body["next"]
            if before is None:
                break
        assert pages == [["m5", "m2", "m7"], ["m4", "m1", "m6"], ["m3"]]
        assert set(body["data"][0]) == {
            "mail_id", "email_id", "subject", "sender", "received_time", "folder", "has_attachments", "size",
        }  # fmt: skip

    in_mail_world(test)


def test_a_mail_comes_with_its_content() -> None:
    async def test(world: MailWorld) -> None:
        await world.add()
        await world.do("check_emails", email_ids=[1])
        check = await world.script.next()
        attachment = {"name": "a.pdf", "type": "application/pdf", "size": 3}
        content = {"text": "你好", "html": "<p>", "attachments": [attachment], "truncated": True}
        await check.mails(mail(1, "Hi", content=msgspec.json.encode(content)))
        body = await world.do("get_mail", mail_id=1)
        assert (body["type"], body["subject"], body["email_id"]) == ("mail", "Hi", 1)
        assert (body["text"], body["html"], body["truncated"]) == ("你好", "<p>", True)
        assert body["attachments"] == [attachment]

    in_mail_world(test)


def test_another_user_s_mailbox_and_mail_are_not_found() -> None:
    async def test(world: MailWorld) -> None:
        await world.add()
        await world.do("check_emails", email_ids=[1])
        await (await world.script.next()).mails(mail(1))
        other = USER + 1
        assert (await world.do("get_mail_records", other, email_id=1))["code"] == "not_found"
        assert (await world.do("get_mail", other, mail_id=1))["code"] == "not_found"
        assert (await world.do("get_mail", other, mail_id=-1))["code"] == "not_found"
        assert (await world.do("update_email", other, email_id=1, port=1))["code"] == "not_found"

    in_mail_world(test)


@pytest.mark.parametrize(
    ("action", "fields"),
    [
        ("get_mail_records", {"email_id": 1, "limit": 201}),
        ("get_mail_records", {"email_id": 1, "limit": 0}),
        ("get_mail", {"mail_id": 1 << 53}),
        ("get_mail", {"mail_id": "1"}),
        ("check_emails", {"email_ids": 1}),
        ("delete_emails", {"email_ids": [1.5]}),
        ("add_email", {"email": 1}),
        ("add_email", {"email": "a@x.com", "use_ssl": 2}),
    ],
)
def test_fields_of_the_wrong_type_or_range_are_refused_while_decoding(
    action: str, fields: dict[str, Any]
) -> None:
    async def test(world: MailWorld) -> None:
        with pytest.raises(msgspec.ValidationError):
            await world.do(action, **fields)

    in_mail_world(test)


@pytest.mark.parametrize("before", ["zz", "00", ""])
def test_a_page_mark_that_is_none_of_ours_is_refused(before: str) -> None:
    async def test(world: MailWorld) -> None:
        await world.add()
        body = await world.do("get_mail_records", email_id=1, before=before)
        assert (body["code"], body["details"]) == ("invalid_field", "before")

    in_mail_world(test)


def test_fields_with_secrets_do_not_show_them() -> None:
    async def test(world: MailWorld) -> None:
        specs = {spec.action: spec.params for spec in world.mail.actions()}
        secret = {"password": "canary", "refresh_token": "canary", "client_id": "canary"}
        for action, fields in (
            ("add_email", {"email": "a@x.com", **secret}),
            ("update_email", {"email_id": 1, **secret}),
            ("import_emails", {"data": "a@x.com----canary"}),
        ):
            shown: object = msgspec.convert(fields, specs[action])
            assert "canary" not in f"{shown!r} {shown}"

    in_mail_world(test)


# -- the stream that only a roster writes ---------------------------------------------------------


def test_a_roster_that_somebody_else_decided_for_meanwhile_decides_again() -> None:
    async def test(world: MailWorld) -> None:
        stale = NewEvent(f"roster/{USER}", "roster_changed", b'{"type":"roster_changed"}')
        # Still in the queue when the roster looks at the head, and committed before what it decides.
        earlier = asyncio.ensure_future(world.log.append(Append(ts_ms=1, events=(stale,))))
        await asyncio.sleep(0)
        assert world.log.head(f"roster/{USER}").seq == 0
        number = await world.add("a@x.com")
        await earlier
        assert world.log.head(f"roster/{USER}").seq == 2
        assert list(await world.rows()) == [number]

    in_mail_world(test, commit_s=0.1)


# -- reports of an embedding application --------------------------------------------------------


def test_reports_are_durable_when_they_return_and_say_at_which_position() -> None:
    async def test(world: MailWorld) -> None:
        await world.add()
        assert await world.mail.report_status(1, "processing", "app") == world.log.position
        assert await world.mail.report_progress(1, 75, "app") == world.log.position
        assert await world.mail.report_status(1, "ok", "app") == world.log.position
        assert progress_of(await world.said()) == [0, 75, 100]
        assert broken_checks(await world.events(), ended=True) == []

    in_mail_world(test)


def test_a_report_about_no_mailbox_is_a_typed_error() -> None:
    async def test(world: MailWorld) -> None:
        with pytest.raises(UnknownMailbox):
            await world.mail.report_progress(5, 10, "")
        await world.add()
        with pytest.raises(ValueError, match="status"):
            await world.mail.report_status(1, "idle", "")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="percent"):
            await world.mail.report_progress(1, 101, "")

    in_mail_world(test)


def test_an_implicit_check_left_open_at_a_restart_ends_as_an_error() -> None:
    async def test(world: MailWorld) -> None:
        await world.add()
        await world.mail.report_progress(1, 40, "app")
        await world.crash()
        end = await world.ended(1)
        assert (end["status"], end["message"]) == ("error", "服务重启，检查中断")
        assert broken_checks(await world.events(), ended=True) == []

    in_mail_world(test)


def test_an_implicit_check_is_left_alone_while_the_process_lives() -> None:
    async def test(world: MailWorld) -> None:
        await world.add()
        await world.mail.report_progress(1, 40, "app")
        await asyncio.sleep(10 * world.settings.sweep_s)
        assert (await world.rows())[1]["status"] == "processing"
        assert world.script.begun == 0

    in_mail_world(test)


def test_a_report_that_ends_our_check_stops_it() -> None:
    async def test(world: MailWorld) -> None:
        await world.add()
        await world.do("check_emails", email_ids=[1])
        check = await world.script.next()
        await world.mail.report_status(1, "ok", "the application has read it")
        await check.cancelled.wait()

    in_mail_world(test)
