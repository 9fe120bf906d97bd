"""The client's side of a connection, without I/O."""

import sys
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

import pytest

from huahuo.transport.client.commands import ATTEMPTS_MAX
from huahuo.transport.client.model import (
    CommandError,
    Cursor,
    Offline,
    Problem,
    Processed,
    ProtocolViolation,
    Replied,
    Stopped,
    StreamEnded,
    StreamInUse,
)
from huahuo.transport.client.retry import Retry
from huahuo.transport.client.session import SAVE_EVERY_S
from huahuo.transport.protocol.codes import CLOSES, CloseFact, Rule
from huahuo.transport.protocol.kinds import Assembly
from tests.support.drivers.client_session import LOG, STREAM, Bench


def _closed_with(close_code: int | None, **goaway: object) -> Bench:
    bench = Bench().follow("start").online()
    if goaway:
        bench.tell("goaway", reason="because", **goaway)
    bench.session.closed(close_code, "", bench.now)
    return bench


@pytest.mark.parametrize("fact", CLOSES.values(), ids=lambda fact: fact.code.name)
def test_each_close_code_has_the_consequence_of_the_table(fact: CloseFact) -> None:
    bench = _closed_with(fact.code.value)
    assert bool(bench.happened(Stopped)) is (fact.rule is Rule.STOP)
    assert bool(bench.happened(Offline)) is (fact.rule is not Rule.STOP)
    assert bench.session.needs_token is (fact.rule is Rule.NEW_TOKEN)


def test_the_first_attempt_keeps_to_the_span_that_the_server_asks_for() -> None:
    bench = _closed_with(4013, code=4013, retry_s=[2, 10])
    assert bench.happened(Offline)[0].retry_s == 6


def test_too_many_connections_means_half_a_minute_at_least() -> None:
    bench = Bench().follow("start").online()
    bench.chance = 0.0
    bench.session.closed(4504, "", bench.now)
    assert bench.happened(Offline)[0].retry_s >= 30


def test_a_refused_token_counts_even_if_the_close_was_lost() -> None:
    bench = Bench()
    bench.connect()
    bench.tell("authentication_result", success=False, code="token_revoked", message="revoked")
    bench.session.closed(None, "", bench.now)
    [stopped] = bench.happened(Stopped)
    assert stopped.error.code == 4503
    assert "token_revoked" in stopped.error.reason


def test_the_back_off_doubles_up_to_its_bound_with_full_jitter() -> None:
    retry = Retry(lambda: 0.999_999, first_s=0.5, max_s=20)
    delays = [retry.closed(None, float(n), None, "").delay_s for n in range(8)]
    assert delays == pytest.approx([0.5, 1, 2, 4, 8, 16, 20, 20], rel=1e-3)
    assert Retry(lambda: 0.0).closed(None, 0, None, "").delay_s == 0


def test_a_connection_that_lasted_starts_the_back_off_anew() -> None:
    retry = Retry(lambda: 0.999_999)
    for _ in range(5):
        retry.closed(None, 0, None, "")
    retry.online(10)
    assert retry.closed(None, 16, None, "").delay_s <= 0.5


def test_a_goaway_without_its_close_is_given_up() -> None:
    bench = Bench().follow("start").online()
    bench.tell("goaway", code=4000, reason="draining")
    bench.events(1, 1)
    bench.wait(10)
    assert bench.session.dead


def test_a_heartbeat_of_the_server_is_answered() -> None:
    bench = Bench().follow("start").online()
    bench.tell("heartbeat", timestamp="t")
    assert {"action": "heartbeat_response"} in bench.said()


@pytest.mark.parametrize(
    "raw", ["", "[]", "{", '{"type":"events","stream":1}', b"\xff\xfe", '{"type":"x","a":' + "[" * 200_000]
)
def test_a_message_that_cannot_be_read_breaks_the_protocol(raw: str | bytes) -> None:
    bench = Bench().follow("start").online()
    with pytest.raises(ProtocolViolation):
        bench.session.received(raw, bench.now)


def test_an_error_that_belongs_to_no_command_is_told() -> None:
    bench = Bench().follow("start").online()
    bench.tell("error", code="bad_ack", message="beyond")
    assert bench.happened(Problem) == [Problem("bad_ack", "beyond")]


