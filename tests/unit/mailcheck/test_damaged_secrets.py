"""A secret that is stored but cannot be read: only what needs it fails, and says what to do."""

import pytest

from huahuo.eventstore.memory import MemoryStore
from tests.support.worlds.mail_world import MailWorld, in_mail_world

CLIENT_ID = "9e5f94bc-e8a4-4e73-b8be-63364c29d753"


def damage(world: MailWorld, prefix: str, owner: str = "mailbox/1") -> None:
    store = world.log.store
    assert isinstance(store, MemoryStore)
    boxes = store.tables.sealed[owner]
    [name] = [one for one in boxes if one.startswith(prefix)]
    boxes[name] = boxes[name][:-1] + bytes([boxes[name][-1] ^ 1])


@pytest.mark.parametrize("name", ["client_id", "refresh_token"])
def test_a_password_signs_in_though_the_grant_beside_it_is_damaged(name: str) -> None:
    async def test(world: MailWorld) -> None:
        await world.add(password="canary-1", client_id=CLIENT_ID, refresh_token="canary-2")
        damage(world, name)
        await world.do("check_emails", email_ids=[1])
        check = await world.script.next()
        assert check.target.secret.reveal() == "canary-1"
        check.finish()
        assert (await world.ended(1))["status"] == "ok"

    in_mail_world(test)


@pytest.mark.parametrize("name", ["password", "proxy"])
def test_a_damaged_secret_that_a_check_needs_ends_it_with_what_to_do(name: str) -> None:
    async def test(world: MailWorld) -> None:
        await world.add(password="canary-1", proxy="socks5://203.0.113.7:1080")
        damage(world, name)
        await world.do("check_emails", email_ids=[1])
        end = await world.ended(1)
        assert (end["status"], end["error_class"]) == ("need_reauth", "config")
        assert "enter it again" in end["message"]
        assert world.script.begun == 0

    in_mail_world(test)


def test_a_damaged_client_id_ends_the_check_of_a_grant_with_what_to_do() -> None:
    async def test(world: MailWorld) -> None:
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

    in_mail_world(test)


def test_a_damaged_proxy_of_its_group_ends_a_check_with_what_to_do_and_no_mailbox_must_sign_in() -> None:
    async def test(world: MailWorld) -> None:
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

    in_mail_world(test)
