"""Accounts that people make themselves, users whose ids are text, and the language of each."""

import base64
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from huahuo import Huahuo, Refused
from huahuo.cli.main import app as command_line
from huahuo.errors import ConfigError
from huahuo.mailcheck import mail
from huahuo.testing.world import AppWorld
from huahuo.transport.client.model import CommandError, StreamDenied
from tests.support.drivers.http import client as http_client
from tests.support.drivers.rawclient import connected
from tests.support.worlds.firemail import service
from tests.support.worlds.orders import orders
from tests.support.worlds.own_accounts import Accounts, application

ACCOUNT = {"username": "alice", "password": "a good password"}


async def test_the_link_of_an_empty_directory_makes_the_first_administrator_once(tmp_path: Path) -> None:
    async with service(tmp_path / "d") as running, running.http() as c:
        link = running.app.first_link()
        assert link is not None
        page, _, code = link.partition("#")
        shown = await c.get(page)
        assert (shown.status_code, code in shown.text) == (200, False)
        guessed = await c.post("/accounts", json={**ACCOUNT, "code": code[:-1] + "x"})
        for wrong in ("é" * 48, code[:-1]):
            assert (await c.post("/accounts", json={**ACCOUNT, "code": wrong})).status_code == 403
        assert (guessed.status_code, guessed.json()["code"]) == (403, "forbidden")
        short = await c.post("/accounts", json={**ACCOUNT, "password": "short", "code": code})
        assert short.status_code == 400
        made = await c.post("/accounts", json={**ACCOUNT, "code": code})
        assert (made.status_code, made.json()["user"]["is_admin"]) == (201, True)
        again = await c.post(
            "/accounts", json={"username": "bob", "password": "a good password", "code": code}
        )
        assert again.status_code == 403
        assert running.app.first_link() is None
        assert (await c.post("/login", json=ACCOUNT)).json()["user"]["username"] == "alice"
    async with service(tmp_path / "d") as running:
        assert running.app.first_link() is None


@pytest.mark.parametrize(
    ("language", "detail"), [("en", "registration is switched off"), ("zh", "注册功能已禁用")]
)
async def test_registration_is_off_by_default_and_says_so_in_the_language_of_the_client(
    tmp_path: Path, language: str, detail: str
) -> None:
    async with service(tmp_path / "d") as running, running.http() as c:
        refused = await c.post("/accounts", json=ACCOUNT, headers={"Accept-Language": language})
        assert (refused.status_code, refused.json()["detail"]) == (403, detail)


async def test_with_the_setting_anybody_makes_an_account_without_rights_and_not_in_masses(
    tmp_path: Path,
) -> None:
    async with service(tmp_path / "d", registration=True) as running, running.http() as c:
        made = await c.post("/accounts", json=ACCOUNT)
        assert (made.status_code, made.json()["user"]["is_admin"]) == (201, False)
        taken = await c.post("/accounts", json={**ACCOUNT, "username": "ALICE"})
        assert (taken.status_code, taken.json()["code"]) == (409, "already_exists")
        for _ in range(8):
            await c.post("/accounts", json={**ACCOUNT, "password": "short"})
        refused = await c.post("/accounts", json={"username": "carol", "password": "a good password"})
        assert refused.status_code == 429
        assert refused.headers["retry-after"]


async def test_a_folder_without_a_page_ends_the_start_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no index\.html"):
        async with service(tmp_path / "d", classic_ui=str(tmp_path)):
            pass


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


@pytest.fixture
def accounts() -> Accounts:
    return Accounts()


@pytest.mark.parametrize(
    ("asked", "default", "says"),
    [
        (None, "zh", "认证成功"),
        ("en", "zh", "signed in"),
        (None, "en", "signed in"),
        ("zh", "en", "认证成功"),
    ],
)
async def test_a_client_is_spoken_to_in_the_language_that_it_asks_for(
    tmp_path: Path, accounts: Accounts, asked: str | None, default: str, says: str
) -> None:
    app = application(tmp_path, accounts, language=default)
    wanted = {} if asked is None else {"language": asked}
    async with app, connected(app.url) as ws:
        assert (await ws.authenticate("alice-1", **wanted))["message"] == says
        english = says == "signed in"
        await ws.say(action="nothing", id="n")
        assert ("未知的操作" in (await ws.until("error", id="n"))["message"]) is not english
    async with Huahuo(data=tmp_path / "other", port=0, language=default) as other:
        headers = {} if asked is None else {"Accept-Language": f"{asked}-XX, fr;q=0.5"}
        async with http_client(other.url, "nobody", headers=headers) as http:
            detail = (await http.get("/streams/system")).json()["detail"]
            assert ("令牌" in detail) is not english


@pytest.mark.parametrize(
    ("asked", "setting", "says"),
    [
        ("zh", None, "events: 应为 `array`，长度 >= 1 - at `$.events`"),
        ("en", "zh", "events: Expected `array` of length >= 1 - at `$.events`"),
        (None, "zh", "events: 应为 `array`，长度 >= 1 - at `$.events`"),
        (None, None, "events: Expected `array` of length >= 1 - at `$.events`"),
    ],
)
async def test_details_come_in_the_language_that_was_chosen_and_else_in_english(
    tmp_path: Path, accounts: Accounts, asked: str | None, setting: str | None, says: str
) -> None:
    app = application(tmp_path, accounts, **({} if setting is None else {"language": setting}))
    async with app, connected(app.url) as ws:
        await ws.authenticate("root-1", **({} if asked is None else {"language": asked}))
        await ws.say(action="publish", id="p", events=[])
        assert (await ws.until("error", id="p"))["details"] == says
        headers = {} if asked is None else {"Accept-Language": asked}
        async with http_client(app.url, "root-1", headers=headers) as http:
            assert says in (await http.post("/commands/publish", json={"events": []})).json()["detail"]


async def test_a_recorded_answer_is_repeated_in_the_language_of_who_asks(
    tmp_path: Path, accounts: Accounts
) -> None:
    app = application(tmp_path, accounts)
    async with app:
        for language, says in (("zh", "发布成功"), ("en", "published")):
            async with connected(app.url) as ws:
                await ws.authenticate("root-1", client="c", language=language)
                await ws.say(action="publish", id="p", stream="group/ops", type="said")
                assert (await ws.until("success", id="p"))["message"] == says


async def test_a_language_that_nobody_speaks_here_is_an_invalid_field(
    tmp_path: Path, accounts: Accounts
) -> None:
    app = application(tmp_path, accounts)
    async with app, connected(app.url) as ws:
        await ws.say(action="authenticate", token="alice-1", language="fr", id="a")
        assert (await ws.until("error", id="a"))["code"] == "invalid_field"
