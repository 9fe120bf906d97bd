"""PROTOCOL 4: runs, their order, and the messages about missing history."""

import pytest

from huahuo.transport.protocol.flow_control import TransportSettings
from tests.support.drivers.session import Driver, ModelLog, Note, note_command, seqs, texts, types


def logged_in(log: ModelLog | None = None, **fields: object) -> Driver:
    driver = Driver(log, commands=[note_command()])
    driver.login(**fields)  # type: ignore[arg-type]
    driver.take()
    return driver


def test_what_was_committed_together_leaves_together() -> None:
    (frame,) = logged_in().append("user/42", "a", "b", "c")
    assert (frame["type"], frame["stream"], frame["seq"]) == ("events", "user/42", 1)
    assert [event["text"] for event in frame["events"]] == ["a", "b", "c"]


def test_events_are_the_stored_objects_unchanged() -> None:
    log = ModelLog()
    driver = logged_in(log)
    (frame,) = driver.append("user/42", "花火")
    assert frame["events"] == [{"type": "noted", "text": "花火", "timestamp": "2026-11-24T10:00:00Z"}]


def test_no_frame_exceeds_the_limit_whatever_gathered() -> None:
    driver = Driver(settings=TransportSettings(frame_bytes_max=2000))
    for _ in range(100):
        driver.log.append("user/42", pad=300)
    driver.login(resume={"log": "log-1", "cursors": {"user/42": 0}})
    sent = driver.take()
    sizes = [len(str(message["events"])) for message in sent if message["type"] == "events"]
    assert max(sizes) <= 2200
    assert seqs(sent, "user/42") == list(range(1, 101))


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


def test_a_compacted_range_is_accounted_for() -> None:
    log = ModelLog()
    for _ in range(9):
        log.append("user/42")
    log.compact("user/42", 3, 7)
    driver = Driver(log)
    driver.login(resume={"log": "log-1", "cursors": {"user/42": 1}})
    sent = [m for m in driver.take() if m.get("stream") == "user/42"]
    assert types(sent) == ["events", "skipped", "events", "live"]
    assert sent[1] == {"type": "skipped", "stream": "user/42", "seq": 4, "to": 7, "reason": "compacted"}
    assert seqs(sent, "user/42") == [2, 3, 8, 9]


def test_a_busy_stream_starves_no_other() -> None:
    log = ModelLog()
    for _ in range(2000):
        log.append("user/42")
    for _ in range(3):
        log.append("system")
    driver = Driver(log)
    driver.login(window=4096, resume={"log": "log-1", "cursors": {"user/42": 0, "system": 0}})
    frames = [m["stream"] for m in driver.take() if m["type"] == "events"]
    assert frames[:2] == ["user/42", "system"]


def test_a_signal_that_carries_nothing_new_sends_nothing() -> None:
    driver = logged_in()
    driver.append("user/42", "a")
    driver.wake("user/42", "user/42", "system")
    assert driver.take() == []


def test_what_was_read_for_an_earlier_position_is_dropped() -> None:
    log = ModelLog()
    for _ in range(9):
        log.append("user/42")
    driver = logged_in(log)
    driver.hold_events = True
    driver.say(action="subscribe", stream="user/42", after=2, log="log-1")
    sub = driver.session.next_read()
    assert sub is not None
    driver.say(action="subscribe", stream="user/42", after=5, log="log-1")
    assert driver.session.took(sub, log.run("user/42", 2, 9), 0) == []
    driver.hold_events = False
    driver.pump()
    assert seqs(driver.take(), "user/42") == [6, 7, 8, 9]


# A reply comes before every event that its command caused


def test_the_reply_comes_before_its_event() -> None:
    driver = logged_in()
    driver.say(action="note", id="c1", text="x")
    assert driver.append("user/42", "caused", principal="user/42", command_id="c1") == []
    answers = driver.reply({"type": "success"}, at=("user/42", 1))
    assert types(answers) == ["success", "events"]


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


def test_only_the_stream_of_the_caused_event_is_held() -> None:
    driver = logged_in()
    driver.say(action="note", id="c1", text="x")
    driver.append("user/42", "caused", principal="user/42", command_id="c1")
    assert texts(driver.append("system", "other")) == ["other"]


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


def test_commands_that_wait_for_each_others_events_all_end() -> None:
    driver = logged_in()
    for command_id in ("a", "b"):
        driver.say(action="note", id=command_id, text="x")
    driver.append("user/42", "of b", principal="user/42", command_id="b")
    driver.append("user/42", "of a", principal="user/42", command_id="a")
    assert types(driver.reply(index=0)) == ["success"]
    answers = driver.reply(index=0)
    assert texts(answers) == ["of b", "of a"]


@pytest.mark.parametrize("held", [True, False])
def test_a_held_stream_goes_on_after_it_was_moved(held: bool) -> None:
    driver = logged_in()
    driver.say(action="note", id="c1", text="x")
    if held:
        driver.append("user/42", "caused", principal="user/42", command_id="c1")
    driver.say(action="subscribe", stream="user/42", after=0, log="log-1")
    driver.reply()
    assert seqs(driver.append("user/42", "next"), "user/42")[-1] == len(driver.log.streams["user/42"])


def test_the_note_of_these_tests_is_a_real_command() -> None:
    driver = logged_in()
    driver.say(action="note", id="c1", text="x")
    assert driver.executing[0].call.params == Note("x")
