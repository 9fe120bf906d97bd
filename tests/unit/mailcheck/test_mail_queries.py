"""Lists, snapshots and pages of mails, and fields that are refused."""

import msgspec

from tests.support.models.mail_book import USER
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
