"""The server's side of a connection, without I/O."""

from typing import Any

import pytest

from huahuo.actors.plugins.calls import Principal
from huahuo.transport.protocol.codes import CloseCode
from huahuo.transport.protocol.dialects import DOCUMENT, V1, negotiate
from huahuo.transport.protocol.flow_control import TransportSettings
from huahuo.transport.session.interface import Close
from huahuo.transport.words import en, zh
from tests.support.drivers.session import PEOPLE, Driver, ModelLog, note_command, seqs, texts, types


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


def test_a_cursor_before_what_is_kept_is_a_gap_with_a_snapshot() -> None:
    log = log_with(user=9)
    log.prune("user/42", 5)
    driver = Driver(log)
    result = driver.login(resume={"log": "log-1", "cursors": {"user/42": 3}})
    assert result["streams"]["user/42"] == {"outcome": "gap", "after": 9, "first": 6, "head": 9}
    sent = driver.take()
    assert {"type": "snapshot", "stream": "user/42", "seq": 9, "state": {"emails": []}} in sent
    assert seqs(driver.append("user/42", "next"), "user/42") == [10]


@pytest.mark.parametrize("other", ["log-0", None])
def test_a_cursor_of_another_log_is_reset(other: str | None) -> None:
    driver = Driver(log_with(user=5))
    result = driver.login(resume={"log": other, "cursors": {"user/42": 3}})
    assert result["streams"]["user/42"]["outcome"] == "reset"
    assert not driver.alarms


def test_the_cursor_just_before_what_is_kept_is_no_gap() -> None:
    log = log_with(user=9)
    log.prune("user/42", 5)
    driver = Driver(log)
    result = driver.login(resume={"log": "log-1", "cursors": {"user/42": 5}})
    assert result["streams"]["user/42"]["outcome"] == "resumed"
    assert seqs(driver.take(), "user/42") == [6, 7, 8, 9]


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


# Refresh in place


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


def test_a_snapshot_comes_before_the_events_behind_it() -> None:
    driver = driver_with(ops())
    driver.hold_snapshots = True
    (subscribed,) = driver.say(action="subscribe", stream="group/ops", after="snapshot")
    assert subscribed["outcome"] == "snapshot"
    assert driver.append("group/ops", "six", "seven") == []
    answers = driver.give_snapshot(6, b'{"recent":[]}')
    assert answers[0] == {"type": "snapshot", "stream": "group/ops", "seq": 6, "state": {"recent": []}}
    assert seqs(answers, "group/ops") == [7]
    assert answers[-1] == {"type": "live", "stream": "group/ops", "seq": 7}


def test_a_snapshot_that_comes_after_the_subscription_moved_is_dropped() -> None:
    driver = driver_with(ops())
    driver.hold_snapshots = True
    driver.say(action="subscribe", stream="group/ops", after="snapshot")
    driver.say(action="subscribe", stream="group/ops", after=5, log="log-1")
    assert driver.give_snapshot(5) == []
    assert seqs(driver.append("group/ops", "six"), "group/ops") == [6]


def test_a_snapshot_above_the_largest_reply_ends_the_subscription_with_a_reason() -> None:
    driver = driver_with(ops(), reply_bytes_max=200)
    driver.hold_snapshots = True
    driver.say(action="subscribe", stream="group/ops", after="snapshot")
    (said,) = driver.give_snapshot(5, b'{"a":"' + b"x" * 300 + b'"}')
    assert said == {"type": "unsubscribed", "stream": "group/ops", "reason": "too_large"}
    assert "group/ops" not in driver.watched


@pytest.mark.parametrize(
    "stream",
    ["user/43", "group/dev", "group/", "log", "mailbox/1", "auth", "audit", "group/a b", "user/042", "*"],
)
def test_a_user_is_denied_what_is_not_his_and_what_does_not_exist(stream: str) -> None:
    driver = driver_with()
    assert driver.say(action="subscribe", id="c", stream=stream, after="start") == [
        {"type": "subscribed", "id": "c", "stream": stream, "log": "log-1", "outcome": "denied"}
    ]
    assert driver.append(stream, "secret") == []


@pytest.mark.parametrize(
    "stream", ["user/42", "user/alice@example.com", "group/dev", "system", "log", "removed/1"]
)
def test_an_admin_may_read_every_public_stream_and_the_log(stream: str) -> None:
    assert driver_with(who="root").say(action="subscribe", stream=stream)[0]["outcome"] == "fresh"


@pytest.mark.parametrize(
    "stream", ["mailbox/1", "auth", "audit", "effect/a/1", "user/..", "user/a b", "user/", "nothing", "A/1"]
)
def test_an_admin_too_reads_internal_streams_only_through_the_log(stream: str) -> None:
    assert driver_with(who="root").say(action="subscribe", stream=stream)[0]["outcome"] == "denied"


