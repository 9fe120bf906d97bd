"""Checks in the Python client: each is kept with its cursor, and sent with it."""

from pathlib import Path
from typing import Any

from huahuo.transport.client.cursors import FileCursors
from huahuo.transport.client.model import Cursor, Processed
from tests.support.drivers.client_session import LOG, STREAM, Bench


def come_back(bench: Bench) -> dict[str, Any]:
    bench.session.closed(None, "lost", bench.now)
    resume: dict[str, Any] = bench.connect()["resume"]
    return resume


def test_a_client_without_a_check_sends_none() -> None:
    bench = Bench().follow("start").online()
    bench.events(1, 3)
    bench.take()
    assert come_back(bench) == {"log": LOG, "cursors": {STREAM: 3}}


def test_the_check_of_live_is_sent_with_the_cursor() -> None:
    bench = Bench().follow("start").online()
    bench.events(1, 3)
    bench.take()
    bench.tell("live", stream=STREAM, seq=3, check="c3")
    bench.events(4, 5)
    bench.take()
    assert come_back(bench) == {"log": LOG, "cursors": {STREAM: 5}, "checks": {STREAM: [3, "c3"]}}


def test_a_check_ahead_of_the_consumer_waits_for_it() -> None:
    bench = Bench().follow("start").online()
    bench.events(1, 3)
    bench.tell("live", stream=STREAM, seq=3, check="c3")
    assert "checks" not in come_back(bench)
    bench.accept(streams={STREAM: {"outcome": "resumed", "after": 0, "first": 1, "head": 3}})
    bench.events(1, 3)
    bench.tell("live", stream=STREAM, seq=3, check="c3")
    bench.take()
    assert come_back(bench)["checks"] == {STREAM: [3, "c3"]}


def test_the_check_of_a_snapshot_never_vouches_for_the_state_before_it() -> None:
    bench = Bench().follow("start", Cursor(LOG, 3, (3, "old"))).online("reset", after=9)
    bench.tell("snapshot", stream=STREAM, seq=9, check="new", state={})
    assert come_back(bench) == {"log": LOG, "cursors": {}}
    bench.accept()
    [asked] = bench.said()
    assert (asked["after"], asked["log"]) == (3, "")
    place = {"outcome": "reset", "after": 9, "first": 1, "head": 9}
    bench.tell("subscribed", id=asked["id"], stream=STREAM, log=LOG, **place)
    bench.tell("snapshot", stream=STREAM, seq=9, check="new", state={})
    bench.take()
    assert come_back(bench)["checks"] == {STREAM: [9, "new"]}


def test_a_place_beyond_the_head_is_not_resumed_from_when_the_log_has_grown_past_it() -> None:
    bench = Bench().follow("start", Cursor(LOG, 7)).online("reset", after=5, head=5)
    assert come_back(bench) == {"log": LOG, "cursors": {}}
    bench.accept()
    assert [(m["after"], m["log"]) for m in bench.said()] == [(7, "")]


def test_when_events_are_lost_behind_a_new_state_the_old_place_is_not_asked_for() -> None:
    bench = Bench().follow("start", Cursor(LOG, 3, (3, "old"))).online("reset", after=3, head=3)
    bench.tell("snapshot", stream=STREAM, seq=3, check="new", state={})
    bench.events(5, 5)  # 4 was lost, and the state was not taken yet
    assert [(m["after"], m["log"]) for m in bench.said()] == [(3, "")]


def test_a_place_in_replaced_events_is_stored_with_the_check_that_tells_of_it() -> None:
    """The next run of the application is then told of the reset as well."""
    bench = Bench().follow("start", Cursor(LOG, 3, (3, "old"))).online(after=3)
    bench.events(4, 4)
    item = bench.session.take(STREAM)
    bench.session.closed(None, "lost", bench.now)
    bench.online("reset", after=9)
    assert item is not None
    bench.session.processed(STREAM, item.era, item.last, bench.now)
    bench.session.flush(bench.now)
    assert bench.happened(Processed)[-1].cursors == {STREAM: Cursor(LOG, 4, (3, "old"))}


def test_a_snapshot_without_a_check_ends_the_one_before() -> None:
    bench = Bench().follow("start", Cursor(LOG, 3, (3, "old"))).online("reset", after=9)
    bench.tell("snapshot", stream=STREAM, seq=9, state={})
    bench.take()
    assert come_back(bench) == {"log": LOG, "cursors": {STREAM: 9}}


def test_a_check_that_comes_after_the_place_was_stored_is_stored_too() -> None:
    bench = Bench().follow("head").online("fresh", after=7)
    bench.wait(1)
    bench.wait(1)
    assert bench.happened(Processed)[-1].cursors == {STREAM: Cursor(LOG, 7)}
    bench.tell("live", stream=STREAM, seq=7, check="c7")
    bench.wait(1)
    bench.wait(1)
    assert bench.happened(Processed)[-1].cursors == {STREAM: Cursor(LOG, 7, (7, "c7"))}


def test_a_stored_check_is_sent_by_the_next_run_of_the_application(tmp_path: Path) -> None:
    FileCursors(tmp_path / "c.json").save({STREAM: Cursor(LOG, 7, (5, "c5"))})
    stored = FileCursors(tmp_path / "c.json").load()[STREAM]
    resume = Bench().follow("head", stored).connect()["resume"]
    assert resume == {"log": LOG, "cursors": {STREAM: 7}, "checks": {STREAM: [5, "c5"]}}


def test_a_file_of_an_older_version_has_cursors_without_checks(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text('{"user/42":{"log":"log-1","seq":7}}')
    assert FileCursors(tmp_path / "c.json").load() == {STREAM: Cursor(LOG, 7)}
