"""A log's file with a damaged place, under a real service: it is withheld or refused, and salvaged."""

import asyncio
import json
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from huahuo import Followed, Service
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.eventstore.model import Append, NewEvent
from huahuo.eventstore.sqlite.log import SqliteLog
from huahuo.eventstore.sqlite.schema import DATABASE, PAGE_BYTES
from tests.support.drivers.command_line import KEYS, huahuo
from tests.support.drivers.http import ask
from tests.support.drivers.rawclient import raw
from tests.support.patience import WITHIN_S
from tests.support.servers.serving import MASTER_KEY, Serving, serving

pytestmark = pytest.mark.e2e


async def fill(data: Path) -> None:
    """Two streams, followed by more events than an opening looks at."""
    log = await SqliteLog.open(
        data, ambient=SystemAmbient(), master_key=bytes.fromhex(MASTER_KEY), build="test"
    )
    for stream, count in (("group/a", 20), ("group/b", 20), ("group/c", 1200)):
        events = tuple(
            NewEvent(stream, "tick", b'{"type":"tick","text":"%s number %d"}' % (stream.encode(), n))
            for n in range(count)
        )
        for start in range(0, count, 200):
            await log.append(Append(ts_ms=0, events=events[start : start + 200]))
    await log.close()


def flip(database: Path, *, bytes_changed: int = 1) -> None:
    raw_bytes = bytearray(database.read_bytes())
    place = raw_bytes.index(b"group/a number 7")
    for offset in range(9, 9 + bytes_changed):
        raw_bytes[place + offset] ^= 1
    database.write_bytes(raw_bytes)


def flip_more(database: Path) -> None:
    flip(database, bytes_changed=2)


def move(database: Path) -> None:
    """The place of group/a's event 8 leads to an event of group/b."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("UPDATE seq_index SET position = 28 WHERE position = 8")


def rename(database: Path) -> None:
    """Both copies of the name of group/a are another one."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("UPDATE stream SET name = 'group/x' WHERE name = 'group/a'")


def spoil_name(database: Path) -> None:
    """One of the two copies of the name of group/a: that in the table."""
    raw_bytes = bytearray(database.read_bytes())
    with closing(sqlite3.connect(database)) as connection:
        sql = "SELECT rootpage FROM sqlite_master WHERE name = 'stream'"
        start = (connection.execute(sql).fetchone()[0] - 1) * PAGE_BYTES
    raw_bytes[raw_bytes.index(b"group/a", start) + 6] ^= 4
    database.write_bytes(raw_bytes)


def readiness(service: Serving | Service) -> tuple[int, str]:
    answer = ask(f"{service.url}/readyz")
    return answer.status_code, answer.text


async def read(server: Serving, stream: str, last: int, **fields: Any) -> tuple[list[int], str]:
    """The seqs of `stream` from its beginning, and how the subscription ended, if it did."""
    ws = server.url.replace("http", "ws")
    async with asyncio.timeout(WITHIN_S), raw(ws, "huahuo.v1") as client:
        token = server.token(1, "root", admin=True)
        result = await client.authenticate(token, client="c", **fields)
        await client.say(action="subscribe", stream=stream, id="s", after=0, log=result["log"])
        while True:
            message = await client.next()
            if message.get("type") == "unsubscribed":
                assert message["stream"] == stream
                return [seq for seq, _ in client.events(stream)], message["reason"]
            seqs = [seq for seq, _ in client.events(stream)]
            if seqs and seqs[-1] == last:
                return seqs, ""


