"""Commands, queries and long answers of one connection."""

from typing import Any

import pytest

from huahuo.actors.plugins.actions import NOT_KNOWN
from huahuo.actors.plugins.calls import Principal, Reply
from huahuo.eventstore.model import CommandKey
from huahuo.transport.protocol.codes import CloseCode
from huahuo.transport.protocol.dialects import DOCUMENT, V1, Dialect
from huahuo.transport.protocol.flow_control import TransportSettings
from huahuo.transport.protocol.incoming import Invalid, Parsed
from huahuo.transport.protocol.kinds import Part
from huahuo.transport.session.calls import Calls
from huahuo.transport.session.interface import Execute, Record
from tests.support.drivers.session import Driver, Message, note_command, types


def logged_in(
    *, client: str | None = None, fingerprint_key: bytes = b"key", dialect: Dialect = V1, **limits: Any
) -> Driver:
    driver = Driver(
        dialect=dialect,
        settings=TransportSettings(**limits),
        commands=[note_command(), note_command("look", query=True)],
        fingerprint_key=fingerprint_key,
    )
    driver.login(client=client)
    driver.take()
    return driver


def executed(driver: Driver) -> Execute:
    call = driver.executing[-1]
    assert isinstance(call, Execute)
    return call


def test_the_reply_carries_the_id_and_the_position() -> None:
    driver = logged_in()
    driver.say(action="note", id="c1", text="x")
    assert driver.reply({"type": "success", "n": 1}, at=("user/42", 7)) == [
        {"type": "success", "n": 1, "id": "c1", "at": {"stream": "user/42", "seq": 7}}
    ]


def test_the_space_of_ids_is_the_client_installation() -> None:
    driver = logged_in(client="dev-1")
    driver.say(action="note", id="c1", text="x")
    assert executed(driver).call.key == CommandKey("user/42", "dev-1", "c1")


@pytest.mark.parametrize("client", [None, ""])
def test_without_a_client_the_space_is_the_connection(client: str | None) -> None:
    driver = logged_in(client=client)
    driver.say(action="note", id="c1", text="x")
    assert executed(driver).call.key == CommandKey("user/42", "s-1", "c1")


def test_a_command_without_an_id_gets_one_for_its_events_and_no_record() -> None:
    driver = logged_in()
    driver.say(action="note", text="x")
    driver.say(action="note", text="x")
    ids = [asked.call.command_id for asked in driver.executing]
    assert len(set(ids)) == 2
    assert all(made.startswith("s-1#") for made in ids)
    assert all(asked.call.key is None for asked in driver.executing)


def test_the_fingerprint_depends_on_the_key_of_the_service() -> None:
    driver, other = logged_in(), logged_in(fingerprint_key=b"another")
    for one in (driver, other):
        one.say(action="note", id="a", text="x")
    assert executed(driver).call.fingerprint != executed(other).call.fingerprint


def test_fields_of_a_wrong_type_are_refused_by_name_and_the_refusal_is_kept() -> None:
    driver = logged_in()
    driver.say(action="note", id="c1", text=5)
    assert isinstance(driver.executing[0], Record)
    (error,) = driver.reply()
    assert (error["type"], error["code"], error["id"]) == ("error", "invalid_field", "c1")
    assert error["details"].startswith("text: ")


def test_the_refusal_of_a_query_names_its_id_too() -> None:
    driver = Driver(commands=[note_command(query=True)])
    driver.login()
    (error,) = driver.say(action="note", id="q1", text=5)[-1:]
    assert (error["code"], error["id"]) == ("invalid_field", "q1")


def test_a_missing_field_is_named() -> None:
    (error,) = logged_in().say(action="note")
    assert (error["code"], error["details"]) == ("invalid_field", "text: it is missing")


