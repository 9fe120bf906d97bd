"""The domain's shell: checks as effects, their causes, restarts, faults of the log, reports, queries."""

import asyncio
from typing import Any

import msgspec
import pytest

from huahuo.eventstore.errors import Unavailable
from huahuo.eventstore.model import Append, NewEvent, StoredEvent
from huahuo.mailcheck.plugin.domain import UnknownMailbox
from huahuo.mailcheck.records import CHECKS
from huahuo.mailcheck.servers.providers import Place
from tests.support.models.mail_book import USER, mail
from tests.support.models.mail_rules import broken_checks
from tests.support.worlds.mail_world import MailWorld, failed, mail_world, tables

U = f"user/{USER}"


def progress_of(events: list[dict[str, Any]]) -> list[int]:
    return [e["progress"] for e in events if e["type"] == "check_progress"]


@mail_world()
async def test_a_check_gets_target_and_secret_and_its_results_are_told_in_order(world: MailWorld) -> None:
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


@mail_world()
async def test_the_next_check_goes_on_behind_the_last(world: MailWorld) -> None:
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


@mail_world()
async def test_a_failure_ends_with_its_class_and_the_server_s_words(world: MailWorld) -> None:
    await world.add()
    for status, server_text in (("error", ""), ("need_reauth", "[AUTHENTICATIONFAILED] no")):
        head = world.log.head(U).seq
        await world.do("check_emails", email_ids=[1])
        (await world.script.next()).fail(failed(status, "失败", server_text))
        end = await world.ended(1, after=head)
        assert end["status"] == status
        assert end["message"] == (f"失败: {server_text}" if server_text else "失败")
    assert (await world.rows())[1]["last_check_time"] is None


@mail_world()
async def test_a_fault_of_our_own_ends_the_check_without_its_text(world: MailWorld) -> None:
    await world.add()
    await world.do("check_emails", email_ids=[1])
    (await world.script.next()).fail(RuntimeError("canary-in-a-traceback"))
    end = await world.ended(1)
    assert (end["status"], "canary" in end["message"]) == ("error", False)


@mail_world()
async def test_a_server_that_takes_no_passwords_is_not_asked_to_take_one(world: MailWorld) -> None:
    await world.add(server="outlook.office365.com")
    end = await world.checked(1)
    assert (end["status"], end["error_class"]) == ("need_reauth", "auth")
    assert "huahuo mailbox signin" in end["message"]
    assert world.script.begun == 0


@mail_world(checks_max=3, checks_per_host_max=2)
async def test_checks_are_bounded_in_all_and_for_each_server_and_none_is_forgotten(world: MailWorld) -> None:
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


@mail_world(checks_max=1, checks_waiting_max=1)
async def test_what_finds_no_room_in_the_line_is_picked_up_later(world: MailWorld) -> None:
    for n in range(4):
        await world.add(f"{n}@example.com", server="one.example.com")
    await world.do("check_emails", email_ids=[1, 2, 3, 4])
    for _ in range(4):
        (await world.script.next()).finish()
    for n in range(1, 5):
        assert (await world.ended(n))["status"] == "ok"


@pytest.mark.parametrize("how", ["restart", "crash"])
@mail_world()
async def test_a_running_check_goes_on_from_its_cursor_and_its_progress_does_not_go_back(
    world: MailWorld, how: str
) -> None:
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


@mail_world(checks_max=1)
async def test_a_check_that_was_only_queued_runs_after_a_restart(world: MailWorld) -> None:
    await world.add("a@example.com")
    await world.add("b@example.com")
    await world.do("check_emails", email_ids=[1, 2])
    await world.script.next()
    await world.restart()
    for _ in range(2):
        (await world.script.next()).finish()
    assert (await world.ended(1))["status"] == (await world.ended(2))["status"] == "ok"


@mail_world()
async def test_a_check_whose_start_was_lost_with_the_answer_begins_all_the_same(world: MailWorld) -> None:
    await world.add()
    world.log.lose = ["after"]
    with pytest.raises(Unavailable):
        await world.reply("check_emails", email_ids=[1], command_id="c1")
    (await world.script.next()).finish()
    assert (await world.ended(1))["status"] == "ok"
    repeat = await world.reply("check_emails", email_ids=[1], command_id="c1")
    assert (repeat.duplicate, msgspec.json.decode(repeat.body)["accepted"]) == (True, [1])


@mail_world()
async def test_a_check_that_met_a_full_disk_goes_on_when_there_is_room(world: MailWorld) -> None:
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


@mail_world(commit_s=0.1)
async def test_a_roster_that_somebody_else_decided_for_meanwhile_decides_again(world: MailWorld) -> None:
    stale = NewEvent(f"roster/{USER}", "roster_changed", b'{"type":"roster_changed"}')
    # Still in the queue when the roster looks at the head, and committed before what it decides.
    earlier = asyncio.ensure_future(world.log.append(Append(ts_ms=1, events=(stale,))))
    await asyncio.sleep(0)
    assert world.log.head(f"roster/{USER}").seq == 0
    number = await world.add("a@x.com")
    await earlier
    assert world.log.head(f"roster/{USER}").seq == 2
    assert list(await world.rows()) == [number]


@mail_world()
async def test_reports_are_durable_when_they_return_and_say_at_which_position(world: MailWorld) -> None:
    await world.add()
    assert await world.mail.report_status(1, "processing", "app") == world.log.position
    assert await world.mail.report_progress(1, 75, "app") == world.log.position
    assert await world.mail.report_status(1, "ok", "app") == world.log.position
    assert progress_of(await world.said()) == [0, 75, 100]
    assert broken_checks(await world.events(), ended=True) == []


