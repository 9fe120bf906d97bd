"""Every input gives a typed answer, whatever its bytes, and repeats nothing of it."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from huahuo.transport.protocol import incoming
from huahuo.transport.protocol.incoming import Invalid, Parsed, fingerprint
from tests.support.drivers.session import Driver, Note, note_command

VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**53) + 1, 2**53 - 1), st.text(max_size=20),
        st.floats(allow_nan=False, allow_infinity=False),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=20,
)  # fmt: skip
ACTIONS = ("authenticate", "subscribe", "unsubscribe", "ack", "heartbeat", "note", "nothing")
FIELDS = (
    "token",
    "client",
    "window",
    "resume",
    "stream",
    "after",
    "log",
    "cursors",
    "text",
    "id",
    "password",
)


def parse(data: str | bytes) -> Parsed | Invalid:
    return incoming.parse(data, bytes_max=1 << 20, depth_max=32)


@given(st.one_of(st.binary(max_size=300), st.text(max_size=300)))
def test_any_bytes_give_an_object_or_a_typed_refusal(data: str | bytes) -> None:
    assert isinstance(parse(data), (Parsed, Invalid))


@given(st.dictionaries(st.text(max_size=8), VALUES, max_size=6))
def test_a_strict_object_is_read_as_what_it_is(fields: dict[str, Any]) -> None:
    fields.pop("id", None)
    fields["action"] = "note"
    parsed = parse(json.dumps(fields))
    assert isinstance(parsed, Parsed)
    assert parsed.fields == fields


@given(
    action=st.sampled_from(ACTIONS),
    fields=st.dictionaries(st.sampled_from(FIELDS), st.one_of(VALUES, st.just("canary")), max_size=5),
    authenticated=st.booleans(),
)
def test_any_fields_of_any_action_get_answers_and_leave_the_connection_open(
    action: str, fields: dict[str, Any], *, authenticated: bool
) -> None:
    driver = Driver(commands=[note_command()])
    if authenticated:
        driver.login()
        driver.take()
    if action == "authenticate":
        fields["token"] = "bob" if authenticated else fields.get("token", "alice")
    echoed = [fields.get(name) for name in ("id", "stream")]  # a reply names what it answers
    answers = driver.say_raw(json.dumps({**fields, "action": action}))
    if driver.executing:
        answers += driver.reply()
    assert driver.closed is None or action == "authenticate"
    if "canary" not in echoed:
        assert "canary" not in repr(answers)


@given(st.text(max_size=30))
def test_a_fingerprint_tells_contents_apart(text: str) -> None:
    one = fingerprint({"text": text, "id": "a"}, b"k")
    assert one == fingerprint({"id": "b", "text": text}, b"k")
    assert one != fingerprint({"text": text + "x"}, b"k")


@given(VALUES)
def test_converting_repeats_no_value(value: Any) -> None:
    parsed = Parsed("note", None, {"text": {"canary": value}, "email_id": "canary"})
    refused = incoming.convert(parsed, Note)
    assert isinstance(refused, Invalid)
    assert "canary" not in repr(refused)
