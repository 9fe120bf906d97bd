"""Export: lines or CSV, without secrets unless somebody who has just signed in asks, and always recorded."""

import csv
import io
from typing import Any

import msgspec

from huahuo.actors.plugins.calls import Principal
from huahuo.mailcheck.api.import_export import FRESH_MS
from tests.support.models.mail_book import USER
from tests.support.worlds.mail_world import MailWorld, mail_world

UUID = "9e5f94bc-e8a4-4e73-b8be-63364c29d753"


async def accounts(world: MailWorld) -> None:
    await world.add("a@example.com")
    await world.add(
        "b@outlook.com",
        mail_type="outlook",
        password="canary-pw",
        client_id=UUID,
        refresh_token="canary-token",
    )


def signed_in(world: MailWorld, ago_ms: int, user_id: int = USER, *, is_admin: bool = False) -> Principal:
    return Principal(user_id, "x", is_admin=is_admin, signed_in_ms=world.ambient.now_ms() - ago_ms)


async def recorded(world: MailWorld) -> list[dict[str, Any]]:
    return [
        msgspec.json.decode(event.body)
        for event in await world.events()
        if event.type == "mailboxes_exported"
    ]


@mail_world()
async def test_an_export_holds_no_secret(world: MailWorld) -> None:
    await accounts(world)
    reply = await world.do("export_emails")
    assert reply == {"type": "export", "data": "a@example.com\nb@outlook.com\n", "count": 2, "next": None}
    rows = list(csv.DictReader(io.StringIO((await world.do("export_emails", format="csv"))["data"])))
    assert [row["email"] for row in rows] == ["a@example.com", "b@outlook.com"]
    assert rows[1]["mail_type"] == "outlook"
    assert {"password", "client_id", "refresh_token"}.isdisjoint(rows[0])


@mail_world()
async def test_secrets_are_given_to_the_owner_right_after_a_sign_in_and_can_be_imported_again(
    world: MailWorld,
) -> None:
    await accounts(world)
    who = signed_in(world, FRESH_MS - 1000)
    reply = await world.do("export_emails", who=who, secrets=True)
    assert reply["data"] == (
        f"a@example.com----canary-password\nb@outlook.com----canary-pw----{UUID}----canary-token\n"
    )
    table = (await world.do("export_emails", who=who, secrets=True, format="csv"))["data"]
    result = await world.do("import_emails", USER + 1, data=table, mail_type="imap")
    assert (result["total"], result["success"]) == (2, 2)


@mail_world()
async def test_after_a_while_or_for_another_user_secrets_are_refused(world: MailWorld) -> None:
    await accounts(world)
    old = await world.do("export_emails", who=signed_in(world, FRESH_MS + 1), secrets=True)
    unknown = await world.do("export_emails", secrets=True)
    other = await world.do("export_emails", who=signed_in(world, 0, USER + 1), secrets=True, owner=USER)
    assert [reply["code"] for reply in (old, unknown, other)] == ["forbidden"] * 3
    admin = signed_in(world, 0, USER + 1, is_admin=True)
    given = await world.do("export_emails", who=admin, secrets=True, owner=USER)
    assert "canary-pw" in given["data"]


@mail_world()
async def test_each_export_is_an_event_of_the_audit_without_what_was_exported(world: MailWorld) -> None:
    await accounts(world)
    await world.do("export_emails", email_ids=[1])
    await world.do("export_emails", who=signed_in(world, 0), secrets=True)
    found = await recorded(world)
    assert [(one["owner"], one["secrets"], one["email_ids"]) for one in found] == [
        (USER, False, [1]),
        (USER, True, [1, 2]),
    ]
    assert "canary" not in msgspec.json.encode(found).decode()


@mail_world()
async def test_pages_follow_one_another_and_names_of_columns_come_once(world: MailWorld) -> None:
    for n in range(5):
        await world.add(f"m{n}@example.com")
    text, before = "", None
    while True:
        page = await world.do("export_emails", format="csv", limit=2, before=before)
        text += page["data"]
        before = page["next"]
        if before is None:
            break
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["email"] for row in rows] == [f"m{n}@example.com" for n in range(5)]


@mail_world()
async def test_a_note_that_a_spreadsheet_would_compute_is_text(world: MailWorld) -> None:
    await world.add("a@example.com")
    await world.do("label_emails", email_ids=[1], note="=cmd()", add_tags=["x", "y z"])
    [row] = csv.DictReader(io.StringIO((await world.do("export_emails", format="csv"))["data"]))
    assert (row["note"], row["tags"]) == ("'=cmd()", "x; y z")