@mail_world()
async def test_a_report_about_no_mailbox_is_a_typed_error(world: MailWorld) -> None:
    with pytest.raises(UnknownMailbox):
        await world.mail.report_progress(5, 10, "")
    await world.add()
    with pytest.raises(ValueError, match="status"):
        await world.mail.report_status(1, "idle", "")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="percent"):
        await world.mail.report_progress(1, 101, "")


@mail_world()
async def test_an_implicit_check_left_open_at_a_restart_ends_as_an_error(world: MailWorld) -> None:
    await world.add()
    await world.mail.report_progress(1, 40, "app")
    await world.crash()
    end = await world.ended(1)
    assert (end["status"], end["message"]) == ("error", "服务重启，检查中断")
    assert broken_checks(await world.events(), ended=True) == []


@mail_world()
async def test_a_report_that_ends_our_check_stops_it(world: MailWorld) -> None:
    await world.add()
    await world.do("check_emails", email_ids=[1])
    check = await world.script.next()
    await world.mail.report_status(1, "ok", "the application has read it")
    await check.cancelled.wait()


def causes(events: list[StoredEvent], principal: str = "service") -> dict[str, set[str]]:
    """By entity: which events the service's own events were caused by."""
    at = {e.position: f"{e.entity} {e.type}" for e in events}
    found: dict[str, set[str]] = {}
    for event in events:
        if event.principal == principal:
            found.setdefault(event.entity, set()).add(at.get(event.cause, "nothing"))
    return found


@mail_world()
async def test_each_of_several_checks_names_its_own_request(world: MailWorld) -> None:
    numbers = [await world.add(f"{n}@example.com") for n in range(3)]
    await world.do("check_emails", email_ids=numbers)
    for _ in numbers:
        check = await world.script.next()
        await check.mails(mail(1))
        check.finish(1)
    await world.mail.idle()
    wanted = {f"mailbox/{n}": {f"mailbox/{n} check_requested"} for n in numbers}
    assert causes(await world.events()) == wanted


OTHER = USER + 1


async def add_many(world: MailWorld, count: int, user_id: int, **fields: Any) -> list[int]:
    """The ids of new mailboxes of one user at one server."""
    return [await world.add(f"{n}@u{user_id}.example", user_id, **fields) for n in range(count)]


@mail_world(checks_per_host_max=1)
async def test_users_take_turns_at_a_server_that_both_wait_for(world: MailWorld) -> None:
    many = await add_many(world, 8, USER, server="busy.example.com")
    one = await add_many(world, 1, OTHER, server="busy.example.com")
    await world.do("check_emails", email_ids=many)
    await world.do("check_emails", OTHER, email_ids=one)
    begun = []
    for _ in range(9):
        check = await world.script.next()
        begun.append(check.target.user)
        check.finish()
    await world.mail.idle()
    assert begun.index(f"0@u{OTHER}.example") <= 2
    assert world.script.running_peak == 1


@mail_world(checks_per_host_max=1)
async def test_a_host_is_one_whatever_the_case_of_its_name(world: MailWorld) -> None:
    await world.add("a@example.com", server="imap.example.com")
    await world.add("b@example.com", server="IMAP.example.com")
    await world.do("check_emails", email_ids=[1, 2])
    for _ in range(2):
        (await world.script.next()).finish()
    await world.mail.idle()
    assert world.script.running_peak == 1


@mail_world()
async def test_checks_of_a_user_over_its_share_wait_while_anothers_begin(world: MailWorld) -> None:
    late, soon = await add_many(world, 1, USER), await add_many(world, 1, OTHER)
    world.owed_until_s[USER] = asyncio.get_running_loop().time() + 5.0
    await world.do("check_emails", email_ids=late)
    await world.do("check_emails", OTHER, email_ids=soon)
    first = await world.script.next()
    await asyncio.sleep(4)
    assert (first.target.user, world.script.begun) == (f"0@u{OTHER}.example", 0)
    assert list(world.mail.checks_by_user()) == [(OTHER, 1)]
    second = await world.script.next()
    first.finish()
    second.finish()
    await world.mail.idle()


@mail_world()
async def test_a_check_that_does_not_end_within_a_stop_stays_open_and_goes_on(world: MailWorld) -> None:
    await world.add()
    await world.do("check_emails", email_ids=[1])
    check = await world.script.next()
    await check.mails(mail(1))
    await world.restart(drain_s=5)
    assert check.cancelled.is_set()
    again = await world.script.next()
    assert again.since is not None
    assert again.since.uid == 1
    again.finish(1)
    await world.ended(1)


@mail_world()
async def test_a_check_costs_the_commits_of_what_it_says_and_is_recorded_nowhere_else(
    world: MailWorld,
) -> None:
    await world.add()
    commits: list[list[str]] = []
    world.log.before_append = lambda append: commits.append(
        [f"{event.stream} {event.type}" for event in append.events]
    )
    await world.do("check_emails", email_ids=[1])
    check = await world.script.next()
    [(_, row)] = await world.log.rows(CHECKS, "", limit=2)
    await check.mails(mail(1))
    check.finish(1)
    await world.mail.idle()
    assert row == b'{"user_id":7,"check_id":1,"host":"imap.example.com"}'
    assert commits == [
        ["user/7 email_status_update", "mailbox/1 check_requested"],
        ["mailbox/1 check_started", "user/7 email_status_update", "user/7 check_progress"],
        ["user/7 mail_received", "mailbox/1 cursor_moved"],
        ["user/7 check_progress", "user/7 email_status_update", "mailbox/1 check_ended"],
    ]
    assert await world.log.rows(CHECKS, "", limit=2) == []
