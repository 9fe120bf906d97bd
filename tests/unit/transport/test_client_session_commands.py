"""The client's commands: answered once, sent as often as it takes, always under the same id (PROTOCOL 6)."""

from typing import Any

import pytest

from huahuo.transport.client.commands import ATTEMPTS_MAX, Pace
from huahuo.transport.client.model import CommandError, QueueFull, Replied
from tests.support.drivers.client_session import Bench


def _online(**options: Any) -> Bench:
    bench = Bench(**options)
    bench.connect()
    bench.accept()
    bench.said()
    return bench


def test_ids_differ() -> None:
    bench = _online(commands_max=100)
    ids = {bench.session.command("do", {}) for _ in range(50)}
    assert len(ids) == 50


def test_a_reply_finds_its_command() -> None:
    bench = _online()
    one, two = bench.session.command("do", {"n": 1}), bench.session.command("do", {"n": 2})
    bench.tell("success", id=two)
    bench.tell("success", id=one)
    assert [told.id for told in bench.happened(Replied)] == [two, one]


def test_commands_given_while_offline_leave_in_order_once_online() -> None:
    bench = Bench()
    for n in (1, 2, 3):
        bench.session.command("do", {"n": n})
    bench.connect()
    assert bench.said() == []
    bench.accept()
    assert [message["n"] for message in bench.said()] == [1, 2, 3]


def test_commands_without_a_reply_are_sent_again_with_their_ids() -> None:
    bench = _online()
    one, two = bench.session.command("do", {"n": 1}), bench.session.command("do", {"n": 2})
    bench.said()
    bench.tell("success", id=one)
    bench.session.closed(None, "lost", bench.now)
    bench.connect()
    bench.accept()
    assert bench.said() == [{"action": "do", "id": two, "n": 2}]


def test_a_reply_that_comes_twice_is_told_once() -> None:
    bench = _online()
    command_id = bench.session.command("do", {})
    bench.said()
    bench.tell("success", id=command_id)
    bench.tell("success", id=command_id, duplicate=True)
    assert len(bench.happened(Replied)) == 1


def test_a_refusal_is_told_with_code_message_and_details() -> None:
    bench = _online()
    command_id = bench.session.command("do", {})
    bench.tell("error", id=command_id, code="not_found", message="none", details="x")
    [told] = bench.happened(Replied)
    assert isinstance(told.reply, CommandError)
    assert (told.reply.code, told.reply.message, told.reply.details) == ("not_found", "none", "x")


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


def test_the_queue_has_a_bound() -> None:
    bench = Bench(commands_max=2)
    bench.session.command("do", {})
    bench.session.command("do", {})
    with pytest.raises(QueueFull):
        bench.session.command("do", {})


def test_a_command_that_was_given_up_is_not_sent() -> None:
    bench = Bench()
    bench.session.forget(bench.session.command("do", {}))
    bench.connect()
    bench.accept()
    assert bench.said() == []


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


def test_a_pace_of_nought_is_no_limit() -> None:
    pace = Pace(0)
    assert all(pace.take(0) for _ in range(10_000))
