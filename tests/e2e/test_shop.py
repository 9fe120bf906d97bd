"""The shop of `examples/shop`, served by `huahuo serve --app shop:app`: from commands to time travel."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.drivers.command_line import huahuo_at
from tests.support.drivers.http import ask
from tests.support.drivers.rawclient import RawClient, raw
from tests.support.servers.serving import Serving, serving

SHOP = Path(__file__).resolve().parents[2] / "examples" / "shop"
pytestmark = pytest.mark.e2e


@asynccontextmanager
async def joined(url: str, token: str, **fields: Any) -> AsyncIterator[RawClient]:
    """A client of version 1 that has signed in."""
    async with raw(url.replace("http", "ws", 1), "huahuo.v1") as client:
        await client.authenticate(token, **fields)
        yield client


def command(server: Serving, *words: str, app: str | None = "shop:app") -> subprocess.CompletedProcess[str]:
    """Run `huahuo` in the shop's folder."""
    named = [] if app is None else ["--app", app]
    return huahuo_at(SHOP, *words, *named, "--data", str(server.data), **server.environ)


async def order_tea(client: RawClient) -> dict[str, Any]:
    await client.say(action="place_order", id="c1", item="tea")
    return await client.until("success", id="c1")


def test_a_browser_orders_follows_resumes_over_a_kill_and_others_are_denied(tmp_path: Path) -> None:
    async def first(server: Serving) -> dict[str, Any]:
        async with joined(server.url, server.token(42, "alice"), client="dev-7") as alice:
            said = await order_tea(alice)
            assert said == {
                "type": "success", "id": "c1", "order_id": 1,
                "at": {"stream": "order/1", "seq": 1, "position": said["at"]["position"]},
            }  # fmt: skip
            await alice.say(action="subscribe", id="s1", stream="order/1", after="snapshot")
            assert (await alice.until("subscribed"))["outcome"] == "snapshot"
            snapshot = await alice.until("snapshot", stream="order/1")
            assert snapshot["seq"] >= 1
            assert (snapshot["state"]["owner"], snapshot["state"]["item"]) == (42, "tea")
            await alice.say(action="place_order", id="c2", item="")
            assert (await alice.until("error", id="c2"))["code"] == "invalid_field"
            await alice.say(action="place_order", id="c3")
            assert (await alice.until("error", id="c3"))["details"] == "item: it is missing"
            while not alice.events("user/42"):
                await alice.next()
            [(_, noted)] = alice.events("user/42")
            assert (noted["type"], noted["order_id"]) == ("order_noted", 1)
        async with joined(server.url, server.token(7, "bob")) as bob:
            await bob.say(action="subscribe", id="s1", stream="order/1", after="snapshot")
            assert (await bob.until("subscribed"))["outcome"] == "denied"
            await bob.say(action="cancel_order", id="c1", order_id=1)
            assert (await bob.until("error", id="c1"))["code"] == "not_found"
        return said

    async def second(server: Serving, said: dict[str, Any]) -> None:
        async with joined(server.url, server.token(42, "alice"), client="dev-7") as alice:
            log = alice.seen[0]["log"]
            again = await order_tea(alice)
            assert again["at"].pop("position") >= said["at"].pop("position")
            assert again == {**said, "duplicate": True}
            await alice.say(action="subscribe", id="s2", stream="order/1", after=1, log=log)
            assert (await alice.until("subscribed"))["outcome"] == "resumed"
            while [event["type"] for _, event in alice.events("order/1")][-1:] != ["order_shipped"]:
                await alice.until("events", stream="order/1")
            assert [event["percent"] for _, event in alice.events("order/1")[-12:-1]] == [*range(0, 101, 10)]
            await alice.say(action="cancel_order", id="c5", order_id=1)
            assert (await alice.until("error", id="c5"))["code"] == "conflict"

    with serving(tmp_path / "data", app="shop:app", folder=SHOP) as server:
        said = asyncio.run(first(server))
        server.kill()
        server.start()
        asyncio.run(second(server, said))
        _time_travel_knows_the_orders(server)


