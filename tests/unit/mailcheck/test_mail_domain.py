"""The domain's shell: checks as effects, their causes, restarts, faults of the log, reports, queries."""

import asyncio
from typing import Any

import pytest

from huahuo.mailcheck.plugin.domain import UnknownMailbox
from tests.support.models.mail_book import USER
from tests.support.models.mail_rules import broken_checks
from tests.support.worlds.mail_world import MailWorld, mail_world


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


@mail_world(checks_max=1, checks_waiting_max=1)
async def test_what_finds_no_room_in_the_line_is_picked_up_later(world: MailWorld) -> None:
    for n in range(4):
        await world.add(f"{n}@example.com", server="one.example.com")
    await world.do("check_emails", email_ids=[1, 2, 3, 4])
    for _ in range(4):
        (await world.script.next()).finish()
    for n in range(1, 5):
        assert (await world.ended(n))["status"] == "ok"


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
