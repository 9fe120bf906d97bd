"""Users whose ids are text: everything works as for users whose ids are integers."""

import base64
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from huahuo import Huahuo, Principal, Refused
from huahuo.cli.main import app as command_line
from huahuo.mailcheck import mail
from huahuo.testing.world import AppWorld
from huahuo.transport.client.model import CommandError, StreamDenied
from tests.support.worlds.orders import orders

ALICE = "alice@example.com"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[AppWorld]:
    world = AppWorld(Huahuo(entities=[orders()], plugins=[mail()]), tmp_path / "data")
    yield world
    world.close()


def test_a_user_owns_what_was_made_and_nobody_else_reads_it(world: AppWorld) -> None:
    alice, bob = world.client(ALICE), world.client("bob")
    assert alice.send("place_order", item="tea")["order_id"] == 1
    alice.follow("order/1")
    alice.follow(f"user/{ALICE}")
    assert [event["owner"] for event in alice.events("order/1")] == [ALICE]
    assert [event["type"] for event in alice.events(f"user/{ALICE}")] == ["order_noted"]
    for stream in ("order/1", f"user/{ALICE}"):
        with pytest.raises(StreamDenied):
            bob.follow(stream)
    with pytest.raises(CommandError, match="not_found"):
        bob.send("cancel_order", order_id=1)


def test_an_administrator_reads_the_stream_of_a_user(world: AppWorld) -> None:
    world.publish(f"user/{ALICE}", "parcel_seen", {"order_id": 7})
    root = world.client("root", admin=True)
    root.follow(f"user/{ALICE}")
    assert [event["order_id"] for event in root.events(f"user/{ALICE}")] == [7]
    rows = root.send("audit", stream=f"user/{ALICE}")["rows"]
    assert [row["type"] for row in rows] == ["parcel_seen"]


def test_the_service_sends_commands_as_that_user(world: AppWorld) -> None:
    assert world.send("place_order", as_user=ALICE, item="tea")["order_id"] == 1
    assert world.send("place_order", as_user=Principal(ALICE, "Alice"), item="tea")["order_id"] == 2
    [first, *_] = world.run(world.running.log.read("order/1", 0, events_max=9))
    assert first.principal == f"user/{ALICE}"


@pytest.mark.parametrize("user", ["a b", "", "..", "x" * 65, 2**53])
def test_what_is_no_id_of_a_user_is_refused(world: AppWorld, user: str | int) -> None:
    with pytest.raises(Refused, match="invalid_field"):
        world.send("place_order", as_user=user, item="tea")


def test_a_text_that_spells_a_number_is_that_user(world: AppWorld) -> None:
    assert world.send("place_order", as_user="42", item="tea")["order_id"] == 1
    one = world.client(42)
    one.follow("order/1")
    assert [event["owner"] for event in one.events("order/1")] == [42]


def test_a_revoked_user_is_signed_out(world: AppWorld) -> None:
    world.client(ALICE)
    world.client("bob")
    root = world.client("root", admin=True)
    root.send("revoke", user_id=ALICE)
    world.advance(seconds=2)
    users = {row["user"] for row in root.send("get_clients")["data"]}
    assert users == {"user/bob", "user/root"}


def test_mailboxes_belong_to_users_of_either_kind(world: AppWorld) -> None:
    alice = world.client(ALICE)
    added = alice.send("add_email", email="a@example.com", password="p", mail_type="imap")
    [row] = alice.send("get_all_emails")["data"]
    assert (row["id"], row["user_id"]) == (added["email_id"], ALICE)
    assert world.client("bob").send("get_all_emails")["data"] == []
    world.crash()
    [row] = world.client(ALICE, username="again").send("get_all_emails")["data"]
    assert row["user_id"] == ALICE


def test_the_command_line_makes_tokens_for_them(tmp_path: Path) -> None:
    arguments = ["token", "--data", str(tmp_path), "--username", "Alice"]
    environ = {"HUAHUO_JWT_SECRET": "s" * 40}
    made = CliRunner().invoke(command_line, [*arguments, "--user-id", ALICE], env=environ)
    payload = made.stdout.split(".")[1]
    claims = msgspec.json.decode(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert claims["user_id"] == ALICE
    refused = CliRunner().invoke(command_line, [*arguments, "--user-id", "a b"], env=environ)
    assert refused.exit_code != 0
