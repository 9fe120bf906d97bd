"""What a nearly full disk and a quota refuse, what goes on, and what an idle service frees."""

import _sqlite3
import asyncio
import contextlib
import ctypes
import os
import shutil
import sqlite3
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from huahuo import Huahuo
from huahuo.app.wiring import letting_go
from huahuo.errors import HuahuoError
from huahuo.transport.client.client import Client
from huahuo.transport.client.model import CommandError
from tests.support.drivers.http import client as http_client
from tests.support.patience import WITHIN_S
from tests.support.worlds.storing import MIB, Stored, stored

MAILBOX: dict[str, Any] = {"email": "a@example.com", "password": "pw", "server": "imap.example.com"}


async def refusal(client: Client, action: str, **fields: Any) -> tuple[str, float | None]:
    with pytest.raises(CommandError) as caught:
        await client.send(action, **fields)
    return caught.value.code, caught.value.retry_s


async def readyz(s: Stored) -> str:
    return await get(s, "/readyz")


async def get(s: Stored, path: str) -> str:
    def ask() -> str:
        with urllib.request.urlopen(f"{s.app.url}{path}", timeout=WITHIN_S) as answer:
            said: bytes = answer.read()
            return said.decode()

    return await asyncio.get_running_loop().run_in_executor(None, ask)


async def test_publishes_imports_and_checks_are_refused_and_told_when_to_come_back(tmp_path: Path) -> None:
    async with stored(tmp_path / "data") as s, s.client(1, admin=True) as client:
        added = await client.send("add_email", **MAILBOX)
        email_id = added["email_id"]
        await s.has_free(10 * MIB)
        growing: dict[str, dict[str, Any]] = {
            "publish": {"stream": "group/ops", "type": "tick"},
            "import_emails": {"data": "b@example.com----pw"},
            "check_emails": {"email_ids": [email_id]},
            "add_email": MAILBOX | {"email": "c@example.com"},
        }
        for action, fields in growing.items():
            assert await refusal(client, action, **fields) == ("storage_full", 30.0), action


async def test_deletes_acks_and_reads_go_on(tmp_path: Path) -> None:
    async with stored(tmp_path / "data") as s, s.client(1, admin=True) as client:
        added = await client.send("add_email", **MAILBOX)
        email_id = added["email_id"]
        await s.has_free(10 * MIB)
        async with client.events("user/1", "start") as events:
            await anext(events)
            await client.send("delete_emails", email_ids=[email_id])
            while (await anext(events)).type != "email_deleted":
                pass
        assert (await client.send("get_all_emails"))["data"] == []
        await client.send("revoke", user_id=7)


async def test_every_door_refuses_and_opens_again(tmp_path: Path) -> None:
    async with stored(tmp_path / "data") as s, http_client(s.app.url, s.token(1, admin=True)) as http:
        await s.has_free(10 * MIB)
        answer = await http.post("/commands/publish", json={"stream": "group/ops", "type": "tick"})
        assert (answer.status_code, answer.json()["code"]) == (507, "storage_full")
        assert (answer.headers["Retry-After"], answer.json()["retry_s"]) == ("30", 30.0)
        answer = await http.put("/ds/notes", headers={"Content-Type": "text/plain"}, content=b"x")
        assert (answer.status_code, answer.json()["code"]) == (507, "storage_full")
        with pytest.raises(ValueError, match="nearly full"):
            await s.app.publisher.publish("group/ops", "tick", {})
        await s.has_free(1 << 40)
        answer = await http.put("/ds/notes", headers={"Content-Type": "text/plain"}, content=b"x")
        assert answer.status_code == 201
        await s.app.publisher.publish("group/ops", "tick", {})


