"""The audit and the care of a log with the real service: live, stopped, killed and copied directories."""

import asyncio
import contextlib
import errno
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from huahuo.cli.main import app
from huahuo.errors import ConfigError
from huahuo.transport.client.client import Client
from huahuo.transport.client.model import CommandError
from tests.support.drivers.http import ask
from tests.support.drivers.rawclient import raw
from tests.support.patience import WITHIN_S
from tests.support.servers.serving import JWT_SECRET, MASTER_KEY, Serving, serving

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

KEYS = {"HUAHUO_JWT_SECRET": JWT_SECRET, "HUAHUO_MASTER_KEY": MASTER_KEY}
PASSWORD = "canary-5f2c9a"
VERIFIER = Path(__file__).parents[1] / "support" / "drivers" / "verify_proof.py"


def huahuo(*words: str | Path, code: int = 0) -> str:
    """Run a command of the command line in this process; its standard output."""
    done = CliRunner().invoke(app, [str(word) for word in words], env=KEYS)
    mistaken = isinstance(done.exception, ConfigError)
    assert (2 if mistaken else done.exit_code) == code, f"{done.output}{done.exception!r}"
    assert PASSWORD not in done.output
    return done.stdout


def found(data: Path, *words: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(huahuo("audit", "query", "--data", data, "--json", *words))
    return answer


def as_admin[T](server: Serving, act: Callable[[Client], Awaitable[T]]) -> T:
    async def main() -> T:
        async with (
            asyncio.timeout(WITHIN_S),
            Client(server.url, token=server.token(1, "root", admin=True)) as client,
        ):
            return await act(client)

    return asyncio.run(main())


async def fill(client: Client) -> None:
    await client.send(
        "add_email", email="a@example.org", password=PASSWORD, mail_type="imap", server="127.0.0.1"
    )
    for n in range(3):
        await client.send("publish", stream="group/ops", type="tick", n=n, text="the quick fox")


@contextlib.contextmanager
def filled(tmp_path: Path) -> Iterator[Serving]:
    with serving(tmp_path / "data") as server:
        as_admin(server, fill)
        yield server


def test_a_question_finds_its_events_and_is_itself_in_the_log(tmp_path: Path) -> None:
    with filled(tmp_path) as server:
        rows = found(server.data, "--entity", "mailbox/1")["rows"]
        assert [row["type"] for row in rows] == ["email_added", "mailbox_added"]
        assert rows[1]["data"]["secrets"] == {"password": "[sealed]"}
        [looked] = found(server.data, "--stream", "audit")["rows"]
        assert (looked["type"], looked["principal"]) == ("audit_recorded", "user/0")
        assert looked["data"]["what"]["entity"] == "mailbox/1"
        metrics = ask(f"{server.url}/metrics").text
        commits = re.search(r"^huahuo_commit_seconds_count ([\d.]+)", metrics, re.MULTILINE)
        assert commits is not None
        assert float(commits[1]) >= 4


def test_a_stopped_and_a_killed_directory_are_asked_and_record_it(tmp_path: Path) -> None:
    with filled(tmp_path) as server:
        server.kill()
        assert found(server.data, "--text", "quick")["count"] == 3
        server.start()
        server.stop()
        [first] = found(server.data, "--stream", "audit")["rows"]
        assert first["principal"].startswith("cli/")
        assert found(server.data, "--stream", "audit")["count"] == 2
        server.start()


def test_a_copy_made_while_it_ran_is_asked_and_stays_as_it_is(tmp_path: Path) -> None:
    with filled(tmp_path) as server:
        copy = tmp_path / "copy"
        shutil.copytree(server.data, copy)
    before = {path.name: path.read_bytes() for path in copy.iterdir()}
    answer = found(copy, "--text", "quick", "--limit", "2")
    assert (answer["count"], answer["next"], answer["recorded"]) == (3, answer["rows"][-1]["position"], False)
    assert json.loads(huahuo("audit", "verify", "--data", copy, "--json"))["ok"] is True
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before


def test_nothing_found_and_nothing_usable_have_codes_of_their_own(tmp_path: Path) -> None:
    with filled(tmp_path) as server:
        huahuo("audit", "query", "--data", server.data, "--type", "nothing", code=1)
        huahuo("audit", "query", "--data", server.data, "--since", "yesterday", code=2)
        huahuo("audit", "query", "--data", tmp_path / "elsewhere", code=2)


def test_the_audit_action_gives_the_protocol_s_fields_to_admins_only(tmp_path: Path) -> None:
    with filled(tmp_path) as server:
        where = {"stream": "group/ops", "type": ["tick"], "text": "fox", "since": "2020-01-01T00:00:00Z"}
        first = as_admin(server, lambda client: client.send("audit", where=where, limit=2))
        assert set(first["rows"][0]) == {
            "position", "stream", "seq", "type", "timestamp", "principal", "command_id", "cause", "data",
        }  # fmt: skip
        rest = as_admin(server, lambda client: client.send("audit", where=where, after=first["next"]))
        assert [row["data"]["n"] for row in first["rows"] + rest["rows"]] == [0, 1, 2]
        assert rest["next"] is None
        about = as_admin(server, lambda client: client.send("audit", where={"email_id": 1}))
        assert [row["type"] for row in about["rows"]] == ["email_added", "mailbox_added"]
        asked = as_admin(server, lambda client: client.send("audit", where={"stream": "audit"}))
        assert [row["data"]["what"].get("after") for row in asked["rows"]] == [0, first["next"], 0]
        for bad in ({"since": "now"}, {"text": "--"}, {"type": "tick"}):
            with pytest.raises(CommandError, match="invalid_field"):
                as_admin(server, lambda client, bad=bad: client.send("audit", where=bad))  # type: ignore[misc]

        async def by_a_user() -> None:
            async with (
                asyncio.timeout(WITHIN_S),
                Client(server.url, token=server.token(2, "joe")) as client,
            ):
                await client.send("audit", where={})

        with pytest.raises(CommandError, match="forbidden"):
            asyncio.run(by_a_user())


def test_a_proof_convinces_somebody_who_has_only_the_public_key(tmp_path: Path) -> None:
    with filled(tmp_path) as server:
        note, proof = tmp_path / "head.note", tmp_path / "event.proof"
        vkey = json.loads(huahuo("audit", "checkpoint", "--data", server.data, "--out", note, "--json"))[
            "key"
        ]
        huahuo("audit", "prove", "group/ops#2", "--data", server.data, "--checkpoint", note, "--out", proof)
        huahuo("audit", "prove", "group/ops#9", "--data", server.data, "--checkpoint", note, code=1)

        def verdict(path: Path) -> tuple[int, str]:
            words = [sys.executable, str(VERIFIER), str(path), vkey]
            done = subprocess.run(words, capture_output=True, text=True, timeout=WITHIN_S, check=False)
            return done.returncode, done.stdout

        assert verdict(proof) == (0, "group/ops#2 is event 5 of the 7 that were signed\n")
        content = json.loads(proof.read_text())
        for change in (
            {"event": {**content["event"], "body": content["event"]["body"].replace("quick", "slow")}},
            {"event": {**content["event"], "principal": "user/7"}},
            {"index": content["index"] + 1},
            {"checkpoint": content["checkpoint"].replace("\n7\n", "\n8\n")},
            {"path": content["path"][:-1]},
        ):
            forged = tmp_path / "forged.proof"
            forged.write_text(json.dumps(content | change))
            assert verdict(forged)[0] == 1
        huahuo(
            "audit", "verify", "--data", server.data, "--checkpoint", note, "--key", vkey, "--from-checkpoint"
        )


def test_shredding_destroys_the_key_and_leaves_a_receipt(tmp_path: Path) -> None:
    with filled(tmp_path) as server:
        assert huahuo("audit", "shred", "1", "--data", server.data) == "shredded\n"
        nothing = CliRunner().invoke(app, ["shred", "99", "--data", str(server.data)], env=KEYS)
        assert (nothing.exit_code, nothing.stderr) == (
            1,
            "nothing about mailbox/99 is in the log, so there is no key to destroy\n",
        )
        server.stop()
        assert huahuo("shred", "1", "--data", server.data) == "shredded\n"  # also where no service runs
        receipts = found(server.data, "--type", "secrets_shredded")["rows"]
        assert [row["data"]["owner"] for row in receipts] == ["mailbox/1", "mailbox/1"]
        assert json.loads(huahuo("audit", "verify", "--data", server.data, "--json"))["ok"] is True
        server.start()

        async def ended(client: Client) -> str:
            async with client.events("user/1") as events:
                await events.ready()
                await client.send("check_emails", email_ids=[1])
                async for event in events:
                    if event.data.get("status") in ("ok", "error", "need_reauth"):
                        return str(event.data["status"])
            raise AssertionError

        assert as_admin(server, ended) in ("error", "need_reauth")


def test_a_backup_comes_back_under_a_new_id_and_clients_are_told_reset(tmp_path: Path) -> None:
    with filled(tmp_path) as server:
        backup, restored = tmp_path / "backup", tmp_path / "restored"
        taken = json.loads(huahuo("backup", backup, "--data", server.data, "--json"))
        huahuo("backup", backup, "--data", server.data, code=2)
        given = json.loads(huahuo("restore", backup, "--data", restored, "--json"))
        huahuo("restore", backup, "--data", restored, code=2)
        assert given["before"] == taken["log"] != given["log"]

    async def outcome(server: Serving) -> str:
        resume = {"log": taken["log"], "cursors": {"group/ops": 3}}
        token = server.token(1, "root", admin=True)
        async with raw(f"ws://127.0.0.1:{server.port}/ws", "huahuo.v1") as client:
            answer = await client.authenticate(token, resume=resume)
            return str(answer["streams"]["group/ops"]["outcome"])

    with serving(restored) as again:
        assert asyncio.run(outcome(again)) == "reset"


def test_a_backup_without_keys_says_which_files_it_needs_and_writes_nothing(tmp_path: Path) -> None:
    with filled(tmp_path) as server:
        backup, restored = tmp_path / "backup", tmp_path / "restored"
        huahuo("backup", backup, "--data", server.data)
        no_keys = dict.fromkeys(KEYS, "")
        done = CliRunner().invoke(app, ["restore", str(backup), "--data", str(restored)], env=no_keys)
        assert done.exit_code == 2
        assert "copy jwt.secret and master.key of the backed-up directory" in done.stderr
        assert not (restored / "log.db").exists()


def test_a_restore_whose_disk_becomes_full_leaves_nothing_and_succeeds_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_full(_source: Path, target: Path) -> None:
        target.write_bytes(b"a part")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    backup, restored = tmp_path / "backup", tmp_path / "restored"
    with filled(tmp_path) as server:
        huahuo("backup", backup, "--data", server.data)
    (backup / "master.key").write_text(MASTER_KEY)
    words = ["restore", str(backup), "--data", str(restored)]
    with monkeypatch.context() as full:
        full.setattr(shutil, "copyfile", is_full)
        done = CliRunner().invoke(app, words, env=KEYS)
    assert isinstance(done.exception, SystemExit)
    assert "cannot copy master.key: No space left on device" in done.stderr
    assert [file.name for file in restored.iterdir()] == ["writer.lock"]
    huahuo(*words)
    assert (restored / "master.key").read_text() == MASTER_KEY


def test_a_damaged_backup_is_refused_with_the_position(tmp_path: Path) -> None:
    with filled(tmp_path) as server:
        backup, restored = tmp_path / "backup", tmp_path / "restored"
        huahuo("backup", backup, "--data", server.data)
        database = backup / "log.db"
        database.write_bytes(
            database.read_bytes().replace(b'"n":1,"text":"the quick', b'"n":1,"text":"the quack')
        )
        done = CliRunner().invoke(app, ["restore", str(backup), "--data", str(restored)], env=KEYS)
        assert done.exit_code == 1
        assert "damaged at position 5" in done.stderr
        assert [file.name for file in restored.iterdir()] == ["writer.lock"]


def test_a_backup_of_which_rows_were_taken_away_does_not_pass_the_check(tmp_path: Path) -> None:
    with filled(tmp_path) as server:
        backup = tmp_path / "backup"
        huahuo("backup", backup, "--data", server.data)
    assert huahuo("audit", "verify", "--data", backup).startswith("ok: ")
    with closing(sqlite3.connect(backup / "log.db", isolation_level=None)) as connection:
        assert connection.execute("DELETE FROM command WHERE crc = (SELECT max(crc) FROM command)").rowcount
    told = CliRunner().invoke(app, ["audit", "verify", "--data", str(backup)], env=KEYS)
    assert told.exit_code == 1
    assert "rows are not the" in told.output


@pytest.mark.parametrize("running", [True, False])
def test_compaction_uses_the_service_if_one_runs(tmp_path: Path, running: bool) -> None:
    with filled(tmp_path) as server:
        as_admin(server, check_and_wait)
        before = as_admin(server, rows)
        if not running:
            server.stop()
        words = ("compact", "--data", server.data, "--older-than", "0s", "--json")
        pruned = json.loads(huahuo(*words))["pruned"]
        assert pruned > 0
        verified = json.loads(huahuo("audit", "verify", "--data", server.data, "--json"))
        assert (verified["ok"], verified["pruned"]) == (True, pruned)
        huahuo("compact", "--data", server.data, "--type", "email_added", code=2)
        if running:
            server.stop()
        server.start()

        async def kept(client: Client) -> list[int]:
            head = (await client.send("get_all_emails"))["seq"]
            seqs: list[int] = []
            async with client.events("user/1", after="start") as events:
                async for event in events:
                    if event.type != "skipped":
                        seqs.append(event.seq)
                    if event.seq == head:
                        break
            return seqs

        assert as_admin(server, rows) == before  # folded anew from what is left
        seqs = as_admin(server, kept)
        assert seqs == sorted(set(seqs))
        assert len(seqs) == seqs[-1] - pruned


async def rows(client: Client) -> object:
    return (await client.send("get_all_emails"))["data"]


async def check_and_wait(client: Client) -> None:
    """One check of a server that is not there: it reports, and ends."""
    for _ in range(2):
        async with client.events("user/1") as events:
            await events.ready()
            await client.send("check_emails", email_ids=[1])
            async for event in events:
                if event.data.get("status") in ("ok", "error", "need_reauth"):
                    break


def test_datasette_serves_the_index_to_a_holder_of_the_link_and_records_each_question(tmp_path: Path) -> None:
    pytest.importorskip("datasette")
    with filled(tmp_path) as server:
        process = subprocess.Popen(
            [sys.executable, "-m", "huahuo", "audit", "serve", "--data", str(server.data), "--port", "0"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | KEYS,
        )  # fmt: skip
        try:
            link, base = _addresses(process)
            assert ask(f"{base}/audit/event.json").status_code == 403
            browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
            browser.open(link, timeout=WITHIN_S).close()
            with browser.open(
                f"{base}/audit/event.json?_search=fox&type=tick&_shape=array", timeout=WITHIN_S
            ) as answer:
                rows = json.load(answer)
            assert [row["type"] for row in rows] == ["tick"] * 3
            with browser.open(
                f"{base}/audit/about_entity.json?entity=mailbox/1&_shape=array", timeout=WITHIN_S
            ) as answer:
                assert len(json.load(answer)) == 2
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=WITHIN_S)
        asked = [row["data"]["what"] for row in found(server.data, "--type", "audit_recorded")["rows"]]
        assert "_search=fox&type=tick&_shape=array" in [what.get("question") for what in asked]


def _addresses(process: subprocess.Popen[str]) -> tuple[str, str]:
    """The sign-in link, and the address it listens on."""
    assert process.stdout is not None
    link = ""
    for line in process.stdout:
        if "auth-token" in line:
            link = line.strip()
        if running := re.search(r"running on (http://[\d.:]+)", line):
            base = running[1]
            return base + link[link.index("/-/") :], base
    raise AssertionError("it did not start")
