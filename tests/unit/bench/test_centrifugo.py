"""The peer for Centrifugo, against a stand-in that answers as its documentation says."""

import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.clients.receivers import build
from bench.harness.harness import Options, Sheet
from bench.questions import fan_out, private_feeds, resume_storm, wire
from bench.servers.peers.base import Running
from bench.servers.peers.centrifugo import Centrifugo, channel, client, config, major
from bench.servers.peers.centrifugo_publisher import Publisher, request
from tests.support.proofs import whole_only

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="costs are read from /proc")
ROOT = Path(__file__).parents[3]


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Options:
    program = tmp_path / "bin" / "centrifugo"
    program.parent.mkdir()
    program.write_text(
        f"#!/bin/sh\ncd {shlex.quote(str(ROOT))}\n"
        f'exec {shlex.quote(sys.executable)} -m tests.support.servers.fake_centrifugo "$@"\n',
        encoding="utf-8",
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    peers = frozenset({Centrifugo.name})
    return Options(quick=True, rounds=1, folder=tmp_path, receiver=build(tmp_path / "tools"), peers=peers)


@pytest.fixture
def running(options: Options) -> Iterator[Running]:
    with Centrifugo().start(options.folder) as started:
        yield started


def test_a_client_signs_in_and_subscribes_in_one_frame_of_two_lines() -> None:
    upgraded, (frame, answer) = client(7, channel(7), seen=4).steps
    assert upgraded[0].startswith(b"GET /connection/websocket HTTP/1.1\r\n")
    connect, subscribe = map(json.loads, frame[frame.index(b"{") :].splitlines())
    assert set(connect["connect"]) == {"token"}
    assert subscribe == {
        "id": 2,
        "subscribe": {"channel": "user:7", "recover": True, "offset": 4, "epoch": "gone"},
    }
    assert answer == b'"id":2,"subscribe":'


def test_every_namespace_with_history_has_a_size_and_a_time_and_pongs_are_due_before_the_next_ping() -> None:
    found = config(8000)
    for space in found["channel"]["namespaces"]:
        assert ("history_size" in space) == ("history_ttl" in space)
        assert space["allow_subscribe_for_client"]
    assert (found["client"]["ping_interval"], found["client"]["pong_timeout"]) == ("24h", "12h")


def test_a_request_publishes_its_events_in_their_order() -> None:
    head, _, content = request([(3, b'{"a":1}'), (0, b'{"b":2}')]).partition(b"\r\n\r\n")
    assert f"Content-Length: {len(content)}".encode() in head
    assert json.loads(content) == {
        "commands": [
            {"publish": {"channel": "user:3", "data": {"a": 1}}},
            {"publish": {"channel": "group:bench", "data": {"b": 2}}},
        ]
    }


@pytest.mark.parametrize(
    ("said", "number"), [("Centrifugo v6.9.1 (Go version: go1.26)", 6), ("5.4.0", 5), ("dev", 0)]
)
def test_the_major_version_is_read_from_what_it_says(said: str, number: int) -> None:
    assert major(said) == number


def test_without_the_binary_the_table_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert Centrifugo().missing() == "not on PATH"


async def test_a_publication_that_is_refused_is_an_error(running: Running) -> None:
    publisher = await Publisher.open(running.port, "nowhere")
    try:
        with pytest.raises(ConnectionError, match="unknown channel"):
            await publisher.publish([(1, b"{}")])
    finally:
        publisher.close()


def folder_of(options: Options, name: str) -> Path:
    (options.folder / name).mkdir()
    return options.folder / name


@pytest.mark.slow
def test_fan_out_is_measured_without_loss(options: Options) -> None:
    sheet = Sheet("", fan_out.METRICS)
    fan_out.one(Centrifugo.name, sheet, 3, folder_of(options, "group"), options)
    assert sheet.samples[Centrifugo.name]["lost"] == [0]
    assert sheet.samples[Centrifugo.name]["doubled"] == [0]


@whole_only
@pytest.mark.slow
def test_private_feeds_are_measured_without_loss(options: Options) -> None:
    sheet = Sheet("", private_feeds.METRICS)
    private_feeds.one(Centrifugo.name, sheet, 3, folder_of(options, "feeds"), options)
    assert sheet.samples[Centrifugo.name]["lost"] == [0]
    assert sheet.samples[Centrifugo.name]["doubled"] == [0]


@whole_only
@pytest.mark.slow
def test_after_a_storm_its_history_is_lost_because_it_died_with_it(options: Options) -> None:
    sheet = Sheet("", resume_storm.METRICS)
    resume_storm.one(Centrifugo.name, sheet, 3, 5, folder_of(options, "storm"), options)
    assert sheet.samples[Centrifugo.name]["lost"] == [15]


def test_differences_are_a_row_of_the_wire(options: Options) -> None:
    sheet = Sheet("", wire.METRICS)
    wire.measure_delta(sheet, [wire.bodies_of(0, 1, b'"check_progress"')], options)
    assert 0 < sheet.samples[wire.DELTA]["bytes"][0] < 1000