@pytest.mark.parametrize("damage", [flip, flip_more, move])
def test_a_damaged_stream_says_so_and_the_others_go_on(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    data = tmp_path / "data"
    asyncio.run(fill(data))
    damage(data / DATABASE)
    with serving(data) as server:
        seqs, reason = asyncio.run(read(server, "group/a", 20))
        assert reason == "corrupt"
        assert seqs in ([], [1, 2, 3, 4, 5, 6, 7]), "what stands before it may come, nothing else"
        assert asyncio.run(read(server, "group/b", 20)) == (list(range(1, 21)), "")
        status, text = readiness(server)
        assert status == 503
        assert "stream group/a is damaged" in text
        assert "huahuo_corrupt_total 0" not in ask(f"{server.url}/metrics").text
        running = huahuo("doctor", "--data", str(data), "--json", **KEYS)
        server.stop()
        port = {"HUAHUO_PORT": str(server.port)}
        stopped = huahuo("doctor", "--data", str(data), "--json", **KEYS, **port)
        for done in (running, stopped):
            assert done.returncode == 1
            wrong = [found for found in json.loads(done.stdout) if found["level"] == "error"]
            assert any("position" in found["text"] or "group/a" in found["text"] for found in wrong)
            assert any("huahuo salvage" in found["text"] for found in wrong)


@pytest.mark.parametrize("damage", [rename, spoil_name])
def test_a_log_that_is_refused_names_salvage_and_what_is_salvaged_is_served(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    data, salvaged = tmp_path / "data", tmp_path / "salvaged"
    asyncio.run(fill(data))
    damage(data / DATABASE)
    refused = huahuo("serve", "--data", str(data), "--port", "0", **KEYS)
    assert refused.returncode == 1
    assert f"huahuo salvage {data} --data NEW" in refused.stderr
    before = (data / DATABASE).read_bytes()
    done = huahuo("salvage", str(data), "--data", str(salvaged), "--json", **KEYS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (data / DATABASE).read_bytes() == before
    lost = json.loads(done.stdout)["lost"]
    with serving(salvaged) as server:
        for stream in ("group/a", "group/b"):
            if stream == "group/b" or damage is spoil_name:
                assert asyncio.run(read(server, stream, 20)) == (list(range(1, 21)), "")
        assert readiness(server)[0] == 200
        server.stop()
    assert any("20 events are lost" in line for line in lost) is (damage is rename)


def test_what_is_found_while_a_command_runs_is_not_among_what_it_prints(tmp_path: Path) -> None:
    data = tmp_path / "data"
    asyncio.run(fill(data))
    query = ("audit", "query", "--stream", "group/b", "--json", "--data", str(data))
    assert huahuo(*query, **KEYS).returncode == 0, "the index is made of the whole log"
    flip_more(data / DATABASE)
    done = huahuo(*query, **KEYS)
    assert [row["seq"] for row in json.loads(done.stdout)["rows"]] == list(range(1, 21))
    assert "log_written_by_others" in done.stderr


def test_another_token_key_than_at_the_last_start_is_told_in_the_log_and_by_doctor(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with serving(data) as server:
        server.stop()
        server.environ["HUAHUO_JWT_SECRET"] = "another-secret-that-is-long-enough-0000"
        server.start()
        server.stop()
        changed = {"HUAHUO_PORT": str(server.port), "HUAHUO_JWT_SECRET": server.environ["HUAHUO_JWT_SECRET"]}
        done = huahuo("doctor", "--data", str(data), "--json", **(KEYS | changed))
        told = [found["text"] for found in json.loads(done.stdout) if found["about"] == "keys"]
        assert any("the token key was changed on" in text for text in told)
        assert "token_key_changed" in (tmp_path / "serve.log").read_text()
        server.start()


class Heard:
    """What a follower was given, over all lives of the service."""

    def __init__(self) -> None:
        self.seqs: list[int] = []
        self._changed = threading.Condition()

    def add(self, events: Sequence[Followed]) -> None:
        with self._changed:
            self.seqs += [event.seq for event in events]
            self._changed.notify_all()

    def must_be(self, *seqs: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.seqs == list(seqs), WITHIN_S), self.seqs


def service_with(data: Path, one: Heard, two: Heard) -> Service:
    service = Service(data, plugins=[], port=0)

    @service.follower("one", kinds=["group"])
    async def to_one(events: Sequence[Followed]) -> None:
        one.add(events)

    @service.follower("two", kinds=["group"])
    async def to_two(events: Sequence[Followed]) -> None:
        two.add(events)

    return service


def publish(service: Service, count: int) -> None:
    for _ in range(count):
        service.publish("group/ops", "said", {})


def damage(data: Path) -> None:
    with closing(sqlite3.connect(data / DATABASE, isolation_level=None)) as connection:
        sql = "UPDATE projection SET value = CAST('{\"after\":9}' AS BLOB) WHERE part = 'cursor' AND key = ?"
        assert connection.execute(sql, (b"one",)).rowcount == 1


def test_a_follower_whose_place_is_lost_stands_still_alone_and_goes_on_where_it_is_placed(
    tmp_path: Path,
) -> None:
    one, two = Heard(), Heard()
    with service_with(tmp_path, one, two) as service:
        publish(service, 3)
        one.must_be(1, 2, 3)
        two.must_be(1, 2, 3)
    damage(tmp_path)
    place = ("projections", "place", "one", "--after", "0", "--data", str(tmp_path))
    with service_with(tmp_path, one, two) as service:
        publish(service, 2)
        two.must_be(1, 2, 3, 4, 5)
        assert "projection row follower cursor" in readiness(service)[1]
        listed = huahuo("projections", "list", "--json", "--data", str(tmp_path))
        states = {row["name"]: row["state"] for row in map(json.loads, listed.stdout.splitlines())}
        assert (states["one"], states["two"]) == ("place lost", "up to date"), listed.stderr
        refused = huahuo(*place)
        assert refused.returncode
        assert "stop it" in refused.stderr
    one.must_be(1, 2, 3)
    doctor = huahuo("doctor", "--data", str(tmp_path), "--json")
    found = {said["about"]: said["text"] for said in json.loads(doctor.stdout) if said["level"] == "error"}
    assert "huahuo projections place one --after" in found["followers"]
    listed = huahuo("projections", "list", "--json", "--data", str(tmp_path))
    assert '"place lost"' in listed.stdout, listed.stderr
    done = huahuo(*place)
    assert done.returncode == 0, done.stderr
    with service_with(tmp_path, one, two) as service:
        one.must_be(1, 2, 3, 1, 2, 3, 4, 5)
        assert "ready" in readiness(service)[1]
    two.must_be(1, 2, 3, 4, 5)


def test_a_follower_is_placed_nowhere_behind_the_end_of_the_log(tmp_path: Path) -> None:
    with service_with(tmp_path, Heard(), Heard()) as service:
        publish(service, 1)
    for name, after in (("one", "99"), ("one", "-1"), ("none", "0")):
        refused = huahuo("projections", "place", name, "--after", after, "--data", str(tmp_path))
        assert refused.returncode
        assert "there is no follower" in refused.stderr or "--after must be from 0 to" in refused.stderr