def test_an_order_expires_once_over_a_kill(tmp_path: Path) -> None:
    shop = (SHOP / "shop.py").read_text()
    # Packing never begins, or the order might be shipped before it can expire.
    loop = "    for percent in range"
    unpacked = "import asyncio\n" + shop.replace(loop, f"    await asyncio.Event().wait()\n{loop}")
    (tmp_path / "shop.py").write_text(unpacked.replace("After(3600", "After(1"))

    async def place(server: Serving) -> None:
        async with joined(server.url, server.token(42, "alice")) as alice:
            await order_tea(alice)

    async def seen(server: Serving) -> list[str]:
        async with joined(server.url, server.token(42, "alice")) as alice:
            await alice.say(action="subscribe", id="s1", stream="order/1", after=0, log=alice.seen[0]["log"])
            while (got := [event["type"] for _, event in alice.events("order/1")]).count("order_expired") < 1:
                await alice.until("events", stream="order/1")
            return got

    with serving(tmp_path / "data", app="shop:app", folder=tmp_path) as server:
        asyncio.run(place(server))
        for _ in range(2):
            server.kill()
            server.start()
            assert asyncio.run(seen(server)).count("order_expired") == 1
        _, timers = asyncio.run(_timers_of(server))
        assert timers == ["timer_set", "timer_fired"]


def test_a_start_that_finds_timers_of_an_unknown_command_says_so_in_one_line(tmp_path: Path) -> None:
    shop = (SHOP / "shop.py").read_text()
    (tmp_path / "shop.py").write_text(shop)

    async def place(server: Serving) -> None:
        async with joined(server.url, server.token(42, "alice")) as alice:
            await order_tea(alice)

    with serving(tmp_path / "data", app="shop:app", folder=tmp_path) as server:
        asyncio.run(place(server))
        server.kill()
        (tmp_path / "shop.py").write_text(shop.replace("Expire(Command)", 'Expire(Command, name="lapse")'))
        words = ("serve", "--app", "shop:app", "--data", str(server.data))
        done = huahuo_at(tmp_path, *words, **{**server.environ, "COLUMNS": "400"})
        assert done.returncode != 0
        [line] = [line for line in done.stderr.splitlines() if "expire" in line]
        assert "a timer of order/1 will send the command 'expire'" in line


async def _timers_of(server: Serving) -> tuple[int, list[str]]:
    done = command(server, "audit", "query", "--stream", "timer/order/1", "--json")
    rows = json.loads(done.stdout)["rows"]
    return len(rows), [row["type"] for row in rows]


def _time_travel_knows_the_orders(server: Serving) -> None:
    shown = json.loads(command(server, "replay", "state", "order/1", "--json").stdout)
    assert shown["state"] == {"owner": 42, "item": "tea", "percent": 100, "status": "shipped"}
    then = json.loads(command(server, "replay", "state", "order/1", "--at", "1", "--json").stdout)
    assert then["state"]["status"] == "placed"
    for words, told in (
        (["log", "order/1"], "order_shipped"),
        (["blame", "order/1", "status"], "shipped"),
        (["why", "order/1#2"], "order_progress"),
    ):
        done = command(server, "replay", *words)
        assert done.returncode == 0, (words, done.stderr, done.stdout)
        assert told in done.stdout, (words, done.stdout)
    done = command(server, "replay", "when", 'order/1 status == "shipped"')
    assert done.returncode == 0, done.stderr + done.stdout
    done = command(server, "audit", "query", "--entity", "order/1", "--json")
    assert {row["stream"] for row in json.loads(done.stdout)["rows"]} >= {"order/1", "user/42"}
    done = command(server, "replay", "check")
    assert done.returncode == 0, done.stderr + done.stdout
    assert "not judged" not in done.stdout
    done = command(server, "replay", "check", app=None)
    assert "not judged: 1 stream of order" in done.stdout, done.stderr + done.stdout
    assert "--app MODULE:NAME" in done.stdout
    assert json.loads(command(server, "replay", "check", "--json", app=None).stdout)["unjudged"] == {
        "order": 1
    }
    done = command(server, "replay", "fork", "--set", "order/1#1.item=coffee", "--skip", "order/1#13")
    assert 'item: "tea" → "coffee"' in done.stdout, done.stderr + done.stdout
    done = command(server, "replay", "fork", "--set", "order/1#1.item=5")
    [line] = done.stderr.splitlines()
    assert "cannot fold order/1#1 (@1, order_placed): ValidationError: Expected `str`, got `int`" in line
    [line] = command(server, "replay", "step", "order/1").stderr.splitlines()
    assert "step needs a terminal: `huahuo replay log order/1`" in line


