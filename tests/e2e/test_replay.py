"""`huahuo replay` over real checks: while the service runs, after it was killed, and on a copy."""

import asyncio
import contextlib
import csv
import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from huahuo.eventstore.sqlite.view import SqliteView
from huahuo.timetravel.commands import app
from huahuo.transport.client.client import Client
from tests.support.drivers.command_line import huahuo_at
from tests.support.patience import WITHIN_S
from tests.support.servers.serving import serving
from tests.support.worlds.recorded import USER, Recorded, environ, recording

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
U = f"user/{USER}"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    with recording(tmp_path_factory.mktemp("recorded")) as done:
        yield done


@pytest.fixture(scope="module")
def copy(recorded: Recorded, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recorded.copy(tmp_path_factory.mktemp("copy") / "data")


def replay(*arguments: object, code: int = 0) -> str:
    """What the command prints; `code` is the exit code it must have."""
    done = CliRunner().invoke(app, list(map(str, arguments)), env=environ())
    assert done.exit_code == code, f"{done.exit_code}: {done.output}\n{done.exception!r}"
    return done.stdout


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The same in a process of its own."""
    return huahuo_at(ROOT, "replay", *map(str, arguments), **environ())


def parsed(*arguments: object, code: int = 0) -> Any:
    """The one JSON object printed."""
    return json.loads(replay(*arguments, "--json", code=code))


def listed(*arguments: object, code: int = 0) -> list[Any]:
    """The JSON objects printed, a line each."""
    return [json.loads(line) for line in replay(*arguments, "--json", code=code).splitlines()]


def audited(data: Path) -> list[dict[str, Any]]:
    """What the log says about who looked."""

    async def main() -> list[dict[str, Any]]:
        view = await SqliteView.open(data)
        try:
            events = await view.read("audit", 0, events_max=1000)
            return [json.loads(event.body) for event in events]
        finally:
            await view.close()

    return asyncio.run(main())


def service_rows(recorded: Recorded) -> dict[int, dict[str, Any]]:
    """The rows as the running service shows them."""

    async def main() -> dict[int, dict[str, Any]]:
        token = recorded.server.token(USER, "alice")
        async with Client(recorded.server.url, token=token) as client:
            reply = await client.send("get_all_emails")
            return {row["id"]: row for row in reply["data"]}

    return asyncio.run(main())


def test_beside_the_running_service_the_state_is_what_it_shows_and_the_look_is_recorded(
    recorded: Recorded,
) -> None:
    before = len(audited(recorded.data))
    shown = parsed("state", f"mailbox/{recorded.good}", "--data", recorded.data)
    row = service_rows(recorded)[recorded.good]
    assert {name: shown["state"][name] for name in row} == row
    assert shown["state"]["secrets"] == {"password": "[sealed]"}
    recordings = audited(recorded.data)[before:]
    assert [(r["action"], r["what"]["entity"]) for r in recordings] == [
        ("replay state", f"mailbox/{recorded.good}")
    ]


def test_on_a_copy_nothing_is_recorded_and_no_file_of_it_changes(copy: Path) -> None:
    before = {path.name: path.read_bytes() for path in copy.iterdir()}
    replay("state", U, "--data", copy)
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before


def test_after_a_kill_the_directory_is_readable_and_the_look_is_recorded_in_it(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:

        async def add() -> None:
            async with Client(server.url, token=server.token(USER, "alice")) as client:
                await client.send("add_email", email="a@example.com", password="x", server="127.0.0.1")

        asyncio.run(add())
        server.kill()
        assert parsed("state", U, "--data", server.data)["state"]["emails"]["1"]["email"] == "a@example.com"
        assert [r["action"] for r in audited(server.data)] == ["replay state"]
        server.start()


def test_states_of_the_past_are_found_by_seq_position_and_time(recorded: Recorded, copy: Path) -> None:
    entity = f"mailbox/{recorded.broken}"
    events = listed("log", entity, "--data", copy)
    refused = next(e for e in events if e["data"].get("status") == "need_reauth")
    for at in (f"@{refused['position']}", refused["timestamp"]):
        assert parsed("state", entity, "--at", at, "--data", copy)["state"]["status"] == "need_reauth"
    assert parsed("state", U, "--at", 1, "--data", copy)["state"]["emails"]["1"]["status"] == "idle"
    replay("state", U, "--at", "-1d", "--data", copy, code=1)


def test_an_error_is_found_and_explained(recorded: Recorded, copy: Path) -> None:
    entity = f"mailbox/{recorded.broken}"
    found = parsed("when", f'{entity} status == "error" and progress > 50', "--data", copy)
    assert found["event"]["data"]["status"] == "error"
    blamed = parsed("blame", entity, "status", "--data", copy)
    assert blamed["position"] == found["position"]
    assert [cause["type"] for cause in blamed["why"]] == ["check_requested"]
    assert blamed["why"][0]["principal"] == U
    chain = listed("why", f"@{found['position']}", "--data", copy)
    assert chain[-1]["position"] == found["position"]
    came_of_it = listed("effects", f"@{chain[0]['position']}", "--data", copy)
    assert found["position"] in {event["position"] for event in came_of_it}


def test_the_log_tells_what_each_event_changed(recorded: Recorded, copy: Path) -> None:
    events = listed("log", f"mailbox/{recorded.good}", "--diff", "--type", "mail_received", "--data", copy)
    assert [e["data"]["subject"] for e in events] == ["hello", "code 1234", "later"]
    assert [e["changes"] for e in events] == [
        [{"path": "mail_count", "before": n, "after": n + 1}] for n in range(3)
    ]


def test_what_is_not_there_ends_with_1_and_what_cannot_be_used_with_2(copy: Path, tmp_path: Path) -> None:
    replay("state", "mailbox/99", "--data", copy, code=1)
    replay("when", f'{U} emails.1.status == "nonsense"', "--data", copy, code=1)
    said = replay("when", f"{U} foo == 1", "--data", copy, code=1)
    assert "no field 'foo' at the end; its fields: emails" in said
    said = replay("blame", U, "foo", "--data", copy, code=1)
    assert "no field 'foo' at the end; its fields: emails" in said
    replay("why", f"{U}#9999", "--data", copy, code=1)
    assert "write == to compare" in run("when", f"{U} status = 3", "--data", copy).stderr
    assert (
        "name the entity first: 'mailbox/17 status == 3'" in run("when", "status == 3", "--data", copy).stderr
    )
    assert "first: 'mailbox/1 status == 3'" in run("when", "mailbox/1.status == 3", "--data", copy).stderr
    replay("state", U, "--at", "yesterday", "--data", copy, code=2)
    assert "there is no directory or export" in run("state", U, "--data", tmp_path / "nowhere").stderr
    for done in (run("state", U, "--data", tmp_path), run("check", "--data", copy, "--code", tmp_path)):
        assert done.returncode == 2
        assert "Traceback" not in done.stderr


def test_a_rewritten_event_is_refused_with_its_position(copy: Path, tmp_path: Path) -> None:
    damaged = shutil.copytree(copy, tmp_path / "damaged")
    with contextlib.closing(sqlite3.connect(damaged / "log.db")) as connection:
        events = connection.execute("SELECT position, body FROM event").fetchall()
        position, body = next((position, body) for position, body in events if b"hello" in body)
        changed = body.replace(b"hello", b"jello")
        connection.execute("UPDATE event SET body = ? WHERE position = ?", (changed, position))
        connection.commit()
    done = run("state", U, "--data", damaged)
    assert done.returncode == 1
    assert f"damaged at position {position}:" in done.stderr


def test_a_file_with_broken_pages_is_refused(copy: Path, tmp_path: Path) -> None:
    damaged = shutil.copytree(copy, tmp_path / "damaged")
    with contextlib.closing(sqlite3.connect(damaged / "log.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray((damaged / "log.db").read_bytes())
    at = content.index(b"mail_received")
    content[at - 4096 : at + 4096] = b"\xff" * 8192
    (damaged / "log.db").write_bytes(content)
    done = run("state", U, "--data", damaged)
    assert done.returncode == 1
    assert "damaged" in done.stderr
    assert "Traceback" not in done.stderr


def test_exports_hold_every_event_and_no_secret(copy: Path, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in replay("export", "--data", copy).splitlines()]
    head, events = lines[0], lines[1:]
    assert head["position"] == len(events) == events[-1]["position"]
    assert {json.dumps(e["sealed"]) for e in events} == {"null", '{"password": "[sealed]"}'}
    rows = list(csv.DictReader(io.StringIO(replay("export", "--format", "csv", "--data", copy))))
    assert [int(row["position"]) for row in rows] == [e["position"] for e in events]
    assert [json.loads(row["data"]) for row in rows] == [e["data"] for e in events]
    replay("export", "--format", "parquet", "--to", tmp_path / "log.parquet", "--data", copy)
    table = pyarrow.parquet.read_table(tmp_path / "log.parquet")
    assert table.column("position").to_pylist() == [e["position"] for e in events]
    clouds = [json.loads(t) for t in replay("export", "--format", "cloudevents", "--data", copy).splitlines()]
    assert {(c["specversion"], c["source"].split(":")[1].split("/")[0]) for c in clouds} == {
        ("1.0", head["log"])
    }
    assert len({(c["source"], c["id"]) for c in clouds}) == len(events)


def test_an_import_is_a_new_log_with_the_same_states(recorded: Recorded, copy: Path, tmp_path: Path) -> None:
    replay("export", "--data", copy, "--to", tmp_path / "log.jsonl")
    made = parsed("import", tmp_path / "log.jsonl", "--data", tmp_path / "other")
    assert made["log"] != json.loads((tmp_path / "log.jsonl").read_text().splitlines()[0])["log"]
    for entity in (U, f"mailbox/{recorded.good}", f"mailbox/{recorded.broken}"):
        states = [
            parsed("state", entity, "--data", data)["state"]
            for data in (copy, tmp_path / "log.jsonl", tmp_path / "other")
        ]
        assert states[0] == states[1] == states[2]
    replay("diff", "--data", copy, "--against", tmp_path / "log.jsonl")
    replay("import", tmp_path / "log.jsonl", "--data", tmp_path / "other", code=2)


def test_a_fork_shows_what_would_have_been_and_a_diff_finds_it(
    recorded: Recorded, copy: Path, tmp_path: Path
) -> None:
    replay("fork", "--data", copy)
    entity = f"mailbox/{recorded.broken}"
    error = parsed("when", f'{entity} status == "error"', "--data", copy)["event"]
    event = f"{error['stream']}#{error['seq']}"
    kept = tmp_path / "if.jsonl"
    told = parsed("fork", "--set", f"{event}.status=ok", "--to", kept, "--data", copy, code=1)
    changes = {c["path"]: c.get("after") for c in told["states"][U]}
    assert changes[f"emails.{recorded.broken}.status"] == "ok"
    assert parsed("state", entity, "--data", kept)["state"]["status"] == "ok"
    runs = ("--data", copy, "--against", kept)
    replay("diff", f"mailbox/{recorded.good}", *runs)
    replay("diff", entity, *runs, code=1)
    assert parsed("diff", *runs, code=1)["events"] == {error["stream"]: {"first": 1, "second": 1}}
    then = parsed("diff", "--data", copy, "--at", "@1", code=1)["events"]
    assert then[U]["first"] == 0 < then[U]["second"], "two moments of one run"
    said = run("diff", "--data", copy)
    assert (said.returncode, "--against" in said.stderr) == (2, True)


def test_what_was_recorded_is_what_the_code_decides(copy: Path) -> None:
    found = parsed("check", "--data", copy)
    assert (found["differences"], found["underivable"]) == (0, 0)
    assert found["decided"] > 15


def test_another_version_is_compared_event_by_event_and_a_failing_history_is_kept_as_a_test(
    copy: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    for package in ("huahuo", "eventstore", "replay", "actors", "transport", "mailcheck"):
        shutil.copytree(
            ROOT / package,
            other / package,
            symlinks=True,
            ignore=shutil.ignore_patterns("__pycache__", "static"),
        )
    replay("check", "--data", copy, "--code", other)
    replay("bisect", "--data", copy, "--code", other)

    rows = other / "mailcheck" / "roster" / "state.py"
    text = rows.read_text(encoding="utf-8")
    assert text.count("row.mail_count + 1") == 1
    rows.write_text(text.replace("row.mail_count + 1", "row.mail_count + 2"), encoding="utf-8")
    line = text[: text.index("row.mail_count + 1")].count("\n") + 1
    words = other / "mailcheck" / "texts.json"
    said = words.read_text(encoding="utf-8")
    assert said.count("检查完成，共") == 1
    words.write_text(said.replace("检查完成，共", "完成，共"), encoding="utf-8")

    kept = tmp_path / "test_kept.py"
    found = parsed("check", "--data", copy, "--code", other, "--save", kept, code=1)
    state = found["by_line"][f"state mailcheck/roster/state.py:{line}"]
    assert state["count"] == 3, "one for each mail"
    assert any(name.startswith("decision mailcheck/mailbox/decider.py:") for name in found["by_line"])
    first = parsed("bisect", "--data", copy, "--code", other, code=1)
    assert first["event"]["type"] == "mail_received"

    test = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(tmp_path),
        str(kept),
    ]
    done = subprocess.run(test, capture_output=True, text=True, check=False, cwd=ROOT, timeout=WITHIN_S)
    assert done.returncode == 0, done.stdout


def test_a_commit_can_be_compared_with(copy: Path) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git working tree")
    done = run("check", "--data", copy, "--against", "HEAD", "--json")
    assert done.returncode in (0, 1), done.stderr
    replay("check", "--data", copy, "--against", "no-such-commit", code=2)


def test_a_stretch_is_served_again_over_the_wire_in_its_own_log(copy: Path) -> None:
    command = [sys.executable, "-m", "huahuo", "replay", "serve", "--data", str(copy), "--speed", "5x"]
    with subprocess.Popen(
        [*command, "--from", "@4", "--no-stay", "--json"],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | environ(),
        cwd=ROOT,
    ) as process:
        assert process.stdout is not None
        served = json.loads(process.stdout.readline())

        async def main() -> list[tuple[int, dict[str, Any]]]:
            async with (
                asyncio.timeout(WITHIN_S),
                Client(served["url"], token=served["token"]) as client,
                client.events(U, after=0) as events,
            ):
                got: list[tuple[int, dict[str, Any]]] = []
                async for event in events:
                    got.append((event.seq, event.data))
                    if event.data.get("status") == "error":
                        break
                return got

        got = asyncio.run(main())
        assert process.wait(WITHIN_S) == 0
    original = [(e["seq"], e["data"]) for e in listed("log", U, "--data", copy)]
    assert got == original[: len(got)]
    assert got[-1][1]["status"] == "error"
    assert served["log"] != json.loads(replay("export", "--data", copy).splitlines()[0])["log"]
