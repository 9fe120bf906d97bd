"""Commands, queries and long answers of one connection."""

from typing import Any

import pytest

from huahuo.actors.plugins.calls import Principal, Reply
from huahuo.transport.protocol.dialects import V1, Dialect
from huahuo.transport.protocol.flow_control import TransportSettings
from huahuo.transport.protocol.incoming import Invalid, Parsed
from huahuo.transport.session.calls import Calls
from huahuo.transport.session.interface import Execute
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


@pytest.mark.parametrize("request_id", ["", "x" * 65, 5, [], {}, True])
def test_an_id_that_is_none_is_an_invalid_field(request_id: object) -> None:
    (error,) = logged_in().say(action="note", id=request_id, text="x")
    assert (error["code"], error["details"].split(":")[0], "id" in error) == ("invalid_field", "id", False)


def test_a_reply_above_the_largest_becomes_an_error() -> None:
    driver = logged_in(reply_bytes_max=300)
    driver.say(action="look", id="q", text="x")
    (error,) = driver.reply({"type": "big", "data": "x" * 400})
    assert (error["code"], error["id"]) == ("too_large", "q")


# Limits


def test_above_the_rate_messages_are_refused_with_their_id_and_the_connection_stays() -> None:
    driver = logged_in(messages_per_s=10)
    answers = [driver.say(action="heartbeat", id=str(n))[0] for n in range(25)]
    assert types(answers).count("heartbeat_response") == 19
    assert (answers[-1]["code"], answers[-1]["id"]) == ("rate_limited", "24")
    assert driver.closed is None


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


def test_an_object_without_an_action_is_an_unknown_action() -> None:
    (error,) = logged_in().say_raw('{"id":"c1","type":"note"}')
    assert (error["code"], error["id"]) == ("unknown_action", "c1")


@pytest.mark.parametrize("number", ["9007199254740992", "-9007199254740992", "1" + "0" * 5000])
def test_an_integer_that_a_browser_cannot_hold_is_an_invalid_field(number: str) -> None:
    (error,) = logged_in().say_raw(f'{{"id":"c1","action":"note","text":"x","email_id":[[{number}]]}}')
    assert (error["code"], error["id"], error["details"].split(":")[0]) == ("invalid_field", "c1", "email_id")


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