@pytest.mark.parametrize(
    ("app", "says"),
    [
        ("nothing:app", "no module nothing is here or installed. Run it in the folder"),
        ("shop:nothing", "has no nothing: write nothing = Huahuo(…) in it"),
        ("shop:order", "is of the type Entity: write order = Huahuo(…)"),
        ("shop", "write MODULE:NAME"),
        ("shop:app:app", "write MODULE:NAME"),
        ("./shop.py:app", "that is a file: write shop:app"),
        ("broken:app", "broken.py:1: ZeroDivisionError"),
        ("leaves:app", "leaves.py:2: SystemExit: 3"),
        ("runs:app", 'runs.py:3: it runs the service while it is imported: write if __name__ == "__main__":'),
        ("imap:app", "imap.py:2: plugins: mail is no plug-in: write mail()"),
        ("wrong:app", "class Placed(Event): write class Placed(Event, type="),
    ],
)
def test_an_application_that_cannot_be_used_says_why_in_one_line(app: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("1 / 0\n")
    (tmp_path / "leaves.py").write_text("import sys\nsys.exit(3)\n")
    (tmp_path / "runs.py").write_text("from huahuo import Huahuo\napp = Huahuo()\napp.run()\n")
    imports = "from huahuo import Huahuo; from huahuo.mailcheck import mail\n"
    (tmp_path / "imap.py").write_text(f"{imports}app = Huahuo(plugins=[mail])\n")
    (tmp_path / "wrong.py").write_text("from huahuo import Event\nclass Placed(Event): ...\n")
    (tmp_path / "shop.py").write_text((SHOP / "shop.py").read_text())
    done = huahuo_at(tmp_path, "serve", "--app", app, "--data", str(tmp_path / "data"), COLUMNS="400")
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert says in line


def test_an_application_is_named_by_a_huahuo_toml_in_the_folder(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text((SHOP / "shop.py").read_text())
    (tmp_path / "huahuo.toml").write_text('[app]\nname = "shop:app"\n')
    with serving(tmp_path / "data", folder=tmp_path) as server:

        async def test() -> None:
            async with joined(server.url, server.token(42, "alice")) as alice:
                assert (await order_tea(alice))["order_id"] == 1

        asyncio.run(test())


def test_a_second_process_on_the_directory_is_refused(tmp_path: Path) -> None:
    with serving(tmp_path / "data", app="shop:app", folder=SHOP) as server:
        done = command(server, "serve", "--port", "0")
        assert done.returncode == 1
        assert "in use" in done.stderr or "another process" in done.stderr


def test_an_application_has_mail_only_if_it_names_it(tmp_path: Path) -> None:
    adding = {"email": "a@b.example", "password": "x", "mail_type": "imap", "server": "127.0.0.1"}

    async def add(server: Serving) -> dict[str, Any]:
        async with joined(server.url, server.token(42, "alice")) as alice:
            await alice.say(action="subscribe", id="s1", stream="user/42", after="snapshot")
            state = (await alice.until("snapshot", stream="user/42"))["state"]
            await alice.say(action="add_email", id="c1", **adding)
            said = await alice.next()
            while said.get("id") != "c1":
                said = await alice.next()
            return {"state": state, "said": said}

    def actions(server: Serving) -> str:
        return ask(f"{server.url}/openapi.json").text

    with serving(tmp_path / "data", app="shop:app", folder=SHOP) as server:
        found = asyncio.run(add(server))
        assert found["state"] == {}
        assert found["said"]["code"] == "unknown_action"
        assert "place_order" in actions(server)
        assert "add_email" not in actions(server)
        assert "mailboxes" not in server.log()
    with serving(tmp_path / "data") as server:
        assert asyncio.run(add(server))["said"]["type"] == "success"
    log = tmp_path / "again.log"
    with serving(tmp_path / "data", app="shop:app", folder=SHOP, stderr=log) as server:
        assert asyncio.run(add(server))["said"]["code"] == "unknown_action"
        assert "the log holds mailboxes (1), and this application is without mail" in server.log()
        server.stop()
        done = command(server, "doctor")
        assert done.returncode == 0, done.stdout
        assert "warning  plug-ins: the log holds mailboxes (1)" in done.stdout
        assert "plug-ins" not in command(server, "doctor", app=None).stdout