async def test_nobody_makes_an_account_but_users_sign_in(tmp_path: Path) -> None:
    account = {"username": "newcomer", "password": "correct horse"}
    async with stored(tmp_path / "data", registration=True) as s, http_client(s.app.url) as http:
        await s.app.users.add("alice", account["password"], principal="test")
        await s.has_free(10 * MIB)
        answer = await http.post("/accounts", json=account)
        assert (answer.status_code, answer.json()["code"]) == (507, "storage_full")
        assert answer.headers["Retry-After"] == "30"
        answer = await http.post("/login", json=account | {"username": "alice"})
        assert answer.status_code == 200
        await s.has_free(1 << 40)
        assert (await http.post("/accounts", json=account)).status_code == 201


async def test_the_stage_is_said_by_readyz_by_the_metrics_and_once_in_the_log(tmp_path: Path) -> None:
    async with stored(tmp_path / "data") as s:
        assert await readyz(s) == "ready\n"
        with capture_logs() as lines:
            await s.has_free(10 * MIB)
            await s.has_free(9 * MIB)
            assert "the disk is nearly full: 9 MiB are free" in await readyz(s)
            await s.has_free(1 << 40)
        assert await readyz(s) == "ready\n"
        said = [line["event"] for line in lines if line["event"].startswith("disk_")]
        assert said == ["disk_nearly_full", "disk_has_room_again"]
        metrics = await get(s, "/metrics")
        assert "huahuo_disk_low 0.0" in metrics
        assert "huahuo_disk_free_bytes 1.0995" in metrics


async def test_a_refused_command_runs_with_the_same_id_when_there_is_room(tmp_path: Path) -> None:
    async with stored(tmp_path / "data") as s, s.client(1, admin=True) as client:
        await s.has_free(10 * MIB)
        fields = {"stream": "group/ops", "type": "tick"}
        with pytest.raises(CommandError, match="storage_full"):
            await client.request("publish", fields, command_id="c-1")
        await s.has_free(1 << 40)
        assert (await client.request("publish", fields, command_id="c-1"))["type"] == "success"


@contextlib.contextmanager
def small_file_system(place: Path, size: int) -> Iterator[Path | None]:
    """A tmpfs of `size` bytes; None where this user may not mount."""
    place.mkdir()
    mount = shutil.which("mount")
    mounted = mount is not None and os.geteuid() == 0
    if mounted:
        asked = (str(mount), "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place))
        mounted = subprocess.run(asked, capture_output=True, check=False).returncode == 0
    try:
        yield place if mounted else None
    finally:
        if mounted:
            subprocess.run(("umount", str(place)), check=True)


async def test_a_real_file_system_fills_to_the_threshold_and_no_write_ever_fails(tmp_path: Path) -> None:
    """Where nothing can be mounted, the probe counts what the files of the directory leave of 24 MiB."""
    with small_file_system(tmp_path / "disk", 24 * MIB) as mounted:
        data = (mounted or tmp_path) / "data"
        ballast = (mounted or tmp_path) / "ballast"
        ballast.write_bytes(bytes(6 * MIB))
        async with stored(data, real_disk=mounted is not None, disk_low_bytes=8 * MIB) as s:

            async def look() -> None:
                used = sum(f.stat().st_size for f in tmp_path.rglob("*") if f.is_file())
                await s.has_free(24 * MIB - used)

            code, written = "", 0
            async with s.client(1, admin=True) as client:
                while not code:
                    try:
                        await client.send("publish", stream="group/ops", type="tick", pad="x" * 200_000)
                        written += 1
                    except CommandError as error:
                        code = error.code
                    await look()
                assert code == "storage_full"
                assert written > 10
                assert s.app.log.position == written
                ballast.unlink()
                await look()
                await client.send("publish", stream="group/ops", type="tick")


async def test_a_start_that_meets_a_full_disk_after_the_log_was_opened_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: Any) -> None:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    data = tmp_path / "data"
    with monkeypatch.context() as disk:
        disk.setattr("huahuo.mailcheck.api.mail_index.TextIndex", full)
        with pytest.raises(HuahuoError, match=f"the disk of {data} is full: delete other files"):
            async with stored(data):
                pass
    async with stored(data) as s:
        assert await readyz(s) == "ready\n"


