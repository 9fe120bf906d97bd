"""A follower whose place in the log is damaged stands still alone, until somebody says where it goes on."""

import json
import sqlite3
import threading
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from huahuo import Followed, Service
from huahuo.eventstore.sqlite.schema import DATABASE
from tests.support.drivers.command_line import huahuo
from tests.support.patience import WITHIN_S

pytestmark = pytest.mark.e2e


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


def readiness(service: Service) -> str:
    try:
        with urllib.request.urlopen(f"{service.url}/readyz", timeout=WITHIN_S) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return str(error.read().decode())


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
        assert "projection row follower cursor" in readiness(service)
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
        assert "ready" in readiness(service)
    two.must_be(1, 2, 3, 4, 5)


def test_a_follower_is_placed_nowhere_behind_the_end_of_the_log(tmp_path: Path) -> None:
    with service_with(tmp_path, Heard(), Heard()) as service:
        publish(service, 1)
    for name, after in (("one", "99"), ("one", "-1"), ("none", "0")):
        refused = huahuo("projections", "place", name, "--after", after, "--data", str(tmp_path))
        assert refused.returncode
        assert "there is no follower" in refused.stderr or "--after must be from 0 to" in refused.stderr