def test_once_stopped_nothing_starts_it_again() -> None:
    bench = _closed_with(4503)
    bench.session.closed(None, "", bench.now)
    assert bench.session.phase == "stopped"
    assert len(bench.happened(Stopped)) == 1
    assert bench.happened(Offline) == []


def test_a_place_that_was_not_asked_for_breaks_the_protocol() -> None:
    bench = Bench().follow("start", Cursor(LOG, 3))
    bench.connect()
    with pytest.raises(ProtocolViolation):
        bench.accept(streams={STREAM: {"outcome": "resumed", "after": 4}})


def test_a_subscription_that_was_refused_ends_the_consumer_with_the_reason() -> None:
    bench = Bench().follow("start")
    bench.connect()
    bench.accept()
    [subscribe] = bench.said()
    bench.tell("error", id=subscribe["id"], code="too_large", message="256")
    [ended] = bench.happened(StreamEnded)
    assert isinstance(ended.error, CommandError)
    assert ended.error.code == "too_large"


def test_a_subscription_that_came_too_fast_is_asked_for_again() -> None:
    bench = Bench().follow("start")
    bench.connect()
    bench.accept()
    [subscribe] = bench.said()
    bench.tell("error", id=subscribe["id"], code="rate_limited", message="slow down")
    assert bench.said() == []
    bench.wait(5)
    assert [m["action"] for m in bench.said() if m["action"] != "ack"] == ["subscribe"]


def test_a_subscription_that_the_server_cannot_serve_now_is_asked_for_again_when_it_said() -> None:
    bench = Bench().follow("snapshot").online("snapshot")
    bench.tell("unsubscribed", stream=STREAM, reason="busy", retry_s=8.5)
    assert bench.happened(StreamEnded) == []
    bench.wait(8)
    assert [m["action"] for m in bench.said()] == []
    bench.wait(1)
    assert [m["action"] for m in bench.said()] == ["subscribe"]


def test_a_stream_has_one_consumer() -> None:
    bench = Bench().follow("start")
    with pytest.raises(StreamInUse):
        bench.follow("start")


def test_a_server_that_ignores_the_window_breaks_the_protocol() -> None:
    bench = Bench(window=4).follow("start")
    bench.connect()
    bench.accept(window=4)
    [subscribe] = bench.said()
    bench.tell("subscribed", id=subscribe["id"], stream=STREAM, log=LOG, outcome="resumed", after=0)
    with pytest.raises(ProtocolViolation):
        bench.events(1, 9)


def come_back(bench: Bench) -> dict[str, Any]:
    bench.session.closed(None, "lost", bench.now)
    resume: dict[str, Any] = bench.connect()["resume"]
    return resume


def waiting() -> Bench:
    return Bench().follow("snapshot").online("snapshot", after=9)


def part(bench: Bench, number: int, *rows: int, more: bool = False, seq: int = 9) -> None:
    place: dict[str, Any] = {"part": number} | ({"more": True} if more else {})
    bench.tell("snapshot", stream=STREAM, seq=seq, state={"emails": list(rows)}, **place)


def test_a_part_that_does_not_follow_breaks_the_protocol() -> None:
    bench = waiting()
    part(bench, 1, 1, more=True)
    with pytest.raises(ProtocolViolation):
        part(bench, 3, 3)


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


def _online(**options: Any) -> Bench:
    bench = Bench(**options)
    bench.connect()
    bench.accept()
    bench.said()
    return bench


@pytest.mark.parametrize("code", ["unavailable", "rate_limited"])
def test_an_error_that_is_not_the_last_word_makes_it_try_again_later(code: str) -> None:
    bench = _online()
    command_id = bench.session.command("do", {})
    bench.said()
    bench.tell("error", id=command_id, code=code, message="")
    bench.wait(0.4)
    assert bench.said() == []
    assert bench.session.deadline() == pytest.approx(bench.now + 0.1)
    bench.wait(0.1)
    assert [message["id"] for message in bench.said()] == [command_id]
    assert bench.happened(Replied) == []


