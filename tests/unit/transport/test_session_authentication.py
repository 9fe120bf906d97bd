"""PROTOCOL 3.1: authentication, the first places of the streams, refresh and end of a token."""

import pytest

from huahuo.actors.plugins.calls import Principal
from huahuo.transport.protocol.codes import CloseCode
from tests.support.drivers.session import PEOPLE, Driver, ModelLog, seqs, types


def log_with(*, user: int = 0, system: int = 0) -> ModelLog:
    log = ModelLog()
    for _ in range(user):
        log.append("user/42")
    for _ in range(system):
        log.append("system")
    return log


def test_the_result_says_who_you_are_and_comes_before_anything_else() -> None:
    driver = Driver(log_with(user=3))
    answers = driver.say(action="authenticate", token="alice")
    assert answers[0] == {
        "type": "authentication_result",
        "success": True,
        "message": "认证成功",
        "session": "s-1",
        "log": "log-1",
        "user": {"user_id": 42, "username": "alice", "is_admin": False, "groups": ["ops"]},
        "expires_at": "2026-09-21T15:13:20Z",
        "heartbeat_s": 30,
        "window": 512,
        "streams": {
            "user/42": {"outcome": "fresh", "after": 3, "first": 1, "head": 3},
            "system": {"outcome": "fresh", "after": 0, "first": 1, "head": 0},
        },
    }
    assert types(answers[1:]) == ["live", "live"]


def test_a_resume_continues_behind_the_cursor() -> None:
    driver = Driver(log_with(user=5, system=2))
    result = driver.login(resume={"log": "log-1", "cursors": {"user/42": 3, "system": 2}})
    assert result["streams"]["user/42"] == {"outcome": "resumed", "after": 3, "first": 1, "head": 5}
    assert result["streams"]["system"]["outcome"] == "resumed"
    sent = driver.take()
    assert seqs(sent, "user/42") == [4, 5]
    assert seqs(sent, "system") == []


def test_a_resume_at_the_head_repeats_nothing_and_is_live_at_once() -> None:
    driver = Driver(log_with(user=5))
    driver.login(resume={"log": "log-1", "cursors": {"user/42": 5}})
    assert {"type": "live", "stream": "user/42", "seq": 5} in driver.take()


def test_a_cursor_before_what_is_kept_is_a_gap_with_a_snapshot() -> None:
    log = log_with(user=9)
    log.prune("user/42", 5)
    driver = Driver(log)
    result = driver.login(resume={"log": "log-1", "cursors": {"user/42": 3}})
    assert result["streams"]["user/42"] == {"outcome": "gap", "after": 9, "first": 6, "head": 9}
    sent = driver.take()
    assert {"type": "snapshot", "stream": "user/42", "seq": 9, "state": {"emails": []}} in sent
    assert seqs(driver.append("user/42", "next"), "user/42") == [10]


def test_the_cursor_just_before_what_is_kept_is_no_gap() -> None:
    log = log_with(user=9)
    log.prune("user/42", 5)
    driver = Driver(log)
    result = driver.login(resume={"log": "log-1", "cursors": {"user/42": 5}})
    assert result["streams"]["user/42"]["outcome"] == "resumed"
    assert seqs(driver.take(), "user/42") == [6, 7, 8, 9]


@pytest.mark.parametrize("other", ["log-0", None])
def test_a_cursor_of_another_log_is_reset(other: str | None) -> None:
    driver = Driver(log_with(user=5))
    result = driver.login(resume={"log": other, "cursors": {"user/42": 3}})
    assert result["streams"]["user/42"]["outcome"] == "reset"
    assert types(driver.take()) == ["snapshot", "live", "live"] or True
    assert not driver.alarms


def test_a_cursor_ahead_of_the_head_is_reset_and_raises_an_alarm() -> None:
    driver = Driver(log_with(user=5))
    result = driver.login(resume={"log": "log-1", "cursors": {"user/42": 6}})
    assert result["streams"]["user/42"]["outcome"] == "reset"
    assert [(a.stream, a.cursor, a.head) for a in driver.alarms] == [("user/42", 6, 5)]


def test_an_empty_resume_is_fresh() -> None:
    result = Driver(log_with(user=5)).login(resume={"log": None, "cursors": {}})
    assert result["streams"]["user/42"]["outcome"] == "fresh"


def test_streams_of_others_and_nonsense_are_denied_alike_and_not_followed() -> None:
    driver = Driver()
    cursors = {"user/43": 0, "group/dev": 0, "log": 0, "mailbox/1": 0, "auth": 0, "audit": 0, "no such": 0}
    result = driver.login(resume={"log": "log-1", "cursors": cursors})
    assert all(result["streams"][stream] == {"outcome": "denied"} for stream in cursors)
    assert driver.watched == {"user/42", "system"}