@pytest.mark.parametrize(
    "fields",
    [
        {"text": ["canary"]},
        {"text": {"canary": "canary"}},
        {"text": "x", "email_id": "canary"},
        {"text": "x", "password": ["canary"]},
        {"text": "x", "password": {"canary": 1}},
        {"canary": "canary"},
    ],
)
def test_a_secret_in_the_wrong_field_does_not_come_back(fields: Message) -> None:
    driver = logged_in()
    assert "canary" not in repr(driver.say(action="note", **fields))
    driver.say(action="note", id="c1", **fields)
    assert "canary" not in repr(driver.reply())


def test_a_password_does_not_show_itself_in_a_call() -> None:
    driver = logged_in()
    driver.say(action="note", text="x", password="canary")
    assert "canary" not in repr(executed(driver))
    assert executed(driver).call.params.password.reveal() == "canary"


def test_an_unknown_action_without_an_id_is_refused_at_once() -> None:
    (error,) = logged_in().say(action="no_such")
    assert error["code"] == "unknown_action"


def test_an_unknown_action_with_an_id_may_have_been_executed_by_an_earlier_version() -> None:
    driver = logged_in(client="dev-1")
    assert not driver.say(action="no_such", id="c1", text="x")
    asked = executed(driver)
    assert asked.spec is NOT_KNOWN
    assert asked.call.key == CommandKey("user/42", "dev-1", "c1")
    driver.say(action="note", id="c2", text="x")
    assert asked.call.fingerprint != executed(driver).call.fingerprint


def test_the_name_of_an_unknown_action_goes_nowhere() -> None:
    driver = logged_in()
    driver.say(action="canary", id="c1")
    assert "canary" not in repr((executed(driver).call.action, executed(driver).spec))


@pytest.mark.parametrize(
    ("rights", "asks"), [(None, True), (("write",), True), (("gone",), True), (("read", "note"), False)]
)
def test_an_api_key_hears_of_what_an_earlier_version_executed_only_if_it_could_call_it(
    rights: tuple[str, ...] | None, asks: bool
) -> None:
    made = Calls("s1", {}, b"key").make(
        Parsed("gone", "c1", {"action": "gone", "id": "c1"}), Principal(42, rights=rights), "dev-1"
    )
    assert isinstance(made, Execute) == asks
    if isinstance(made, Invalid):
        assert made.code == "unknown_action"


@pytest.mark.parametrize(
    ("dialect", "message"),
    [(V1, "this service has no such action (未知的操作)"), (DOCUMENT, "未知的操作")],
    ids=["version 1", "classic"],
)
def test_an_unknown_action_is_said_in_english_first_except_to_classic_clients(
    dialect: Dialect, message: str
) -> None:
    errors = [frame for frame in logged_in(dialect=dialect).say(action="no_such") if frame["type"] == "error"]
    assert [error["message"] for error in errors] == [message]


@pytest.mark.parametrize("request_id", ["", "x" * 65, 5, [], {}, True])
def test_an_id_that_is_none_is_an_invalid_field(request_id: object) -> None:
    (error,) = logged_in().say(action="note", id=request_id, text="x")
    assert (error["code"], error["details"].split(":")[0], "id" in error) == ("invalid_field", "id", False)


def test_commands_are_handed_on_in_the_order_of_their_arrival_and_answered_as_they_end() -> None:
    driver = logged_in()
    for name in "abc":
        driver.say(action="note", id=name, text=name)
    assert [asked.call.command_id for asked in driver.executing] == ["a", "b", "c"]
    assert driver.reply(index=2)[0]["id"] == "c"
    assert driver.reply(index=0)[0]["id"] == "a"


def test_a_client_that_is_not_listened_to_is_not_silent() -> None:
    driver = logged_in(commands_outstanding_max=1)
    driver.say(action="note", text="x")
    for _ in range(10):
        driver.after(30, heard=False)
    assert driver.closed is None


def test_a_reply_above_the_largest_becomes_an_error() -> None:
    driver = logged_in(reply_bytes_max=300)
    driver.say(action="look", id="q", text="x")
    (error,) = driver.reply({"type": "big", "data": "x" * 400})
    assert (error["code"], error["id"]) == ("too_large", "q")