def test_it_does_not_try_for_ever() -> None:
    bench = _online()
    command_id = bench.session.command("do", {})
    for _ in range(ATTEMPTS_MAX):
        [message] = [m for m in bench.said() if m["action"] == "do"]
        bench.tell("error", id=message["id"], code="unavailable", message="")
        bench.wait(25)
        bench.tell("pong_of_some_kind")
    [told] = bench.happened(Replied)
    assert told.id == command_id


@pytest.mark.parametrize("field", ["id", "action"])
def test_a_field_cannot_take_the_place_of_the_envelope(field: str) -> None:
    with pytest.raises(ValueError, match="not fields"):
        Bench().session.command("do", {field: "x"})


def test_a_secret_in_a_command_never_shows_itself() -> None:
    bench = Bench()
    bench.session.command("add_email", {"password": "canary-77"})
    parts = [bench.session, *vars(bench.session).values()]
    assert not [one for one in parts if hasattr(one, "__dict__") and "canary-77" in repr(vars(one))]


def test_commands_leave_no_faster_than_the_pace() -> None:
    bench = _online(commands_max=100, messages_per_s=10)
    for _ in range(50):
        bench.session.command("do", {})
    assert len(bench.said()) == 20
    assert bench.said() == []
    bench.now = bench.session.deadline() or 0
    assert len(bench.said()) == 1
    bench.now += 1
    assert len(bench.said()) == 10


OF_ONE = 1.25
"""Three times as many streams may cost this much more for each: the queue of those to ask for is a heap."""


def steps(work: Callable[[], object]) -> int:
    """The bytecode instructions that Python executes for it."""
    count = 0

    def trace(frame: FrameType, event: str, _arg: object) -> Any:
        nonlocal count
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # noqa: SLF001  Python 3.12 looks for it at `settrace` alone
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def pump(bench: Bench) -> None:
    """What the client does after each call of the application."""
    bench.session.drain()
    bench.session.deadline()


def join(bench: Bench, names: list[str]) -> None:
    for name in names:
        bench.session.subscribe(name, "start", None, bench.now)
        pump(bench)
    bench.session.outgoing(bench.now)


def reading(names: list[str]) -> Bench:
    """A client that has processed one event of each of these streams, and acked none."""
    bench = Bench(window=10_000).online()
    for name in names:
        bench.session.subscribe(name, "start", None, bench.now)
    place = {"outcome": "resumed", "after": 0, "first": 1, "head": 1}
    for asked in bench.said():
        name = asked["stream"]
        bench.tell("subscribed", id=asked["id"], stream=name, log=LOG, **place)
        bench.tell("events", stream=name, seq=1, events=[{"type": "e"}])
        item = bench.session.take(name)
        assert item is not None
        bench.session.processed(name, item.era, item.last, bench.now)
        bench.session.wait_for(name, 2)
    return bench


def leave(bench: Bench, names: list[str]) -> None:
    for name in names:
        bench.session.unsubscribe(name, bench.now)
        pump(bench)
        bench.session.outgoing(bench.now)


def of_joining(count: int) -> float:
    bench, names = Bench(window=10_000).online(), streams(count)
    return steps(lambda: join(bench, names)) / count


def of_leaving(count: int) -> float:
    names = streams(count)
    bench = reading(names)
    return steps(lambda: leave(bench, names)) / count


def streams(count: int) -> list[str]:
    return [f"group/g{number}" for number in range(count)]


@pytest.mark.parametrize("cost", [of_joining, of_leaving])
def test_a_stream_costs_the_same_among_many_as_among_few(cost: Callable[[int], float]) -> None:
    assert cost(150) < OF_ONE * cost(50)


def test_the_cursors_of_streams_that_were_left_are_stored_together() -> None:
    names = streams(5)
    bench = reading(names)
    leave(bench, names)
    assert bench.session.left_at(names[0]) == Cursor(LOG, 1)
    assert bench.happened(Processed) == []
    bench.wait(SAVE_EVERY_S)
    assert [one.cursors for one in bench.happened(Processed)] == [dict.fromkeys(names, Cursor(LOG, 1))]
    assert bench.session.left_at(names[0]) is None
