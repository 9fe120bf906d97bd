"""A data directory that an earlier version wrote, from before rosters had a stream of their own.

`tests/support/data/log-0.1.tar.gz` was written by that version: user 42 added a@, b@ and c@example.org,
deleted c@, changed the port of b@, and an embedding application reported a check of a@.
"""

import asyncio
import json
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from huahuo.transport.client.client import Client
from huahuo.transport.client.model import CommandError
from tests.support.patience import WITHIN_S
from tests.support.servers.serving import JWT_SECRET, MASTER_KEY, Serving, serving

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ARCHIVE = Path(__file__).resolve().parents[1] / "support" / "data" / "log-0.1.tar.gz"
ROSTER = "roster/42"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path / "data", filter="data")
    (tmp_path / "data").chmod(0o700)
    return tmp_path / "data"


@pytest.fixture
def server(data: Path) -> Iterator[Serving]:
    with serving(data) as running:
        yield running


def asked(data: Path, *arguments: str) -> list[dict[str, Any]]:
    """The JSON that a command prints, a line each."""
    done = subprocess.run(
        [sys.executable, "-m", "huahuo", *arguments, "--data", str(data), "--json"],
        capture_output=True,
        text=True,
        check=False,
        env={"HUAHUO_MASTER_KEY": MASTER_KEY, "HUAHUO_JWT_SECRET": JWT_SECRET},
    )
    assert done.returncode == 0, (arguments, done.stdout, done.stderr)
    return [json.loads(line) for line in done.stdout.splitlines()]


def events(data: Path, stream: str) -> list[dict[str, Any]]:
    return asked(data, "replay", "log", stream)


def commands(server: Serving) -> list[Any]:
    """What the roster answers: about the rows of before, an address that is taken, and changes."""

    async def ask() -> list[Any]:
        async with asyncio.timeout(WITHIN_S), Client(server.url, token=server.token(42, "alice")) as client:
            rows = (await client.send("get_all_emails"))["data"]
            with pytest.raises(CommandError) as caught:
                await client.send("add_email", email="A@example.org", password="p")
            added = await client.send("add_email", email="d@example.org", password="p")
            deleted = await client.send("delete_emails", email_ids=[rows[1]["id"]])
            return [rows, caught.value.code, added, deleted]

    return asyncio.run(ask())


def test_its_rosters_go_on_where_they_were_and_get_a_stream_of_their_own(server: Serving) -> None:
    before = events(server.data, "user/42")
    rows, code, added, deleted = commands(server)
    assert [(row["email"], row["port"], row["status"]) for row in rows] == [
        ("a@example.org", 993, "error"),
        ("b@example.org", 1993, "idle"),
    ]
    assert (code, added["email_id"], deleted["email_ids"]) == ("already_exists", 4, [rows[1]["id"]])
    assert [event["type"] for event in events(server.data, ROSTER)] == ["roster_changed", "roster_changed"]
    assert events(server.data, "user/42")[: len(before)] == before


def test_what_it_holds_is_verified_and_what_was_decided_is_decided_again(server: Serving) -> None:
    commands(server)
    server.stop()
    [verified] = asked(server.data, "audit", "verify")
    assert verified["ok"]
    [checked] = asked(server.data, "replay", "check")
    assert (checked["differences"], checked["decided"]) == (0, 9)
