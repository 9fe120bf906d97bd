"""Parts in the Python client: it hands over whole states and answers, or reports a protocol error."""

from functools import partial
from typing import Any

import pytest

from huahuo.transport.client.model import Batch, ProtocolViolation, Readable, Replied, Snapshot
from huahuo.transport.protocol.kinds import Assembly
from tests.support.drivers.client_session import STREAM, Bench


def waiting() -> Bench:
    return Bench().follow("snapshot").online("snapshot", after=9)


def part(bench: Bench, number: int, *rows: int, more: bool = False, seq: int = 9) -> None:
    place: dict[str, Any] = {"part": number} | ({"more": True} if more else {})
    bench.tell("snapshot", stream=STREAM, seq=seq, state={"emails": list(rows)}, **place)


def test_a_state_in_parts_is_one_item_and_events_follow_it() -> None:
    bench = waiting()
    part(bench, 1, 1, 2, more=True)
    assert bench.happened(Readable) == []
    part(bench, 2, 3)
    bench.events(10, 11)
    snapshot, batch = bench.session.take(STREAM), bench.session.take(STREAM)
    assert isinstance(snapshot, Snapshot)
    assert (snapshot.last, snapshot.state, snapshot.outcome) == (9, {"emails": [1, 2, 3]}, "snapshot")
    assert isinstance(batch, Batch)
    assert (batch.first, batch.last) == (10, 11)


def test_a_first_part_begins_anew() -> None:
    bench = waiting()
    part(bench, 1, 1, more=True)
    part(bench, 1, 5, more=True, seq=12)
    part(bench, 2, 6, seq=12)
    item = bench.session.take(STREAM)
    assert isinstance(item, Snapshot)
    assert (item.last, item.state) == (12, {"emails": [5, 6]})


def test_after_a_cut_what_came_before_is_forgotten() -> None:
    bench = waiting()
    part(bench, 1, 1, more=True)
    bench.session.closed(None, "", bench.now)
    bench.online("snapshot", after=9)
    with pytest.raises(ProtocolViolation):
        part(bench, 2, 2)


def test_a_part_that_does_not_follow_breaks_the_protocol() -> None:
    bench = waiting()
    part(bench, 1, 1, more=True)
    with pytest.raises(ProtocolViolation):
        part(bench, 3, 3)


def test_parts_of_a_stream_that_nobody_waits_for_a_state_of_are_ignored() -> None:
    bench = Bench().follow("head").online("fresh", after=20)
    part(bench, 1, 1, more=True)
    part(bench, 2, 2)
    assert bench.session.take(STREAM) is None


def test_an_answer_in_parts_is_one_answer() -> None:
    bench = Bench().online()
    command_id = bench.session.command("get_all_emails", {})
    bench.said()
    bench.tell("emails_list", id=command_id, data=[1], seq=9, part=1, more=True)
    assert bench.happened(Replied) == []
    bench.tell("emails_list", id=command_id, data=[2], seq=9, part=2)
    whole = {"type": "emails_list", "id": command_id, "data": [1, 2], "seq": 9}
    assert bench.happened(Replied) == [Replied(command_id, whole)]


def test_an_answer_is_told_once_more_from_its_first_part_on_after_a_cut() -> None:
    bench = Bench().online()
    command_id = bench.session.command("get_all_emails", {})
    bench.said()
    bench.tell("emails_list", id=command_id, data=[1], part=1, more=True)
    bench.session.closed(None, "", bench.now)
    bench.online()
    bench.tell("emails_list", id=command_id, data=[1], part=1, more=True)
    bench.tell("emails_list", id=command_id, data=[2], part=2)
    [replied] = bench.happened(Replied)
    assert isinstance(replied.reply, dict)
    assert replied.reply["data"] == [1, 2]


def test_parts_of_an_answer_that_was_given_up_are_dropped() -> None:
    bench = Bench().online()
    command_id = bench.session.command("get_all_emails", {})
    bench.said()
    bench.tell("emails_list", id=command_id, data=[1], part=1, more=True)
    bench.session.forget(command_id)
    bench.tell("emails_list", id=command_id, data=[2], part=2)
    assert bench.happened(Replied) == []


def test_a_missing_part_of_an_answer_breaks_the_protocol() -> None:
    bench = Bench().online()
    command_id = bench.session.command("get_all_emails", {})
    bench.said()
    with pytest.raises(ProtocolViolation):
        bench.tell("emails_list", id=command_id, data=[2], part=2)


def test_what_is_put_together_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huahuo.transport.client.streams.Assembly", partial(Assembly, bytes_max=150))
    bench = waiting()
    part(bench, 1, 1, more=True)
    with pytest.raises(ProtocolViolation):
        part(bench, 2, 2)


def test_a_state_of_a_stream_without_events_is_handed_over_too() -> None:
    bench = Bench().follow("snapshot").online("snapshot", after=0)
    part(bench, 1, seq=0)
    assert bench.happened(Readable) == [Readable(STREAM)]
