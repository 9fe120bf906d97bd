"""The server's side of a connection, without I/O."""

from typing import Any

import pytest

from huahuo.actors.plugins.calls import Principal
from huahuo.transport.protocol.codes import CloseCode
from huahuo.transport.protocol.dialects import DOCUMENT, V1, negotiate
from huahuo.transport.protocol.flow_control import TransportSettings
from tests.support.drivers.session import PEOPLE, Driver, ModelLog, note_command, seqs, texts, types


@pytest.mark.parametrize(
    ("token", "code", "close"),
    [
        ("nobody", "token_invalid", CloseCode.TOKEN_INVALID),
        ("expired", "token_expired", CloseCode.TOKEN_EXPIRED),
        ("revoked", "token_revoked", CloseCode.REVOKED),
    ],
)
def test_a_token_that_does_not_hold_is_refused_with_its_reason(
    token: str, code: str, close: CloseCode
) -> None:
    driver = Driver()
    answers = driver.say(action="authenticate", token=token)
    assert types(answers) == ["authentication_result", "goaway"]
    assert (answers[0]["success"], answers[0]["code"]) == (False, code)
    assert driver.closed is not None
    assert driver.closed.code is close


def test_without_authentication_the_connection_ends() -> None:
    driver = Driver()
    assert driver.after(9.9) == []
    (goaway,) = driver.after(0.1)
    assert goaway["code"] == CloseCode.AUTH_TIMEOUT


# Refresh in place


def test_a_token_of_another_user_changes_nothing() -> None:
    driver = Driver()
    driver.login()
    driver.take()
    (error,) = driver.say(action="authenticate", token="bob")
    assert error["code"] == "user_mismatch"
    assert driver.closed is None
    assert seqs(driver.append("user/42", "mine"), "user/42") == [1]
    assert driver.append("user/43", "not mine") == []