def test_a_reply_that_comes_after_the_end_is_dropped() -> None:
    driver = logged_in()
    driver.say(action="note", text="x")
    driver.session.gone()
    assert driver.reply() == []


# Limits


def test_above_the_rate_messages_are_refused_with_their_id_and_the_connection_stays() -> None:
    driver = logged_in(messages_per_s=10)
    answers = [driver.say(action="heartbeat", id=str(n))[0] for n in range(25)]
    assert types(answers).count("heartbeat_response") == 19
    assert (answers[-1]["code"], answers[-1]["id"]) == ("rate_limited", "24")
    assert driver.closed is None


def test_a_client_that_stays_above_the_rate_is_sent_away_for_a_while() -> None:
    driver = logged_in(messages_per_s=10)
    while driver.closed is None:
        driver.after(0.001)
        answers = driver.say(action="heartbeat")
    assert answers[-1]["code"] == CloseCode.RATE_LIMITED
    assert answers[-1]["retry_s"]


# What is no message


@pytest.mark.parametrize(
    "data",
    [
        "", " ", "nonsense", "[1", "null", "5", '"text"', "[]", b"\xff\xfe", b"\x00\x01", "{", "{}}",
        '{"action":"note","text":NaN}', '{"action":"note","text":Infinity}', '{"action":"note","n":1e999}',
        '{"action":"note","text":"a","text":"b"}', '{"action":"note","text":"\\ud800"}',
        '{"a":' * 40 + "1" + "}" * 40, "[" * 500_000, '{"a":' * 200_000,
    ],
    ids=lambda data: repr(data)[:24],
)  # fmt: skip
def test_what_is_no_strict_json_object_is_a_bad_message_and_the_connection_stays(data: str | bytes) -> None:
    driver = logged_in()
    (error,) = driver.say_raw(data)
    assert (error["type"], error["code"]) == ("error", "bad_message")
    assert driver.closed is None


def test_a_refused_message_still_gets_its_id() -> None:
    for data in ('{"id":"c1","action":"note","n":NaN}', '{"id":"c1","action":"note","a":1,"a":2}'):
        (error,) = logged_in().say_raw(data)
        assert (error["code"], error["id"]) == ("bad_message", "c1")


def test_an_object_without_an_action_is_an_unknown_action() -> None:
    (error,) = logged_in().say_raw('{"id":"c1","type":"note"}')
    assert (error["code"], error["id"]) == ("unknown_action", "c1")


@pytest.mark.parametrize("number", ["9007199254740992", "-9007199254740992", "1" + "0" * 5000])
def test_an_integer_that_a_browser_cannot_hold_is_an_invalid_field(number: str) -> None:
    (error,) = logged_in().say_raw(f'{{"id":"c1","action":"note","text":"x","email_id":[[{number}]]}}')
    assert (error["code"], error["id"], error["details"].split(":")[0]) == ("invalid_field", "c1", "email_id")


def test_messages_may_come_in_binary_frames_if_they_are_json() -> None:
    assert types(logged_in().say_raw(b'{"action":"heartbeat"}')) == ["heartbeat_response"]


def test_a_command_that_a_fault_broke_is_answered_with_a_name_to_ask_for_and_nothing_of_the_fault() -> None:
    driver = logged_in()
    driver.say(action="note", id="c1", text="canary")
    driver.write(driver.session.internal(driver.executing[0], "f-17"))
    [said] = driver.take()
    assert (said["type"], said["code"], said["id"]) == ("error", "internal", "c1")
    assert "f-17" in said["details"]
    assert "canary" not in str(said)


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


def test_parts_is_a_truth_value() -> None:
    made = Driver(settings=TransportSettings())
    [refused] = made.say(action="authenticate", token="alice", parts=1)
    assert (refused["type"], refused["code"]) == ("error", "invalid_field")
