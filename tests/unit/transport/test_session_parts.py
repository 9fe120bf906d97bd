"""States and answers too long for one message: parts for clients that accept them, else a refusal."""

from typing import Any

from huahuo.actors.plugins.calls import Reply
from huahuo.transport.protocol.flow_control import TransportSettings
from huahuo.transport.protocol.kinds import Part
from tests.support.drivers.session import Driver, note_command, types

U = "user/42"


def driver() -> Driver:
    made = Driver(commands=[note_command(query=True)])
    made.hold_snapshots = True
    return made


def waiting(**fields: Any) -> Driver:
    made = driver()
    made.login(**fields)
    made.take()
    made.say(action="subscribe", id="s", stream=U, after="snapshot")
    return made


def test_a_client_says_whether_it_takes_parts() -> None:
    made = driver()
    assert not made.session.parts
    made.login(parts=True)
    assert made.session.parts


def test_a_refresh_changes_nothing_about_it() -> None:
    made = driver()
    made.login(parts=True)
    made.say(action="authenticate", token="alice")
    assert made.session.parts


def test_no_event_comes_before_the_last_part() -> None:
    made = waiting(parts=True)
    first = made.give_snapshot(0, b'{"emails":[1]}', Part(1, more=True))
    assert first == [
        {"type": "snapshot", "stream": U, "seq": 0, "part": 1, "more": True, "state": {"emails": [1]}}
    ]
    assert made.append(U, "meanwhile") == []
    last = made.give_snapshot(0, b'{"emails":[2]}', Part(2, more=False))
    assert types(last) == ["snapshot", "events", "live"]
    assert last[0] == {"type": "snapshot", "stream": U, "seq": 0, "part": 2, "state": {"emails": [2]}}
    assert last[1]["seq"] == 1


def test_a_part_may_not_be_acked_before_the_last_one_is_sent() -> None:
    made = waiting(parts=True)
    made.log.append(U)
    made.give_snapshot(1, b"{}", Part(1, more=True))
    assert types(made.ack(user_42=1)) == ["error"]
    made.give_snapshot(1, b"{}", Part(2, more=False))
    assert made.ack(user_42=1) == []


def test_what_is_left_of_a_subscription_that_moved_on_is_dropped() -> None:
    made = waiting(parts=True)
    due = made.snapshots_due[0]
    assert made.session.awaits(due.sub)
    made.say(action="subscribe", id="again", stream=U, after="head")
    assert not made.session.awaits(due.sub)
    assert made.give_snapshot(0, b"{}", Part(1, more=True)) == []


def test_without_parts_a_state_that_is_too_long_ends_its_subscription_and_nothing_else() -> None:
    made = waiting()
    assert made.give_snapshot(0, None) == [{"type": "unsubscribed", "stream": U, "reason": "too_large"}]
    assert made.closed is None
    assert types(made.append("system", "goes on")) == ["events"]
    assert types(made.say(action="subscribe", id="b", stream=U)) == ["subscribed", "live"]


def test_without_parts_an_answer_that_is_too_long_is_refused() -> None:
    made = driver()
    made.login()
    made.take()
    made.say(action="note", id="q", text="x")
    asked = made.executing.pop()
    made.carry_out(made.session.replied(asked, Reply(b"")))
    [refused] = made.take()
    assert (refused["type"], refused["code"], refused["id"]) == ("error", "too_large", "q")


def test_every_part_of_an_answer_carries_its_id() -> None:
    made = driver()
    made.login(parts=True)
    made.take()
    made.say(action="note", id="q", text="x")
    [first] = made.reply({"type": "l", "data": [1]}, part=Part(1, more=True))
    [last] = made.reply({"type": "l", "data": [2]}, part=Part(2, more=False))
    assert first == {"type": "l", "data": [1], "id": "q", "part": 1, "more": True}
    assert last == {"type": "l", "data": [2], "id": "q", "part": 2}


def test_parts_is_a_truth_value() -> None:
    made = Driver(settings=TransportSettings())
    [refused] = made.say(action="authenticate", token="alice", parts=1)
    assert (refused["type"], refused["code"]) == ("error", "invalid_field")
