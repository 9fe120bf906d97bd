"""Faults of nodes, with real nodes over a real ordered log: nothing acknowledged is lost, and each says why.

Only `make check-all` runs these: freezing a node for a minute takes a minute.
"""

import resource
import shutil
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.drivers.command_line import huahuo
from tests.support.drivers.http import ask
from tests.support.proofs import whole_only
from tests.support.servers.nats import NatsServers, nats_servers
from tests.support.servers.nodes import history, nodes, publish, ready, until
from tests.support.servers.serving import Serving

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]
FROZEN_S = 60.0
WRONG_CLOCK = Path(__file__).resolve().parents[1] / "support" / "chaos" / "clock"


@pytest.fixture(scope="module")
def order() -> Iterator[NatsServers]:
    with nats_servers() as running:
        yield running


@whole_only
def test_a_node_that_was_frozen_for_a_minute_comes_back_and_tells_the_same(
    tmp_path: Path, order: NatsServers
) -> None:
    with nodes(tmp_path, f"{order.url}?name=frozen") as cluster:
        one, other = cluster.add("a"), cluster.add("b")
        publish(one, 0)
        one.send(signal.SIGSTOP)
        end_s, number = time.monotonic() + FROZEN_S, 1
        while time.monotonic() < end_s:
            publish(other, number)
            number += 1
            time.sleep(0.5)
        one.send(signal.SIGCONT)
        publish(one, number)
        expected = list(range(number + 1))
        until(lambda: history(one) == history(other) == expected, lambda: (history(one), history(other)))
        assert ready(one) == ready(other) == "ready"


@whole_only
def test_a_node_that_lost_its_directory_joins_by_a_copy_after_the_log_was_trimmed(
    tmp_path: Path, order: NatsServers
) -> None:
    with nodes(tmp_path, f"{order.url}?name=lost") as cluster:
        one, other = cluster.add("a"), cluster.add("b")
        for number in range(50):
            publish(one, number)
        trimmed = huahuo("cluster", "trim", "--data", str(one.data), **one.environ)
        assert trimmed.returncode == 0, trimmed.stderr
        other.kill()
        shutil.rmtree(other.data)
        publish(one, 50)
        other.start()
        until(lambda: ready(other) == "ready", lambda: (ready(other), other.log()[-2000:]))
        assert "joined_by_copy" in other.log()
        publish(other, 51)
        until(lambda: history(one) == history(other) == list(range(52)), lambda: history(other))


@whole_only
def test_of_two_processes_with_one_name_the_older_one_stops_and_says_so(
    tmp_path: Path, order: NatsServers
) -> None:
    with nodes(tmp_path, f"{order.url}?name=doubled") as cluster:
        one, other = cluster.add("a"), cluster.add("b")
        publish(one, 0)
        double = cluster.add("c", name="a")
        until(lambda: "another process runs as the node a" in ready(one), lambda: ready(one))
        publish(double, 1)
        publish(other, 2)
        assert history(double) == [0, 1, 2]
        assert history(one)[:1] == [0], "reads go on"


@whole_only
def test_a_node_on_a_full_disk_says_so_and_the_others_go_on(tmp_path: Path, order: NatsServers) -> None:
    with nodes(tmp_path, f"{order.url}?name=full") as cluster:
        one, other = cluster.add("a"), cluster.add("b")
        publish(one, 0)
        most = (one.data / "log.db-wal").stat().st_size
        resource.prlimit(one.pid, resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
        number = 1
        while ready(one) == "ready" and number < 500:
            publish(other, number)
            number += 1
        assert ready(one) != "ready"
        resource.prlimit(one.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        until(lambda: ready(one) == "ready", lambda: (ready(one), one.log()[-2000:]))
        publish(one, number)
        until(lambda: history(one) == history(other) == list(range(number + 1)), lambda: history(one)[-3:])


@whole_only
def test_an_ordered_log_that_went_back_stops_the_nodes_and_they_still_serve_reads(tmp_path: Path) -> None:
    with nats_servers() as order, nodes(tmp_path, f"{order.url}?name=back") as cluster:
        one = cluster.add("a")
        publish(one, 0)
        [server] = order
        store = server.root / "js"
        server.kill()
        shutil.copytree(store, tmp_path / "older")
        server.start()
        order.wait()
        for number in range(1, 20):
            publish(one, number)
        server.kill()
        shutil.rmtree(store)
        shutil.copytree(tmp_path / "older", store)
        server.start()
        until(lambda: "went back" in ready(one) or "another" in ready(one), lambda: ready(one))
        assert history(one) == list(range(20))


@whole_only
def test_a_node_whose_clock_is_an_hour_ahead_revokes_by_the_time_of_the_others(
    tmp_path: Path, order: NatsServers
) -> None:
    with nodes(tmp_path, f"{order.url}?name=ahead") as cluster:
        one = cluster.add("a")
        cluster.add("b")
        ahead = cluster.add("c", is_ready=False, PYTHONPATH=str(WRONG_CLOCK), CLOCK_AHEAD_S="3600")
        until(lambda: "s ahead of those of the others" in ready(ahead), lambda: ready(ahead))
        done = huahuo("revoke", "--user-id", "42", "--data", str(ahead.data), **ahead.environ)
        assert done.returncode == 0, done.stderr
        until(lambda: len(_revoked_at(one)) == 1, one.log)
        [at] = _revoked_at(one)
        assert timedelta(minutes=9) < at - datetime.now(UTC) < timedelta(minutes=11)


def _revoked_at(node: Serving) -> list[datetime]:
    told = ask(f"{node.url}/streams/log?after=start&limit=1000", node.token(1, "root", admin=True)).json()
    return [datetime.fromisoformat(one["timestamp"]) for one in told["events"] if one["type"] == "revoked"]
