"""`huahuo user`, with and without a running service."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from huahuo.transport.client.client import Client
from huahuo.transport.client.model import ClientStopped
from tests.support.drivers.command_line import KEYS, huahuo
from tests.support.patience import WITHIN_S
from tests.support.servers.serving import serving

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

PASSWORD = "canary-password"


def user(*arguments: str, data: Path, password: str = PASSWORD) -> subprocess.CompletedProcess[str]:
    """`huahuo user …` with a password on standard input."""
    return subprocess.run(
        [sys.executable, "-m", "huahuo", "user", *arguments, "--data", str(data)],
        capture_output=True,
        text=True,
        input=f"{password}\n",
        timeout=WITHIN_S,
        check=False,
        env=None,
    )


def test_the_first_user_is_made_before_there_is_a_directory(tmp_path: Path) -> None:
    data = tmp_path / "new" / "data"
    made = user("add", "alice", "--admin", "--password-stdin", data=data)
    assert (made.returncode, made.stdout) == (0, "added alice\n"), made.stderr
    listed = huahuo("user", "list", "--data", str(data))
    assert listed.stdout == "1\talice\tadmin\n"
    for file in data.rglob("*"):
        if file.is_file():
            assert PASSWORD.encode() not in file.read_bytes()


def test_a_password_is_never_taken_from_the_command_line_nor_made_up(tmp_path: Path) -> None:
    refused = user("add", "alice", data=tmp_path / "data")
    assert refused.returncode == 2
    assert "--password-stdin" in refused.stderr


def test_a_short_password_is_one_line_and_makes_no_directory(tmp_path: Path) -> None:
    refused = user("add", "alice", "--password-stdin", data=tmp_path / "data", password="short")
    assert refused.returncode == 1
    assert "8 to 256 characters" in refused.stderr
    assert not (tmp_path / "data").exists()


def test_where_there_are_no_users_the_list_says_how_to_make_one(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        listed = huahuo("user", "list", "--data", str(server.data), **KEYS)
    assert (listed.returncode, listed.stdout) == (0, "")
    assert listed.stderr == "no users: make one by `huahuo user add NAME --admin`\n"


def test_a_refusal_is_told_in_the_same_words_with_and_without_a_service(tmp_path: Path) -> None:
    def refusals(data: Path) -> list[str]:
        done = [
            huahuo("user", "rm", "nobody", "--data", str(data), **KEYS),
            huahuo("key", "revoke", "3", "--data", str(data), **KEYS),
        ]
        assert [one.returncode for one in done] == [1, 1]
        return [one.stderr for one in done]

    with serving(tmp_path / "data") as server:
        told = refusals(server.data)
    assert (
        told
        == refusals(server.data)
        == ["huahuo: there is no user 'nobody'\n", "huahuo: there is no key 3\n"]
    )


async def test_with_a_service_the_same_commands_go_through_it_and_end_sessions(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:

        def change(*arguments: str) -> str:
            done = huahuo("user", *arguments, "--data", str(server.data), **KEYS)
            assert done.returncode == 0, done.stderr
            return done.stdout

        async with Client(server.url, token=server.token(0, "root", admin=True)) as root:
            added = await root.send("add_user", name="alice", password=PASSWORD)
        number = added["user_id"]
        listed = json.loads(await asyncio.to_thread(change, "list", "--json"))
        assert (listed["user_id"], listed["name"]) == (number, "alice")
        async with Client(server.url, token=server.token(number, "alice")) as client:
            await client.send("get_all_emails")
            await asyncio.to_thread(change, "disable", "alice")
            async with asyncio.timeout(WITHIN_S):
                assert isinstance(await client.wait_stopped(), ClientStopped)
        await asyncio.to_thread(change, "enable", "alice")
        refused = await asyncio.to_thread(huahuo, "user", "rm", "bob", "--data", str(server.data), **KEYS)
        assert refused.returncode == 1
        assert "there is no user 'bob'" in refused.stderr
        assert refused.stderr.isascii()
        await asyncio.to_thread(change, "rm", "alice")
        assert await asyncio.to_thread(change, "list") == ""


async def test_a_user_gets_a_new_token_changes_the_password_and_signs_out_everywhere(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        async with Client(server.url, token=server.token(0, "root", admin=True)) as root:
            added = await root.send("add_user", name="alice", password=PASSWORD)
        async with Client(server.url, token=server.token(added["user_id"], "alice")) as client:
            fresh = await client.send("renew_token")
            assert fresh["user"]["username"] == "alice"
        ends: list[tuple[str, dict[str, str]]] = [
            ("change_password", {"old_password": PASSWORD, "new_password": "another password"}),
            ("sign_out_everywhere", {}),
        ]
        for action, fields in ends:
            async with Client(server.url, token=server.token(added["user_id"], "alice")) as client:
                async with asyncio.timeout(WITHIN_S):
                    with pytest.raises(ClientStopped):
                        await client.send(action, **fields)
