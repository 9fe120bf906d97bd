"""Export: lines or CSV, without secrets unless somebody who has just signed in asks, and always recorded."""

import csv
import io

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
async def test_a_note_that_a_spreadsheet_would_compute_is_text(world: MailWorld) -> None:
    await world.add("a@example.com")
    await world.do("label_emails", email_ids=[1], note="=cmd()", add_tags=["x", "y z"])
    [row] = csv.DictReader(io.StringIO((await world.do("export_emails", format="csv"))["data"]))
    assert (row["note"], row["tags"]) == ("'=cmd()", "x; y z")
