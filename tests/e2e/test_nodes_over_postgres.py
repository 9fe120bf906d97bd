"""Real nodes over a real PostgreSQL: one is killed, the other goes on; and the standby is promoted."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.chaos.judging import of_replicas
from tests.support.chaos.relay import network
from tests.support.proofs import whole_only
from tests.support.servers.nodes import history, nodes, publish, ready, until
from tests.support.servers.postgres import PASSWORD, Postgres, postgres

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
FROZEN_S = 20.0


@pytest.fixture(scope="module")
def order() -> Iterator[Postgres]:
    with postgres() as running:
        yield running


@pytest.mark.slow
def test_what_a_killed_node_acknowledged_is_on_the_other_and_on_it_when_it_is_back(
    tmp_path: Path, order: Postgres
) -> None:
    with nodes(tmp_path, f"{order.url}?name=killed") as cluster:
        one, other = cluster.add("a"), cluster.add("b")
        publish(one, 0)
        publish(other, 1)
        one.kill()
        publish(other, 2)
        one.start()
        publish(one, 3)
        until(lambda: history(one) == history(other) == [0, 1, 2, 3], lambda: (history(one), history(other)))


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


@whole_only
@pytest.mark.slow
def test_a_node_that_is_frozen_or_cut_off_for_20_s_tells_the_same_history_afterwards(
    tmp_path: Path, order: Postgres
) -> None:
    with network(("a", "b"), [order.port]) as net:

        def log(node: str) -> str:
            return f"postgres://huahuo:{PASSWORD}@127.0.0.1:{net.of(node)[0]}/huahuo?name=slow"

        with nodes(tmp_path, "") as cluster:
            one = cluster.add("a", HUAHUO_LOG=log("a"))
            other = cluster.add("b", HUAHUO_LOG=log("b"))
            number = 0

            def write_for(seconds: float) -> None:
                nonlocal number
                end_s = time.monotonic() + seconds
                while time.monotonic() < end_s:
                    publish(other, number)
                    number += 1
                    time.sleep(0.1)  # the pace of a writer, so that one page holds all of it

            write_for(1.0)
            one.send(signal.SIGSTOP)
            write_for(FROZEN_S)
            one.send(signal.SIGCONT)
            publish(one, number)
            net.cut("a")
            number += 1
            write_for(FROZEN_S)
            assert history(one), "reads go on"
            assert ready(one) != "ready"
            net.heal("a")
            publish(one, number)
            until(lambda: ready(one) == ready(other) == "ready", lambda: (ready(one), ready(other)))
            until(lambda: len(history(one)) == len(history(other)) == number + 1, lambda: number)
            assert history(one) == history(other) == list(range(number + 1))
            one.stop()
            other.stop()
            assert of_replicas({"a": one, "b": other}) == []