def test_rights_that_the_new_token_lacks_end_their_subscriptions(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver()
    driver.login()
    driver.say(action="subscribe", stream="group/ops")
    monkeypatch.setitem(PEOPLE, "alice", Principal(user_id=42, username="alice"))
    answers = driver.say(action="authenticate", token="alice")
    assert "group/ops" not in answers[0]["streams"]
    assert answers[1] == {"type": "unsubscribed", "stream": "group/ops", "reason": "forbidden"}
    assert driver.append("group/ops", "withheld") == []


def test_a_refresh_with_a_token_that_does_not_hold_ends_the_connection() -> None:
    driver = Driver()
    driver.login()
    driver.take()
    answers = driver.say(action="authenticate", token="revoked")
    assert types(answers) == ["authentication_result", "goaway"]
    assert driver.closed is not None


# The end of a token


def test_a_minute_before_its_end_the_token_is_announced_once() -> None:
    driver = Driver()
    driver.login("alice+100")
    driver.take()
    assert driver.after(39) == []
    assert driver.after(1) == [{"type": "token_expiring", "in_s": 60}]
    assert driver.after(1) == []


def test_a_token_with_less_than_a_minute_is_announced_at_once() -> None:
    driver = Driver()
    driver.login("alice+7")
    assert {"type": "token_expiring", "in_s": 7} in driver.take()


def test_a_refreshed_token_is_announced_again() -> None:
    driver = Driver()
    driver.login("alice+50")
    driver.take()
    driver.login("alice+150")
    driver.take()
    assert driver.after(90) == [{"type": "token_expiring", "in_s": 60}]


def ops(count: int = 5) -> ModelLog:
    log = ModelLog()
    for _ in range(count):
        log.append("group/ops")
    return log


def driver_with(log: ModelLog | None = None, who: str = "alice", **limits: Any) -> Driver:
    driver = Driver(log, settings=TransportSettings(**limits))
    driver.login(who)
    driver.take()
    return driver


@pytest.mark.parametrize(
    "stream", ["mailbox/1", "auth", "audit", "effect/a/1", "user/..", "user/a b", "user/", "nothing", "A/1"]
)
def test_an_admin_too_reads_internal_streams_only_through_the_log(stream: str) -> None:
    assert driver_with(who="root").say(action="subscribe", stream=stream)[0]["outcome"] == "denied"


def test_a_number_without_its_log_is_an_invalid_field() -> None:
    (error,) = driver_with(ops()).say(action="subscribe", id="c", stream="group/ops", after=3)
    assert (error["code"], error["id"], error["details"].split(":")[0]) == ("invalid_field", "c", "log")


@pytest.mark.parametrize("after", [-1, 1.5, True, [], {}, "tail", 2**53])
def test_a_place_that_is_none_is_an_invalid_field(after: object) -> None:
    (error,) = driver_with(ops()).say(action="subscribe", stream="group/ops", after=after, log="log-1")
    assert error["code"] == "invalid_field"


def test_the_subscriptions_of_a_connection_are_bounded() -> None:
    driver = driver_with(who="root", subscriptions_max=4)
    for name in ("a", "b"):
        assert driver.say(action="subscribe", stream=f"group/{name}")[0]["outcome"] == "fresh"
    (error,) = driver.say(action="subscribe", id="c", stream="group/c")
    assert (error["code"], error["id"]) == ("too_large", "c")
    assert driver.say(action="subscribe", stream="group/a")[0]["outcome"] == "fresh"
    driver.say(action="unsubscribe", stream="group/a")
    assert driver.say(action="subscribe", stream="group/c")[0]["outcome"] == "fresh"


def test_cursors_beyond_the_most_of_subscriptions_are_denied() -> None:
    driver = Driver(settings=TransportSettings(subscriptions_max=3))
    result = driver.login("root", resume={"log": "log-1", "cursors": {"group/a": 0, "group/b": 0}})
    assert [result["streams"][s]["outcome"] for s in ("group/a", "group/b")] == ["resumed", "denied"]


def logged_in(log: ModelLog | None = None, **fields: object) -> Driver:
    driver = Driver(log, commands=[note_command()])
    driver.login(**fields)  # type: ignore[arg-type]
    driver.take()
    return driver


# A reply comes before every event that its command caused


def test_an_event_that_another_user_caused_with_the_same_id_is_not_held() -> None:
    driver = logged_in()
    driver.say(action="note", id="c1", text="x")
    assert texts(driver.append("user/42", "theirs", principal="user/1", command_id="c1")) == ["theirs"]


def test_with_the_same_command_asked_twice_its_events_wait_for_both_replies() -> None:
    driver = logged_in()
    driver.say(action="note", id="c1", text="x")
    driver.say(action="note", id="c1", text="x")
    driver.append("user/42", "caused", principal="user/42", command_id="c1")
    assert types(driver.reply()) == ["success"]
    assert types(driver.reply()) == ["success", "events"]


def resumed(count: int, window: int = 10, **cursors: int) -> Driver:
    log = ModelLog()
    for _ in range(count):
        log.append("user/42")
    driver = Driver(log)
    driver.login(window=window, resume={"log": "log-1", "cursors": {"user/42": 0, **cursors}})
    return driver


def test_with_the_window_outstanding_nothing_more_is_sent() -> None:
    driver = resumed(50)
    assert seqs(driver.take(), "user/42") == list(range(1, 11))
    assert seqs(driver.append("user/42", "more"), "user/42") == []


def test_lag_says_how_far_behind_at_most_once_a_second() -> None:
    driver = resumed(50)
    assert {"type": "lag", "stream": "user/42", "behind": 40} in driver.take()
    assert driver.append("user/42", "more") == []
    assert driver.after(0.9) == []
    assert driver.after(0.1) == [{"type": "lag", "stream": "user/42", "behind": 41}]


def test_without_an_ack_for_a_minute_the_connection_ends() -> None:
    driver = resumed(3)
    driver.take()
    assert driver.after(59) == []
    (goaway,) = driver.after(1)
    assert goaway["code"] == CloseCode.TOO_SLOW
    assert "retry_s" in goaway


def test_bad_acks_do_count() -> None:
    driver = Driver(settings=TransportSettings(messages_per_s=1))
    driver.login()
    driver.take()
    codes = [driver.ack(user_42=9)[0]["code"] for _ in range(3)]
    assert codes == ["bad_ack", "rate_limited", "rate_limited"]


def test_an_ack_of_the_wrong_form_above_the_rate_is_refused_for_the_rate() -> None:
    driver = Driver(settings=TransportSettings(messages_per_s=1))
    driver.login()
    driver.take()
    codes = [driver.say(action="ack", cursors=None)[0]["code"] for _ in range(2)]
    assert codes == ["invalid_field", "rate_limited"]


@pytest.mark.parametrize("fields", [{}, {"stream": ""}, {"stream": 7}])
def test_an_unsubscribe_without_a_stream_is_refused_by_the_field(fields: dict[str, object]) -> None:
    driver = Driver()
    driver.login()
    driver.take()
    [error] = driver.say(action="unsubscribe", id="u", **fields)
    assert (error["code"], error["id"]) == ("invalid_field", "u")
    assert "stream" in error["details"]


def test_the_offer_decides_the_dialect() -> None:
    assert negotiate([], compression=False).dialect is DOCUMENT
    assert negotiate(["chat"], compression=False).dialect is DOCUMENT
    assert negotiate(["huahuo.v9", "huahuo.v1"], compression=False).dialect is V1
    assert negotiate(["huahuo.v1"], compression=False).subprotocol == "huahuo.v1"


def test_a_version_that_is_not_spoken_is_echoed_without_a_dialect() -> None:
    chosen = negotiate(["chat", "huahuo.v9"], compression=False)
    assert (chosen.subprotocol, chosen.dialect) == ("huahuo.v9", None)
