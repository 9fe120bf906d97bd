"""The programs a user types, run as a user runs them."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from huahuo.eventstore.sqlite.wal import read_frames
from huahuo.transport.client.client import Client
from tests.support.drivers.command_line import KEYS, huahuo_in, huahuo_into, huahuo_unread
from tests.support.drivers.command_line import huahuo_anew as huahuo
from tests.support.drivers.http import ask
from tests.support.drivers.rawclient import raw
from tests.support.patience import WITHIN_S
from tests.support.servers.serving import Serving, serving

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """For tests that only ask it something."""
    with serving(tmp_path_factory.mktemp("service") / "data") as running:
        yield running


async def test_a_token_of_the_command_line_opens_the_service(server: Serving) -> None:
    made = huahuo(
        "token",
        "--data",
        str(server.data),
        "--user-id",
        "7",
        "--username",
        "eve",
        "--groups",
        "ops,dev",
        **KEYS,
    )

    async def groups() -> list[str]:
        async with asyncio.timeout(WITHIN_S), Client(server.url, token=made.stdout.strip()) as client:
            for group in ("ops", "dev"):
                async with client.events(f"group/{group}") as events:
                    await events.ready()
            reply = await client.send("get_all_emails")
            return [reply["stream"]]

    assert (await groups()) == ["user/7"]


@pytest.mark.parametrize("words", [("status",), ("drain", "web-1"), ("trim",), ("finalize",)])
def test_a_command_about_nodes_tells_a_service_that_is_alone(server: Serving, words: tuple[str, ...]) -> None:
    told = huahuo("cluster", *words, "--data", str(server.data), **KEYS)
    assert told.returncode == 1
    assert told.stderr.startswith("huahuo: this service is alone: it was started without --log"), told.stderr


def test_serve_tells_a_mistake_of_an_application_in_one_line(tmp_path: Path) -> None:
    source = """