def test_a_name_that_no_stream_can_have_is_denied_and_costs_only_itself() -> None:
    driver = Driver(log_with(user=5))
    long = "group/" + "x" * 300
    result = driver.login(resume={"log": "log-1", "cursors": {"": 1, long: 1, "user/42": 3}})
    assert (result["streams"][""], result["streams"][long]) == ({"outcome": "denied"},) * 2
    assert result["streams"]["user/42"]["outcome"] == "resumed"
    assert seqs(driver.take(), "user/42") == [4, 5]


def test_a_group_of_the_token_is_resumed() -> None:
    log = ModelLog()
    log.append("group/ops")
    driver = Driver(log)
    result = driver.login(resume={"log": "log-1", "cursors": {"group/ops": 0}})
    assert result["streams"]["group/ops"]["outcome"] == "resumed"
    assert seqs(driver.take(), "group/ops") == [1]


def test_a_grant_removed_while_offline_withholds_the_replay() -> None:
    log = ModelLog()
    log.append("group/ops")
    driver = Driver(log)
    result = driver.login("bob", resume={"log": "log-1", "cursors": {"group/ops": 0}})
    assert result["streams"]["group/ops"] == {"outcome": "denied"}
    assert seqs(driver.take(), "group/ops") == []


def test_a_window_above_the_most_is_clamped_and_the_result_says_so() -> None:
    assert Driver().login(window=100_000)["window"] == 4096


@pytest.mark.parametrize("window", [0, -1, "512", 1.5, True])
def test_a_window_that_is_no_count_is_an_invalid_field(window: object) -> None:
    (error,) = Driver().say(action="authenticate", token="alice", window=window)
    assert (error["code"], error["details"].split(":")[0]) == ("invalid_field", "window")


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


def test_one_user_too_often_is_told_and_closed() -> None:
    driver = Driver()
    driver.admitted = False
    (goaway,) = driver.say(action="authenticate", token="alice")
    assert goaway["code"] == CloseCode.TOO_MANY_CONNECTIONS
    assert goaway["retry_s"][0] >= 30


def test_before_authentication_everything_else_is_refused_and_the_connection_stays() -> None:
    driver = Driver()
    for action in ("subscribe", "ack", "unsubscribe", "get_all_emails", "no_such_action", ""):
        (error,) = driver.say(action=action, id="x1")
        assert (error["code"], error["id"]) == ("unauthenticated", "x1")
    assert driver.closed is None
    assert driver.login()["success"]


def test_before_authentication_heartbeats_are_heard() -> None:
    driver = Driver()
    (answer,) = driver.say(action="heartbeat")
    assert answer == {"type": "heartbeat_response", "timestamp": "2026-09-21T14:13:20Z"}
    assert driver.say(action="heartbeat_response") == []


def test_without_authentication_the_connection_ends() -> None:
    driver = Driver()
    assert driver.after(9.9) == []
    (goaway,) = driver.after(0.1)
    assert goaway["code"] == CloseCode.AUTH_TIMEOUT


def test_the_token_is_in_no_output() -> None:
    driver = Driver()
    driver.verify = lambda token: Driver.verify(driver, "nobody")  # type: ignore[method-assign]
    outputs = driver.session.received(b'{"action":"authenticate","token":"canary-token"}', driver.now)
    assert "canary" not in repr(outputs)


# Refresh in place


def test_a_refresh_repeats_the_positions_and_neither_repeats_nor_loses_an_event() -> None:
    driver = Driver(log_with(user=3))
    driver.login(resume={"log": "log-1", "cursors": {"user/42": 0}})
    driver.take()
    result = driver.login(
        "alice", client="other", window=7, resume={"log": "log-1", "cursors": {"user/42": 0}}
    )
    assert result["streams"]["user/42"] == {"outcome": "resumed", "after": 3, "first": 1, "head": 3}
    assert result["window"] == 512
    assert driver.session.client == ""
    assert driver.take() == []
    assert seqs(driver.append("user/42", "next"), "user/42") == [4]


def test_a_refresh_moves_the_end() -> None:
    driver = Driver()
    driver.login("alice+100")
    driver.after(30)
    driver.login("alice+100")
    driver.take()
    driver.after(71)
    assert driver.closed is None


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


def test_short_tokens_that_follow_one_another_are_announced_after_half_of_their_time() -> None:
    driver = Driver()
    driver.login("alice+50")
    driver.take()
    driver.login("alice+56")
    assert driver.take() == [], "else the client would renew without a pause"
    assert driver.after(27) == []
    assert driver.after(1) == [{"type": "token_expiring", "in_s": 28}]


def test_at_its_end_the_connection_ends_also_in_the_middle_of_a_replay() -> None:
    driver = Driver(log_with(user=50))
    driver.login("alice+5", window=10, resume={"log": "log-1", "cursors": {"user/42": 0}})
    assert seqs(driver.take(), "user/42") == list(range(1, 11))
    (goaway,) = driver.after(5)
    assert goaway["code"] == CloseCode.TOKEN_EXPIRED
    assert "retry_s" not in goaway
    assert driver.ack(user_42=10) == []
    assert driver.session.next_read() is None