def test_on_the_log_the_seq_is_the_position_and_each_event_says_where_it_belongs() -> None:
    log = ModelLog()
    log.append("mailbox/1")
    log.append("user/42")
    driver = driver_with(log, who="root")
    answers = driver.say(action="subscribe", stream="log", after="start")
    events = answers[1]["events"]
    assert (answers[1]["stream"], answers[1]["seq"]) == ("log", 1)
    assert [event["in"] for event in events] == [
        {"stream": "mailbox/1", "seq": 1},
        {"stream": "user/42", "seq": 1},
    ]


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


def test_one_event_above_the_limit_travels_alone() -> None:
    driver = Driver(settings=TransportSettings(frame_bytes_max=2000))
    for pad in (10, 5000, 10):
        driver.log.append("user/42", pad=pad)
    driver.login(resume={"log": "log-1", "cursors": {"user/42": 0}})
    counts = [len(message["events"]) for message in driver.take() if message["type"] == "events"]
    assert counts == [1, 1, 1]


def test_live_is_said_once_when_the_head_is_reached() -> None:
    log = ModelLog()
    for _ in range(600):
        log.append("user/42")
    driver = Driver(log)
    driver.login(window=4096, resume={"log": "log-1", "cursors": {"user/42": 0}})
    sent = [m for m in driver.take() if m.get("stream") == "user/42"]
    assert types(sent)[-1] == "live"
    assert types(sent).count("live") == 1
    assert sent[-1]["seq"] == 600
    assert "live" not in types(driver.append("user/42", "more"))


# A reply comes before every event that its command caused


def test_events_before_the_caused_one_are_not_held() -> None:
    driver = logged_in()
    driver.say(action="note", id="c1", text="x")
    driver.hold_events = True
    driver.append("user/42", "earlier")
    driver.append("user/42", "caused", principal="user/42", command_id="c1")
    driver.append("user/42", "later")
    driver.hold_events = False
    driver.pump()
    assert texts(driver.take()) == ["earlier"]
    assert texts(driver.reply()) == ["caused", "later"]


def test_a_command_without_an_id_is_answered_before_its_events_too() -> None:
    driver = logged_in()
    driver.say(action="note", text="x")
    command_id = driver.executing[0].call.command_id
    assert driver.append("user/42", "caused", principal="user/42", command_id=command_id) == []
    assert types(driver.reply()) == ["success", "events"]


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


@pytest.mark.parametrize("stream", ["user/42", "group/never", "system"])
def test_an_ack_beyond_what_was_sent_is_a_bad_ack_and_changes_nothing(stream: str) -> None:
    driver = resumed(50)
    driver.take()
    (error,) = driver.say(action="ack", id="a", cursors={stream: 11})
    assert (error["type"], error["code"], error["id"]) == ("error", "bad_ack", "a")
    assert driver.acked == {}
    assert driver.closed is None


def test_a_bad_cursor_does_not_spoil_the_good_ones_of_its_message() -> None:
    driver = resumed(50)
    driver.take()
    answers = driver.say(action="ack", cursors={"user/42": 5, "system": 99})
    assert driver.acked == {"user/42": 5}
    assert "error" in types(answers)
    assert seqs(answers, "user/42") == [11, 12, 13, 14, 15]


def test_after_moving_back_an_ack_of_what_was_sent_before_is_legal() -> None:
    driver = resumed(5)
    driver.take()
    driver.say(action="subscribe", stream="user/42", after=2, log="log-1")
    assert driver.ack(user_42=5) == []
    assert driver.session.delivery.window.outstanding == 0


def test_lag_says_how_far_behind_at_most_once_a_second() -> None:
    driver = resumed(50)
    assert {"type": "lag", "stream": "user/42", "behind": 40} in driver.take()
    assert driver.append("user/42", "more") == []
    assert driver.after(0.9) == []
    assert driver.after(0.1) == [{"type": "lag", "stream": "user/42", "behind": 41}]


def test_a_reader_that_keeps_up_hears_of_no_lag() -> None:
    driver = resumed(0)
    driver.take()
    for seq in range(1, 40):
        assert types(driver.append("user/42", "x")) == ["events"]
        assert driver.ack(user_42=seq) == []


def test_without_an_ack_for_a_minute_the_connection_ends() -> None:
    driver = resumed(3)
    driver.take()
    assert driver.after(59) == []
    (goaway,) = driver.after(1)
    assert goaway["code"] == CloseCode.TOO_SLOW
    assert "retry_s" in goaway


def test_every_ack_of_something_new_starts_the_minute_anew() -> None:
    driver = resumed(3)
    driver.take()
    driver.after(50)
    driver.ack(user_42=1)
    assert driver.after(50) == []
    assert driver.closed is None


