"""Secrets of a mailbox that are damaged, or read while it moves: each goes only where it was given for."""

from math import inf
from typing import Any

import pytest

from huahuo.eventstore.memory import MemoryStore
from huahuo.eventstore.model import Secret
from huahuo.mailcheck.events import Way
from huahuo.mailcheck.servers.oauth import Access
from tests.support.worlds.mail_world import MailWorld, mail_world

CLIENT_ID = "9e5f94bc-e8a4-4e73-b8be-63364c29d753"


def damage(world: MailWorld, prefix: str, owner: str = "mailbox/1") -> None:
    store = world.log.store
    assert isinstance(store, MemoryStore)
    boxes = store.tables.sealed[owner]
    [name] = [one for one in boxes if one.startswith(prefix)]
    boxes[name] = boxes[name][:-1] + bytes([boxes[name][-1] ^ 1])


@pytest.mark.parametrize("name", ["client_id", "refresh_token"])
@mail_world()
async def test_a_password_signs_in_though_the_grant_beside_it_is_damaged(world: MailWorld, name: str) -> None:
    await world.add(password="canary-1", client_id=CLIENT_ID, refresh_token="canary-2")
    damage(world, name)
    await world.do("check_emails", email_ids=[1])
    check = await world.script.next()
    assert check.target.secret.reveal() == "canary-1"
    check.finish()
    assert (await world.ended(1))["status"] == "ok"


@pytest.mark.parametrize("name", ["password", "proxy"])
@mail_world()
async def test_a_damaged_secret_that_a_check_needs_ends_it_with_what_to_do(
    world: MailWorld, name: str
) -> None:
    await world.add(password="canary-1", proxy="socks5://203.0.113.7:1080")
    damage(world, name)
    await world.do("check_emails", email_ids=[1])
    end = await world.ended(1)
    assert (end["status"], end["error_class"]) == ("need_reauth", "config")
    assert "enter it again" in end["message"]
    assert world.script.begun == 0


@mail_world()
async def test_a_damaged_client_id_ends_the_check_of_a_grant_with_what_to_do(world: MailWorld) -> None:
    await world.add(
        "a@outlook.com",
        mail_type="outlook",
        password=None,
        client_id=CLIENT_ID,
        refresh_token="canary-2",
    )
    damage(world, "client_id")
    await world.do("check_emails", email_ids=[1])
    end = await world.ended(1)
    assert (end["status"], end["error_class"]) == ("need_reauth", "config")


@mail_world()
async def test_a_damaged_proxy_of_its_group_ends_a_check_with_what_to_do_and_no_mailbox_must_sign_in(
    world: MailWorld,
) -> None:
    await world.add(password="canary-1")
    await world.do("label_emails", email_ids=[1], group="g")
    await world.do("set_group_proxy", group="g", proxy="socks5://203.0.113.7:1080")
    damage(world, "proxy/", "roster/7")
    await world.do("check_emails", email_ids=[1])
    end = await world.ended(1)
    assert (end["status"], end["error_class"]) == ("error", "config")
    assert "enter it again" in end["message"]
    assert world.script.begun == 0
    await world.do("set_group_proxy", group="g", proxy="")
    await world.do("check_emails", email_ids=[1])
    (await world.script.next()).finish()


@pytest.mark.parametrize("moves", [("new.example.com",), ("else.example.com", "new.example.com")])
@mail_world()
async def test_a_look_that_reads_the_password_just_after_a_move_does_not_send_it_to_the_server_before(
    world: MailWorld, moves: tuple[str, ...]
) -> None:
    await world.add(server="old.example.com", password="of-old.example.com")
    read = world.log.secrets

    async def late(owner: str, names: Any) -> list[Secret | None]:
        world.log.secrets = read  # type: ignore[method-assign]
        for server in moves:
            await world.do("update_email", email_id=1, server=server, password=f"of-{server}")
        return await read(owner, names)

    world.log.secrets = late  # type: ignore[method-assign]
    await world.do("watch_emails", email_ids=[1], on=True)
    look = await world.script.next()
    assert look.target.places[0].host == "new.example.com"
    assert look.target.secret.reveal() == "of-new.example.com"
    look.finish()


@mail_world()
async def test_a_move_to_and_fro_while_the_password_is_read_is_noticed(world: MailWorld) -> None:
    await world.add(server="old.example.com", password="first")
    read = world.log.secrets

    async def late(owner: str, names: Any) -> list[Secret | None]:
        world.log.secrets = read  # type: ignore[method-assign]
        await world.do("update_email", email_id=1, server="new.example.com", password="of-new")
        found = await read(owner, names)
        await world.do("update_email", email_id=1, server="old.example.com", password="second")
        return found

    world.log.secrets = late  # type: ignore[method-assign]
    await world.do("watch_emails", email_ids=[1], on=True)
    look = await world.script.next()
    assert (look.target.places[0].host, look.target.secret.reveal()) == ("old.example.com", "second")
    look.finish()


@mail_world()
async def test_a_token_that_came_after_a_move_is_not_sent_to_the_server_before(world: MailWorld) -> None:
    grant = {"client_id": CLIENT_ID, "refresh_token": "canary"}
    await world.add("a@outlook.com", mail_type="outlook", password=None, **grant)
    mailboxes = world.mail.mailboxes
    moved = False

    async def late(email_id: int, *_: Any, **__: Any) -> Access:
        nonlocal moved
        if not moved:
            moved = True
            await world.do("update_email", email_id=1, server="new.example.com", **grant)
        return Access(Secret("token"), inf, (await mailboxes.reached(email_id)).grant, Way())

    world.mail.tokens.get = late  # type: ignore[method-assign]
    await world.do("watch_emails", email_ids=[1], on=True)
    look = await world.script.next()
    assert look.target.places[0].host == "new.example.com"
    look.finish()
