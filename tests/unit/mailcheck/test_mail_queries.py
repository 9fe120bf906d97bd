"""Lists, snapshots and pages of mails, and fields that are refused."""

import msgspec
import pytest

from tests.support.models.mail_book import USER, mail
from tests.support.worlds.mail_world import MailWorld, mail_world

U = f"user/{USER}"


@mail_world()
async def test_the_list_and_the_snapshot_are_cuts_that_say_where(world: MailWorld) -> None:
    await world.add("a@example.com")
    await world.add("b@example.com")
    listed = await world.do("get_all_emails")
    seq, cut = await world.mail.snapshot(U)
    state = b"".join(cut.pieces())
    assert (listed["type"], listed["stream"], listed["seq"], seq) == ("emails_list", U, 2, 2)
    assert listed["data"] == msgspec.json.decode(state)["emails"]
    assert [row["id"] for row in listed["data"]] == [1, 2]


@mail_world()
async def test_mails_are_listed_newest_first_page_by_page(world: MailWorld) -> None:
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


@mail_world()
async def test_another_user_s_mailbox_and_mail_are_not_found(world: MailWorld) -> None:
    await world.add()
    await world.do("check_emails", email_ids=[1])
    await (await world.script.next()).mails(mail(1))
    other = USER + 1
    assert (await world.do("get_mail_records", other, email_id=1))["code"] == "not_found"
    assert (await world.do("get_mail", other, mail_id=1))["code"] == "not_found"
    assert (await world.do("get_mail", other, mail_id=-1))["code"] == "not_found"
    assert (await world.do("update_email", other, email_id=1, port=1))["code"] == "not_found"


@pytest.mark.parametrize("before", ["zz", "00", ""])
@mail_world()
async def test_a_page_mark_that_is_none_of_ours_is_refused(world: MailWorld, before: str) -> None:
    await world.add()
    body = await world.do("get_mail_records", email_id=1, before=before)
    assert (body["code"], body["details"]) == ("invalid_field", "before")


@mail_world()
async def test_fields_with_secrets_do_not_show_them(world: MailWorld) -> None:
    specs = {spec.action: spec.params for spec in world.mail.actions}
    secret = {"password": "canary", "refresh_token": "canary", "client_id": "canary"}
    for action, fields in (
        ("add_email", {"email": "a@x.com", **secret}),
        ("update_email", {"email_id": 1, **secret}),
        ("import_emails", {"data": "a@x.com----canary"}),
    ):
        shown: object = msgspec.convert(fields, specs[action])
        assert "canary" not in f"{shown!r} {shown}"
