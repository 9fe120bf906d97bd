"""Code in the documents runs as it stands there."""

import asyncio
import contextlib
import os
import runpy
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import huahuo
from huahuo import NotRunning, Service
from huahuo.transport.client.client import Client
from tests.support.drivers.snippets import block, run, snippet
from tests.support.patience import WITHIN_S
from tests.support.servers.serving import Serving, serving

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PYTHON_CLIENT = "docs/python-client.md"
EVENTS = 300
KILLS = 4


@pytest.fixture(autouse=True)
def in_an_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))


@pytest.mark.parametrize("user_id", [42, "alice@example.org"])
async def test_the_first_page_is_a_shop_in_which_a_client_orders(user_id: int | str, tmp_path: Path) -> None:
    Path("shop.py").write_text(block("README.md", "shop"), encoding="utf-8")
    with serving(tmp_path / "data", app="shop:app", folder=Path.cwd()) as server:
        lines = await _lines_of("order", server, server.token(user_id, "alice"), 1)
    assert lines == [[b"1", b"order_placed"]]


@pytest.mark.parametrize("user_id", [42, "alice@example.org"])
@pytest.mark.parametrize(
    ("example", "entity", "command", "stream"),
    [
        ("shop", "order", {"action": "place_order", "item": "tea"}, "order/1"),
        ("jobs", "desk", {"action": "open_desk", "desk_id": ""}, "desk/"),
        ("chat", "room", {"action": "enter_room", "room_id": "lobby"}, "room/lobby"),
    ],
)
async def test_an_example_takes_users_whose_ids_are_numbers_or_texts(
    example: str, entity: str, command: dict[str, Any], stream: str, user_id: int | str, tmp_path: Path
) -> None:
    program = runpy.run_path(str(EXAMPLES / example / f"{example}.py"))
    fields = {name: str(user_id) if value == "" else value for name, value in command.items()}
    stream += str(user_id) if stream.endswith("/") else ""
    async with (
        asyncio.timeout(WITHIN_S),
        huahuo.Huahuo(entities=[program[entity]], data=tmp_path / "data", port=0) as app,
        Client(app.url, token=app.token(user_id, "alice")) as client,
    ):
        await client.send(fields.pop("action"), **fields)
        async with client.events(stream, after="start") as events:
            assert (await anext(events)).seq == 1


async def publish(server: Serving, count: int) -> None:
    async with Client(server.url, token=server.token(1, "admin", admin=True)) as client:
        for number in range(count):
            await client.send("publish", stream="group/ops", type="order", number=number)


async def _read_three(server: Serving, page: str, name: str, capsys: pytest.CaptureFixture[str]) -> str:
    await publish(server, 3)
    names = {"url": server.url, "token": server.token(42, "alice", groups=("ops",))}
    reading = asyncio.create_task(run(snippet(page, name, url=server.url), names))
    printed = ""
    async with asyncio.timeout(WITHIN_S):
        while printed.count(" order") < 3:
            await asyncio.sleep(0)
            printed += capsys.readouterr().out
    reading.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await reading
    return printed


@pytest.mark.parametrize(("page", "name"), [(PYTHON_CLIENT, "client"), (PYTHON_CLIENT, "file")])
async def test_a_reader_of_the_page_prints_every_event(
    server: Serving, page: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (await _read_three(server, page, name, capsys)).count(" order") == 3


async def test_the_reader_of_the_first_page_is_a_program_as_it_stands(server: Serving) -> None:
    await publish(server, 3)
    lines = await _lines_of("readme", server, server.token(42, "alice", groups=("ops",)), 3)
    assert lines == [[b"1", b"order"], [b"2", b"order"], [b"3", b"order"]]


async def _lines_of(name: str, server: Serving, token: str, count: int) -> list[list[bytes]]:
    """The first two words of what a program of the first page prints, as it stands there."""
    Path("token.txt").write_text(f"{token}\n", encoding="utf-8")
    Path("reader.py").write_text(block("README.md", name, url=server.url), encoding="utf-8")
    pipe = asyncio.subprocess.PIPE
    reader = await asyncio.create_subprocess_exec(sys.executable, "-u", "reader.py", stdout=pipe)
    assert reader.stdout is not None
    try:
        async with asyncio.timeout(WITHIN_S):
            lines = [await reader.stdout.readline() for _ in range(count)]
    finally:
        reader.kill()
        await reader.wait()
    return [line.split()[:2] for line in lines]


def test_a_cursor_in_ones_own_transaction_makes_each_event_count_once_over_kills(server: Serving) -> None:
    token = server.token(42, "alice", groups=("ops",))
    arguments = [sys.executable, "-m", "tests.support.drivers.snippet_child", PYTHON_CLIENT, "transaction"]
    seen = 0
    for round_ in range(KILLS + 1):
        child = subprocess.Popen([*arguments, server.url, token])
        try:
            asyncio.run(publish(server, EVENTS // (KILLS + 1)))
            wanted = seen + 1 if round_ < KILLS else EVENTS
            seen = _wait_for(wanted)
        finally:
            child.kill()
            child.wait()
    with contextlib.closing(sqlite3.connect("orders.db")) as db:
        assert db.execute("SELECT count(*), min(seq), max(seq) FROM seen").fetchone() == (EVENTS, 1, EVENTS)


def _wait_for(count: int) -> int:
    """Wait until the child has written this many events; a repeated one would have ended it."""
    for _ in range(int(WITHIN_S * 100)):
        with contextlib.suppress(sqlite3.OperationalError), contextlib.closing(_database()) as db:
            found = db.execute("SELECT count(*) FROM seen").fetchone()[0]
            if found >= count:
                return int(found)
        with contextlib.suppress(TimeoutError):
            asyncio.run(asyncio.wait_for(asyncio.Event().wait(), 0.01))
    raise AssertionError(f"the reader never came to {count} events")


def _database() -> sqlite3.Connection:
    return sqlite3.connect("file:orders.db?mode=ro", uri=True)


def test_the_service_of_the_page_publishes() -> None:
    names: dict[str, object] = {}
    exec(snippet("docs/embedding.md", "service"), names)
    assert names["position"] == 1


@pytest.mark.parametrize("call", ["publish", "start"])
def test_a_service_that_was_started_before_a_fork_says_so_in_the_child(tmp_path: Path, call: str) -> None:
    notice = "system", "system_notification", {"message": "x", "level": "info"}
    with Service(data=tmp_path / "data", port=0, environ={}, log_level="error") as service:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                service.publish(*notice) if call == "publish" else service.start()
                said = "nothing was raised"
            except NotRunning as error:
                said = str(error)
            finally:
                os.write(writer, said.encode())
                os._exit(0)
        os.waitpid(child, 0)
        assert "forked" in os.read(reader, 4096).decode()
        assert service.publish(*notice) > 0