def test_an_ack_that_is_said_again_does_not() -> None:
    """A client that repeated its cursor by a timer could hold a full window for ever."""
    driver = resumed(3)
    driver.take()
    driver.ack(user_42=1)
    for _ in range(3):
        driver.after(19)
        assert driver.closed is None
        driver.ack(user_42=1)
    driver.after(3)
    assert driver.closed is not None


def test_acks_do_not_count_against_the_rate() -> None:
    driver = Driver(settings=TransportSettings(messages_per_s=1))
    driver.login()
    driver.append("user/42", "x")
    for _ in range(100):
        assert driver.ack(user_42=1) == []


def test_bad_acks_do_count() -> None:
    driver = Driver(settings=TransportSettings(messages_per_s=1))
    driver.login()
    driver.take()
    codes = [driver.ack(user_42=9)[0]["code"] for _ in range(3)]
    assert codes == ["bad_ack", "rate_limited", "rate_limited"]


@pytest.mark.parametrize(
    "cursors", [None, [], {"user/42": -1}, {"user/42": "5"}, {"user/42": 2**53}, {"": 1}]
)
def test_an_ack_of_the_wrong_form_is_an_invalid_field(cursors: object) -> None:
    driver = resumed(0)
    driver.take()
    (error,) = driver.say(action="ack", cursors=cursors)
    assert error["code"] == "invalid_field"


def test_an_ack_of_the_wrong_form_above_the_rate_is_refused_for_the_rate() -> None:
    driver = Driver(settings=TransportSettings(messages_per_s=1))
    driver.login()
    driver.take()
    codes = [driver.say(action="ack", cursors=None)[0]["code"] for _ in range(2)]
    assert codes == ["invalid_field", "rate_limited"]


def test_a_client_is_spoken_to_in_the_language_that_it_names_as_it_signs_in() -> None:
    driver = Driver()
    driver.login(language="en")
    driver.take()
    [error] = driver.say(action="nonsense")
    assert error["message"].startswith("this service has no such action")


@pytest.mark.parametrize(
    ("asked", "details", "reason"),
    [
        ({"language": "zh"}, zh.MISSING, zh.RESTARTS),
        ({"language": "en"}, en.MISSING, en.RESTARTS),
        ({}, en.MISSING, en.RESTARTS),
    ],
)
def test_details_and_reasons_come_in_the_language_that_a_client_asks_for(
    asked: dict[str, str], details: str, reason: str
) -> None:
    driver = Driver()
    driver.login(**asked)
    driver.take()
    [error] = driver.say(action="subscribe", id="s")
    assert error["details"] == f"stream: {details}"
    outputs = driver.session.close(CloseCode.DRAINING, en.RESTARTS)
    driver.carry_out(outputs)
    assert driver.take()[-1]["reason"] == reason
    assert outputs[-1] == Close(CloseCode.DRAINING, en.RESTARTS)


@pytest.mark.parametrize("fields", [{}, {"stream": ""}, {"stream": 7}])
def test_an_unsubscribe_without_a_stream_is_refused_by_the_field(fields: dict[str, object]) -> None:
    driver = Driver()
    driver.login()
    driver.take()
    [error] = driver.say(action="unsubscribe", id="u", **fields)
    assert (error["code"], error["id"]) == ("invalid_field", "u")
    assert "stream" in error["details"]


def test_on_the_log_each_event_says_where_it_belongs() -> None:
    driver = Driver(dialect=DOCUMENT)
    driver.login("root")
    driver.say(action="subscribe", stream="log")
    (event,) = driver.append("mailbox/1", "a")
    assert (event["stream"], event["seq"], event["in"]) == ("log", 1, {"stream": "mailbox/1", "seq": 1})


def test_no_window_holds_events_back_and_no_ack_is_owed() -> None:
    log = ModelLog()
    for _ in range(5000):
        log.append("user/42")
    driver = Driver(log, dialect=DOCUMENT)
    result = driver.login(window=10, resume={"log": "log-1", "cursors": {"user/42": 0}})
    assert "window" not in result
    sent = driver.take()
    assert seqs(sent, "user/42") == list(range(1, 5001))
    assert "lag" not in types(sent)
    for _ in range(20):
        driver.after(29)
    assert driver.closed is None


def test_the_offer_decides_the_dialect() -> None:
    assert negotiate([], compression=False).dialect is DOCUMENT
    assert negotiate(["chat"], compression=False).dialect is DOCUMENT
    assert negotiate(["huahuo.v9", "huahuo.v1"], compression=False).dialect is V1
    assert negotiate(["huahuo.v1"], compression=False).subprotocol == "huahuo.v1"


def test_a_version_that_is_not_spoken_is_echoed_without_a_dialect() -> None:
    chosen = negotiate(["chat", "huahuo.v9"], compression=False)
    assert (chosen.subprotocol, chosen.dialect) == ("huahuo.v9", None)
