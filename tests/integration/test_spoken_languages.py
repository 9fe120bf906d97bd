"""A client is spoken to in the language that it asks for."""

from pathlib import Path

import pytest

from huahuo import Huahuo, Refused
from huahuo.transport.client.client import Client
from huahuo.transport.client.model import CommandError
from tests.support.drivers.http import client as http_client
from tests.support.drivers.rawclient import connected, raw
from tests.support.worlds.orders import orders
from tests.support.worlds.own_accounts import Accounts, application


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


@pytest.mark.parametrize(
    ("asked", "says"),
    [("zh", "没有这样的 order"), ("en", "there is no such order"), (None, "there is no such order")],
)
async def test_what_entities_refuse_comes_in_the_language_that_was_chosen_and_else_in_english(
    tmp_path: Path, asked: str | None, says: str
) -> None:
    wanted = {} if asked is None else {"language": asked}
    headers = {} if asked is None else {"Accept-Language": asked}
    async with Huahuo(entities=[orders()], data=tmp_path, port=0) as app:
        async with connected(app.url) as ws:
            await ws.authenticate(app.token(42), **wanted)
            await ws.say(action="cancel_order", id="c", order_id=99)
            assert (await ws.until("error", id="c"))["message"] == says
        async with http_client(app.url, app.token(42), headers=headers) as http:
            assert (await http.post("/commands/cancel_order", json={"order_id": 99})).json()["detail"] == says
        with pytest.raises(Refused, match="there is no such order"):
            await app.send("cancel_order", order_id=99)


async def test_a_classic_client_is_spoken_to_in_chinese_as_ever(tmp_path: Path, accounts: Accounts) -> None:
    app = application(tmp_path, accounts, language="en")
    async with app, raw(f"{app.url.replace('http', 'ws')}/ws") as ws:
        assert (await ws.authenticate("alice-1", language="en"))["message"] == "认证成功"
        await ws.say(action="publish", id="p")
        assert (await ws.until("error", id="p"))["message"] == "需要管理员权限"


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


async def test_the_python_client_asks_for_a_language(tmp_path: Path, accounts: Accounts) -> None:
    app = application(tmp_path, accounts)
    async with app, Client(app.url, token="alice-1", language="en") as client:
        with pytest.raises(CommandError, match="only administrators may do this"):
            await client.send("revoke", user_id=1)


async def test_a_language_that_nobody_speaks_here_is_an_invalid_field(
    tmp_path: Path, accounts: Accounts
) -> None:
    app = application(tmp_path, accounts)
    async with app, connected(app.url) as ws:
        await ws.say(action="authenticate", token="alice-1", language="fr", id="a")
        assert (await ws.until("error", id="a"))["code"] == "invalid_field"
