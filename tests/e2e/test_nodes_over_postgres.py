"""Real nodes over a real PostgreSQL: one is killed, the other goes on; and the standby is promoted."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from itertools import batched
from pathlib import Path
from typing import Any

import pytest

from tests.support.chaos.judging import of_replicas
from tests.support.drivers.http import ask
from tests.support.patience import WITHIN_S
from tests.support.proofs import whole_only
from tests.support.servers.nodes import history, nodes, publish, ready, until
from tests.support.servers.postgres import PASSWORD, Postgres, postgres
from tests.support.servers.serving import Serving

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
FROZEN_S = 20.0
HALLS = "tests.support.worlds.halls:app"
SEATS = 12


@pytest.fixture(scope="module")
def order() -> Iterator[Postgres]:
    with postgres() as running:
        yield running


@pytest.mark.slow
def test_one_entity_that_both_nodes_command_at_once_gives_each_seat_to_one_of_them(
    tmp_path: Path, order: Postgres
) -> None:
    with nodes(tmp_path, f"{order.url}?name=halls") as cluster:
        both = cluster.add("a", HUAHUO_APP=HALLS), cluster.add("b", HUAHUO_APP=HALLS)
        with ThreadPoolExecutor(8) as threads:
            asked = [threads.submit(_book, node, seat) for seat in range(SEATS) for node in both]
            answers = [one.result() for one in asked]
            assert [sorted(pair) for pair in batched(map(_said, answers), 2)] == [
                ["success", "taken"]
            ] * SEATS
            again = [threads.submit(_book, node, SEATS, "same id") for node in both]
            first, second = (one.result() for one in again)
        assert (first["type"], first["at"]) == (second["type"], second["at"]) == ("success", second["at"])
        assert first.get("duplicate", False) != second.get("duplicate", False)
        until(
            lambda: sorted(_seats(both[0])) == sorted(_seats(both[1])) == list(range(SEATS + 1)),
            lambda: [_seats(node) for node in both],
        )
        assert _seats(both[0]) == _seats(both[1]), "one order"


@whole_only
@pytest.mark.slow
def test_nothing_acknowledged_is_lost_when_the_primary_dies_and_its_standby_is_promoted(
    tmp_path: Path,
) -> None:
    with postgres() as primary, primary.standby() as standby:
        log = f"postgres://huahuo:{PASSWORD}@127.0.0.1:{primary.port},127.0.0.1:{standby.port}/huahuo"
        with nodes(tmp_path, log) as cluster:
            one, other = cluster.add("a"), cluster.add("b")
            for number in range(10):
                publish((one, other)[number % 2], number)
            until(lambda: history(one) == history(other) == list(range(10)), lambda: history(one))
            primary.kill()
            until(lambda: ready(one) != "ready", lambda: ready(one))
            assert history(one) == history(other) == list(range(10)), "reads go on"
            standby.promote()
            standby.run("ALTER SYSTEM RESET synchronous_standby_names")
            standby.run("SELECT pg_reload_conf()")
            for number in range(10, 20):
                publish((one, other)[number % 2], number)
            expected = list(range(20))
            until(lambda: history(one) == history(other) == expected, lambda: (history(one), history(other)))
            one.stop()
            other.stop()
            assert of_replicas({"a": one, "b": other}) == []


def _book(node: Serving, seat: int, command_id: str = "") -> dict[str, Any]:
    """Book a seat of the one hall, until the answer is final."""
    key = {"Idempotency-Key": command_id or f"{node.port}-{seat}"}
    asked, token = {"hall_id": "h", "seat": seat}, node.token(1, "root", admin=True)
    end_s = time.monotonic() + WITHIN_S
    while True:
        answer = ask(f"{node.url}/commands/book_seat", token, json=asked, headers=key)
        if answer.status_code != HTTPStatus.SERVICE_UNAVAILABLE:
            return dict(answer.json())
        assert time.monotonic() < end_s, answer.text
        time.sleep(0.1)


def _said(reply: dict[str, Any]) -> str:
    return str(reply.get("code") or reply["type"])


def _seats(node: Serving) -> list[int]:
    """The seats in the order in which the node says that they were booked."""
    url = f"{node.url}/streams/hall/h?after=start&limit=1000"
    return [event["seat"] for event in ask(url, node.token(1, "root", admin=True)).json()["events"]]
