"""The domain's shell: checks as effects, restarts, faults of the log, reports, queries."""

import asyncio
from typing import Any

import msgspec
import pytest

from huahuo.eventstore.errors import Unavailable
from huahuo.eventstore.model import Append, NewEvent
from huahuo.mailcheck.plugin.domain import UnknownMailbox
from huahuo.mailcheck.records import CHECKS
from huahuo.mailcheck.servers.providers import Place
from tests.support.models.mail_book import USER, mail
from tests.support.models.mail_rules import broken_checks
from tests.support.worlds.mail_world import MailWorld, failed, in_mail_world, tables

U = f"user/{USER}"


def progress_of(events: list[dict[str, Any]]) -> list[int]:
    return [e["progress"] for e in events if e["type"] == "check_progress"]


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
