"""The commands of docs/audit.md do what the page says, from top to bottom."""

import asyncio
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from huahuo.cli.main import app
from huahuo.transport.client.client import Client
from tests.support.patience import WITHIN_S
from tests.support.servers.serving import JWT_SECRET, MASTER_KEY, Serving, serving

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

PAGE = Path(__file__).parents[2] / "docs" / "audit.md"
KEYS = {"HUAHUO_JWT_SECRET": JWT_SECRET, "HUAHUO_MASTER_KEY": MASTER_KEY}


def commands() -> list[list[str]]:
    """The words of every command in the page's `sh` blocks."""
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [shlex.split(line, comments=True) for block in blocks for line in block.splitlines() if line]


async def add_and_check(server: Serving) -> None:
    token = server.token(1, "alice")
    async with (
        asyncio.timeout(WITHIN_S),
        Client(server.url, token=token) as client,
        client.events("user/1") as events,
    ):
        await events.ready()
        await client.send(
            "add_email", email="me@example.org", password="x", mail_type="imap", server="127.0.0.1"
        )
        await client.send("check_emails", email_ids=[1])
        async for event in events:
            if event.data.get("status") in ("ok", "error", "need_reauth"):
                return


def test_every_command_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with serving(tmp_path / "data") as server:
        asyncio.run(add_and_check(server))
        ran = 0
        for program, *words in commands():
            assert program == "huahuo"
            if words[0] == "salvage":
                assert server.stop() == 0
            done = CliRunner().invoke(app, words, env=KEYS)
            assert done.exit_code == 0, f"{shlex.join(words)}\n{done.output}{done.exception!r}"
            ran += 1
    assert ran > 10
    assert {path.name for path in tmp_path.iterdir()} >= {"head.note", "event.proof", "backup", "restored"}


def test_the_formula_of_the_page_is_that_of_the_code() -> None:
    code = (PAGE.parents[1] / "eventstore" / "core" / "chain.py").read_text(encoding="utf-8")
    fields = "position, stream, seq, type, body, version,"
    assert fields in PAGE.read_text(encoding="utf-8")
    assert fields in code