KIB = 1024


def mailbox(name: str) -> dict[str, Any]:
    return {"email": f"{name}@example.com", "password": "pw", "server": "imap.example.com"}


async def fill(s: Stored, client: Client) -> int:
    """Add mailboxes until that is refused; returns how many there are."""
    for number in range(500):
        try:
            await client.send("add_email", **mailbox(f"m{number}"))
        except CommandError as error:
            refused = error.code, error.retry_s
            break
        if number % 10 == 9:
            assert s.app.storing.quotas is not None
            await s.app.storing.quotas.count()
    assert refused == ("quota_exceeded", None)
    return number


async def test_a_user_at_its_quota_is_refused_and_another_one_is_not(tmp_path: Path) -> None:
    async with stored(tmp_path / "data", user_bytes_max=8 * KIB) as s, s.client(1) as one, s.client(2) as two:
        count = await fill(s, one)
        assert 10 <= count < 100
        await two.send("add_email", **mailbox("other"))
        taken = (await one.send("get_usage"))["data"]
        assert taken["bytes"] >= taken["bytes_max"] == 8 * KIB
        assert taken["events_bytes"] + taken["blobs_bytes"] + taken["index_bytes"] == taken["bytes"]
        assert len((await one.send("get_all_emails"))["data"]) == count


async def test_an_administrator_sees_who_takes_most_and_gives_a_user_another_quota(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"user_bytes_max": 8 * KIB}
    async with (
        stored(tmp_path / "data", **settings) as s,
        s.client(1) as one,
        s.client(9, admin=True) as root,
    ):
        await fill(s, one)
        told = (await root.send("get_storage"))["data"]
        assert told["users"][0]["user_id"] == 1
        assert (told["disk_low"], told["user_bytes_max"]) == (False, 8 * KIB)
        await root.send("set_quota", user_id=1, bytes_max=0)
        await one.send("add_email", **mailbox("one-more"))
        assert (await root.send("get_usage", user_id=1))["data"]["bytes_max"] is None
        with pytest.raises(CommandError, match="forbidden"):
            await one.send("get_usage", user_id=9)
        with pytest.raises(CommandError, match="forbidden"):
            await one.send("set_quota", user_id=1)
    async with stored(tmp_path / "data", **settings) as s, s.client(9, admin=True) as root:
        assert (await root.send("get_usage", user_id=1))["data"]["bytes_max"] is None
        await root.send("set_quota", user_id=1)
        assert (await root.send("get_usage", user_id=1))["data"]["bytes_max"] == 8 * KIB


async def test_who_has_used_up_its_quota_is_still_known_after_a_restart(tmp_path: Path) -> None:
    async with stored(tmp_path / "data", user_bytes_max=8 * KIB) as s, s.client(1) as one:
        await fill(s, one)
        assert s.app.storing.quotas is not None
        before = s.app.storing.quotas.taken(1)
    async with stored(tmp_path / "data", user_bytes_max=8 * KIB) as s, s.client(1) as one:
        assert s.app.storing.quotas is not None
        await s.app.storing.quotas.count()
        assert s.app.storing.quotas.taken(1) == before
        with pytest.raises(CommandError, match="quota_exceeded"):
            await one.send("add_email", **mailbox("one-more"))
        ids = [row["id"] for row in (await one.send("get_all_emails"))["data"]]
        await one.send("delete_emails", email_ids=ids)


async def test_a_user_that_begins_too_many_streams_is_refused_and_its_streams_go_on(tmp_path: Path) -> None:
    async with stored(tmp_path / "data", streams_begun_per_day=20) as s, s.client(2) as other:
        headers = {"Authorization": f"Bearer {s.token(1)}", "Content-Type": "text/plain"}
        async with httpx.AsyncClient(base_url=s.app.url, headers=headers, timeout=WITHIN_S) as http:
            answers = [await http.put(f"/ds/user/1/{number}", content="a") for number in range(30)]
            codes = [answer.status_code for answer in answers]
            made = codes.count(201)
            assert codes == [201] * made + [429] * (30 - made)
            assert 5 <= made <= 20
            assert int(answers[-1].headers["retry-after"]) > 0
            assert (await http.get("/ds/user/1/0")).text == "a"
        await other.send("add_email", **mailbox("other"))


