"""Streams that an application judges: at subscribe, resume and refresh, and after a change of rights."""

from tests.support.drivers.session import Driver, Message, types

ORDER = "order/1"


def joined(verdict: bool | None) -> tuple[Driver, list[Message]]:
    """A client that subscribes an order of three events, and what it is answered."""
    driver = Driver(verdicts={ORDER: verdict})
    driver.login()
    driver.take()
    driver.append(ORDER, "a", "b", "c")
    return driver, driver.say(action="subscribe", id="s", stream=ORDER, after="start")


def test_a_reader_is_subscribed() -> None:
    _, answers = joined(True)
    assert types(answers) == ["subscribed", "events", "live"]
    assert answers[0]["outcome"] == "resumed"


def test_somebody_else_is_denied_and_learns_nothing() -> None:
    driver, answers = joined(False)
    denied = {"type": "subscribed", "id": "s", "stream": ORDER, "log": "log-1", "outcome": "denied"}
    assert answers == [denied]
    assert driver.append(ORDER, "d") == []


def test_a_late_verdict_follows_the_answer_pending() -> None:
    driver, answers = joined(None)
    assert [answer["outcome"] for answer in answers] == ["pending"]
    assert driver.append(ORDER, "d") == []
    begun = driver.verdict(ORDER, readable=True)
    assert types(begun) == ["subscribed", "events", "live"]
    assert (begun[0]["id"], begun[0]["outcome"]) == ("s", "resumed")


def test_a_late_no_ends_what_was_pending() -> None:
    driver, _ = joined(None)
    ended = {"type": "unsubscribed", "stream": ORDER, "reason": "forbidden"}
    assert driver.verdict(ORDER, readable=False) == [ended]
    assert driver.verdict(ORDER, readable=True) == []
    assert driver.append(ORDER, "d") == []


def test_a_client_that_left_gets_nothing_when_the_verdict_comes() -> None:
    driver, _ = joined(None)
    driver.say(action="unsubscribe", id="u", stream=ORDER)
    assert driver.verdict(ORDER, readable=True) == []


def test_a_resume_is_judged_before_the_answer() -> None:
    driver = Driver(verdicts={ORDER: True})
    driver.append(ORDER, "a", "b", "c")
    result = driver.login(resume={"log": "log-1", "cursors": {ORDER: 2}})
    assert result["streams"][ORDER]["outcome"] == "resumed"
    assert [one["seq"] for one in driver.take() if one["type"] == "events"] == [3]


def test_a_resume_whose_verdict_is_late_goes_on_where_the_client_stood() -> None:
    driver = Driver(verdicts={ORDER: None})
    driver.append(ORDER, "a", "b", "c")
    result = driver.login(resume={"log": "log-1", "cursors": {ORDER: 2}})
    assert result["streams"][ORDER] == {"outcome": "pending"}
    driver.take()
    begun = driver.verdict(ORDER, readable=True)
    assert (begun[0]["outcome"], begun[1]["seq"]) == ("resumed", 3)


def test_another_token_is_judged_and_a_lost_right_ends_the_subscription() -> None:
    driver, _ = joined(True)
    driver.verdicts[ORDER] = False
    result, ended = driver.say(action="authenticate", token="alice")
    assert ORDER not in result["streams"]
    assert (ended["stream"], ended["reason"]) == (ORDER, "forbidden")


def test_while_another_token_is_judged_no_event_is_sent() -> None:
    driver, _ = joined(True)
    driver.verdicts[ORDER] = None
    [result] = driver.say(action="authenticate", token="alice")
    assert result["streams"][ORDER] == {"outcome": "pending"}
    assert driver.append(ORDER, "d") == []
    [events] = driver.verdict(ORDER, readable=True)
    assert (events["type"], events["seq"]) == ("events", 4)


def test_after_a_change_of_rights_no_event_is_sent_before_the_verdict() -> None:
    driver, _ = joined(True)
    driver.hold(ORDER)
    assert driver.append(ORDER, "d") == []
    [events] = driver.verdict(ORDER, readable=True)
    assert (events["type"], events["seq"]) == ("events", 4)
    assert types(driver.append(ORDER, "e")) == ["events"]


def test_a_reader_that_lost_the_right_does_not_get_the_event_that_took_it() -> None:
    driver, _ = joined(True)
    driver.hold(ORDER)
    driver.append(ORDER, "d")
    ended = {"type": "unsubscribed", "stream": ORDER, "reason": "forbidden"}
    assert driver.verdict(ORDER, readable=False) == [ended]


def test_events_sent_before_the_verdict_may_still_be_acked() -> None:
    driver, _ = joined(True)
    driver.hold(ORDER)
    assert driver.ack(order_1=3) == []
    assert driver.acked == {ORDER: 3}


def test_a_snapshot_that_was_under_way_is_taken_again_after_the_verdict() -> None:
    driver = Driver(verdicts={ORDER: True})
    driver.hold_snapshots = True
    driver.login()
    driver.append(ORDER, "a")
    driver.say(action="subscribe", id="s", stream=ORDER, after="snapshot")
    driver.take()
    driver.hold(ORDER)
    assert driver.give_snapshot(1) == []
    driver.verdict(ORDER, readable=True)
    assert types(driver.give_snapshot(1)) == ["snapshot", "live"]