from msgspec import Struct
from huahuo import Command, Entity, Event, Huahuo
class Lit(Event, type="lamp_lit"): ...
class Lamp(Struct, frozen=True): ...
class Light(Command, action="light_lamp", creates=True): ...
lamp = Entity("lamp", Lamp)
@lamp.decide
def light(state: Lamp, command: Light, ctx): return [Lit()]
app = Huahuo(entities=[lamp])
"""
    (tmp_path / "lamps.py").write_text(source, encoding="utf-8")
    told = huahuo_in(tmp_path, "serve", "--app", "lamps:app", "--data", "data", "--port", "0", **KEYS)
    assert told.returncode == 2
    assert "class Lit(Event): no handler, and light, the decide of Light in " in told.stderr
    assert told.stderr.count("\n") == 1, told.stderr


def test_a_second_service_over_the_same_directory_is_refused_in_one_sentence(server: Serving) -> None:
    second = huahuo("serve", "--data", str(server.data), "--port", "0", **KEYS)
    assert second.returncode == 1
    assert f"in use by process {server.pid}" in second.stderr
    assert "Traceback" not in second.stderr


def test_a_port_that_is_taken_is_said(server: Serving, tmp_path: Path) -> None:
    second = huahuo("serve", "--data", str(tmp_path / "other"), "--port", str(server.port), **KEYS)
    assert second.returncode == 2
    assert f"cannot listen on 127.0.0.1:{server.port}: another program listens there" in second.stderr
    assert "choose another --port" in second.stderr
    assert "Traceback" not in second.stderr


@pytest.mark.parametrize(
    "words", ["--version", "--help", "config", "audit query", "replay log log", "clients", "doctor --json"]
)
def test_a_reader_that_closes_the_pipe_is_no_fault(server: Serving, words: str) -> None:
    done = huahuo_unread(*words.split(), HUAHUO_DATA=str(server.data), **KEYS)
    assert not re.search("Traceback|Exception ignored|Broken pipe", done.stderr)


@pytest.mark.parametrize("words", ["--help", "config"])
def test_a_terminal_whose_encoding_lacks_a_character_gets_it_as_an_escape(words: str) -> None:
    done = huahuo(*words.split(), PYTHONIOENCODING="latin-1")
    assert done.returncode == 0, done.stderr
    assert r"\u2026" in done.stdout


def test_a_huahuo_toml_in_utf_8_names_its_application_whatever_the_locale(tmp_path: Path) -> None:
    (tmp_path / "huahuo.toml").write_text('# 花火\n[app]\nname = "no_such_shop:app"\n', encoding="utf-8")
    done = huahuo_in(tmp_path, "serve", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert "huahuo: huahuo.toml: [app] no_such_shop:app: no module no_such_shop is here" in done.stderr


def test_a_full_disk_behind_standard_output_is_one_line() -> None:
    with Path("/dev/full").open("wb") as full:
        done = huahuo_into(full.fileno(), "config")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr == "huahuo: cannot write: the disk is full\n"


def test_sigterm_drains_and_ends_with_zero(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        assert server.stop() == 0
        assert not (server.data / "service.json").exists()


def test_a_setting_that_does_not_fit_is_one_line(tmp_path: Path) -> None:
    done = huahuo("serve", "--data", str(tmp_path), HUAHUO_PORT="many")
    assert done.returncode == 2
    assert done.stderr.strip().splitlines() == [
        "huahuo: HUAHUO_PORT: port must be a whole number of at least 0 and at most 65535, not 'many'"
    ]


async def test_tail_prints_events_as_they_are_in_the_log(server: Serving) -> None:
    token = server.token(1, "root", admin=True)

    async def publish() -> None:
        async with asyncio.timeout(WITHIN_S), Client(server.url, token=token) as client:
            for n in range(3):
                await client.send("publish", stream="group/ops", type="tick", n=n)

    await publish()
    tail = subprocess.Popen(
        [sys.executable, "-m", "huahuo", "tail", server.url, "group/ops", "--after", "0", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"HUAHUO_TOKEN": token},
    )
    try:
        assert tail.stdout is not None
        lines = [json.loads(tail.stdout.readline()) for _ in range(3)]
    finally:
        tail.terminate()
        tail.communicate(timeout=WITHIN_S)
    assert [line["seq"] for line in lines] == [1, 2, 3]


@pytest.mark.parametrize("running", [True, False])
async def test_revoke_ends_a_users_tokens_whether_a_service_runs_or_not(
    tmp_path: Path, running: bool
) -> None:
    with serving(tmp_path / "data") as server:
        token = server.token(7, "eve")
        if not running:
            server.stop()
        done = huahuo("revoke", "--data", str(server.data), "--user-id", "7", **KEYS)
        assert (done.returncode, done.stdout) == (0, "revoked\n"), done.stderr
        if not running:
            server.start()

        async def refused() -> str:
            async with asyncio.timeout(WITHIN_S), Client(server.url, token=token) as client:
                return str((await client.wait_stopped()).code)

        assert (await refused()) == "4503"


def test_doctor_finds_a_healthy_directory_healthy(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        running = huahuo("doctor", "--data", str(server.data), "--json", "--check", **KEYS)
        server.stop()
        port = {"HUAHUO_PORT": str(server.port)}
        stopped = huahuo("doctor", "--data", str(server.data), "--json", "--check", **KEYS, **port)
    for done in (running, stopped):
        assert done.returncode == 0, done.stdout
        findings = json.loads(done.stdout)
        assert "error" not in {finding["level"] for finding in findings}
        assert {"I3", "I4", "I9", "I20", "I22", "I26"} <= {finding["about"] for finding in findings}


async def test_doctor_finds_a_changed_log(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:

        async def publish() -> None:
            async with Client(server.url, token=server.token(1, "root", admin=True)) as client:
                await client.send("publish", stream="group/ops", type="tick", text="the original text")

        await publish()
        server.stop()
        database = server.data / "log.db"
        database.write_bytes(database.read_bytes().replace(b"the original text", b"the rewritten txt"))
        done = huahuo("doctor", "--data", str(server.data), **KEYS)
        assert done.returncode == 1
        assert "damaged at position" in done.stdout


def doctor_of(data: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    return huahuo("doctor", "--data", str(data), *flags, **KEYS)


async def published(server: Serving, count: int) -> str:
    """Publish `count` events; the id of the log."""
    async with asyncio.timeout(WITHIN_S), raw(server.url.replace("http", "ws"), "huahuo.v1") as client:
        welcome = await client.authenticate(server.token(1, "root", admin=True), client="c")
        for number in range(count):
            await client.say(
                action="publish", id=f"p{number}", stream="group/ops", type="tick", number=number
            )
            await client.until("success", id=f"p{number}")
        return str(welcome["log"])


async def outcome(server: Serving, log: str, after: int) -> str:
    """What becomes of a client that comes back with a cursor in the log `log`."""
    async with asyncio.timeout(WITHIN_S), raw(server.url.replace("http", "ws"), "huahuo.v1") as client:
        resume = {"log": log, "cursors": {"group/ops": after}}
        welcome = await client.authenticate(server.token(1, "root", admin=True), client="c", resume=resume)
        return str(welcome["streams"]["group/ops"]["outcome"])


def test_a_deleted_log_ends_the_service_with_an_error(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        (server.data / "log.db").unlink()
        answer = ask(f"{server.url}/readyz")
        assert answer.status_code == 503
        assert "log.db was deleted, moved or replaced" in answer.text
        found = doctor_of(server.data)
        assert found.returncode == 1
        assert server.stop() == 1
        assert "log_file_gone" in server.log()
        assert "log.db was deleted, moved or replaced" in server.log()
        assert "Traceback" not in server.log()


def test_a_log_that_lost_its_end_is_refused_and_salvaged_into_another_directory(tmp_path: Path) -> None:
    salvaged = tmp_path / "salvaged"
    with serving(tmp_path / "data") as server:
        log = asyncio.run(published(server, 20))
        server.kill()
        wal = server.data / "log.db-wal"
        content = bytearray(wal.read_bytes())
        content[32 + read_frames(wal).committed * 3 // 4 * (24 + 8192) + 4000] ^= 1
        wal.write_bytes(content)
        found = doctor_of(server.data)
        assert found.returncode == 1
        line = next(line for line in found.stdout.splitlines() if "log.mark says" in line)
        assert "huahuo restore" in line
        assert f"huahuo salvage {server.data} --data NEW" in line
        refused = huahuo("serve", "--data", str(server.data), "--port", "0", **KEYS)
        assert refused.returncode == 1
        assert "acknowledged events are missing" in refused.stderr
        assert f"huahuo salvage {server.data} --data NEW" in refused.stderr
        done = huahuo("salvage", str(server.data), "--data", str(salvaged), **KEYS)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "the log's id is now" in done.stdout
        assert "events are lost" in done.stdout
        again = huahuo("salvage", str(server.data), "--data", str(salvaged), **KEYS)
        assert again.returncode == 2, "there is a log already"
    with serving(salvaged) as server:
        assert asyncio.run(outcome(server, log, 20)) == "reset"
        assert server.stop() == 0
    assert doctor_of(salvaged).returncode == 0


def test_a_word_that_is_no_address_ends_tail_with_one_line() -> None:
    done = huahuo("tail", "notaurl", "user/42", HUAHUO_TOKEN="t", COLUMNS="200")
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith("huahuo: not an address of a huahuo server: 'notaurl'; write http://HOST:PORT")


def test_a_module_that_is_not_here_says_where_to_run_it(tmp_path: Path) -> None:
    done = huahuo("serve", "--app", "no_such_shop:app", "--data", str(tmp_path / "data"))
    assert done.returncode == 2
    assert "no module no_such_shop is here or installed" in done.stderr
    assert "Run it in the folder of that file" in done.stderr
    assert not (tmp_path / "data").exists()


def test_a_backup_into_a_directory_that_is_there_says_what_to_name(server: Serving, tmp_path: Path) -> None:
    done = huahuo("backup", str(tmp_path), "--data", str(server.data), **KEYS)
    assert done.returncode == 2
    assert f"{tmp_path} is there already: name a directory that is not" in done.stderr


def test_restoring_what_is_no_backup_says_so_first(tmp_path: Path) -> None:
    done = huahuo("restore", str(tmp_path / "nothing"), "--data", str(tmp_path / "data"))
    assert done.returncode == 2
    assert "there is no backup in" in done.stderr
    assert not (tmp_path / "data").exists()


def test_checking_a_settings_file_that_is_missing_says_how_to_make_one(tmp_path: Path) -> None:
    done = huahuo("config", "check", str(tmp_path / "huahuo.toml"))
    assert done.returncode == 2
    assert "make it by `huahuo config > huahuo.toml`" in done.stderr