_memory_used = ctypes.CDLL(_sqlite3.__file__).sqlite3_memory_used
_memory_used.restype = ctypes.c_int64


def sqlite_bytes() -> int:
    """What SQLite holds in this process, most of it pages of databases."""
    return int(_memory_used())


async def let_go(s: Stored) -> None:
    """Let go, and wait until the pages are freed. Raises what that raised."""
    letting_go(s.app)()
    await asyncio.gather(*(task for task in asyncio.all_tasks() if task.get_name() == "forget pages"))


async def test_an_idle_service_lets_frames_go_and_goes_on(tmp_path: Path) -> None:
    async with stored(tmp_path / "data") as s, s.client(1, admin=True) as one, s.client(2, admin=True) as two:
        for client in (one, two):
            await client.events("group/ops").ready()
        await one.send("publish", stream="group/ops", type="said", text="a" * 1000)
        async for event in two.events("group/ops", after=0):
            assert event.data["text"] == "a" * 1000
            break
        assert s.app.server.frames.bytes > 0
        await let_go(s)
        assert s.app.server.frames.bytes == 0
        await asyncio.gather(*(one.send("publish", stream="group/ops", type="said", n=n) for n in range(20)))
        assert s.app.log.head("group/ops").seq == 21


async def test_an_idle_service_keeps_few_recent_events_and_goes_on(tmp_path: Path) -> None:
    texts = [f"{n} " * 20_000 for n in range(100, 200)]
    async with stored(tmp_path / "data") as s, s.client(1, admin=True) as one:
        for text in texts:
            await one.send("publish", stream="group/ops", type="said", text=text)
        tail = s.app.feed.tail
        assert tail.weight > sum(map(len, texts))
        await let_go(s)
        assert 0 < tail.weight <= 4 << 20
        await one.send("publish", stream="group/ops", type="said", text="the last")
        got: list[str] = []
        async for event in one.events("group/ops", after=0):
            got.append(event.data["text"])
            if got[-1] == "the last":
                break
        assert got == [*texts, "the last"]


async def test_an_idle_service_frees_the_pages_of_what_it_wrote(tmp_path: Path) -> None:
    texts = [str(n) * 1000 for n in range(1000, 1200)]
    async with stored(tmp_path / "data") as s, s.client(1, admin=True) as one:
        await asyncio.gather(
            *(one.send("publish", stream="group/ops", type="said", text=text) for text in texts)
        )
        held = sqlite_bytes()
        await let_go(s)
        assert held - sqlite_bytes() > sum(map(len, texts)) // 2


async def test_a_service_inside_a_program_lets_go_when_the_loop_is_idle_and_leaves_garbage_to_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for inside in (False, True):
        machine = Machine()
        monkeypatch.setattr("huahuo.embedding.huahuo.Tidier", machine.tidier)
        app = Huahuo(data=tmp_path / str(inside), port=0)
        await (app.start_inside() if inside else app.start())
        await app.publish("group/ops", "said", {"text": "hello"})
        assert (machine.runs, machine.collects) == (True, False)
        machine.let_go()
        await app.publish("group/ops", "said", {"text": "still here"})
        await app.stop()
        assert not machine.runs


class Machine:
    """In place of the tidier: it is told when the loop is idle."""

    runs = False
    collects = True

    def tidier(
        self, loop: asyncio.AbstractEventLoop, *, collects: bool, let_go: Callable[[], None]
    ) -> AbstractContextManager[None]:
        self.collects, self.let_go = collects, let_go
        return self.living()

    @contextmanager
    def living(self) -> Iterator[None]:
        self.runs = True
        yield
        self.runs = False
