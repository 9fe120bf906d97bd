"""Where a subscription begins: checks, nodes that are behind, rights that are judged."""

import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from huahuo.actors.plugins.calls import Reply
from huahuo.transport.access.rights import NOT_NOW, AuthFailure, Verified
from huahuo.transport.protocol.codes import CloseCode
from huahuo.transport.protocol.dialects import V1, V1_ZSTD
from huahuo.transport.protocol.flow_control import TransportSettings
from huahuo.transport.session.delivery_states import Subscription, Wanted
from huahuo.transport.session.interface import Execute, Now, Output, Verify
from huahuo.transport.session.session import Session, State
from tests.support.drivers.session import PEOPLE, Driver, Message, ModelLog, note_command, types
from tests.support.worlds.compressed import compression

OWN = "user/42"


def linked(count: int, stream: str = OWN, *, history: int = 1, log: ModelLog | None = None) -> ModelLog:
    """A log whose event n of `stream` has the link `history`, n, n, … ."""
    log = log or ModelLog()
    for n in range(1, count + 1):
        log.append_body(stream, {"type": "noted"}, link=bytes([history]) + bytes([n]) * 31)
    return log


def check(seq: int, history: int = 1) -> str:
    return f"{history:02x}" + f"{seq:02x}" * 7


class Returned(Driver):
    """A client that comes back with a cursor and a check of one stream."""

    def __init__(self, log: ModelLog, cursor: int, seq: int, check: str, *, stream: str = OWN) -> None:
        super().__init__(log)
        resume = {"log": "log-1", "cursors": {stream: cursor}, "checks": {stream: [seq, check]}}
        self.outcome = self.login(resume=resume)["streams"][stream]["outcome"]


def test_no_message_is_handed_in_while_links_are_looked_up() -> None:
    driver = Driver(linked(5))
    session = driver.session
    resume = {"log": "log-1", "cursors": {OWN: 4}, "checks": {OWN: [3, check(3)]}}
    session.received(_json(action="authenticate", token="alice", resume=resume), driver.now)
    session.verdict(driver.verify("alice"), driver.now)
    assert session.busy
    session.looked_up({}, driver.now)
    assert not session.busy


def test_what_is_looked_up_for_one_connection_is_bounded_by_its_subscriptions() -> None:
    log = ModelLog()
    names = [f"group/ops{n}" for n in range(9)]
    for name in names:
        linked(3, name, log=log)
    driver = Driver(log, settings=TransportSettings(subscriptions_max=4))
    checks = {name: [1, check(1)] for name in names}
    driver.login("root", resume={"log": "log-1", "cursors": dict.fromkeys(names, 2), "checks": checks})
    assert len(driver.lookups) <= 4


@given(
    count=st.integers(1, 6),
    pruned=st.integers(0, 5),
    cursor=st.integers(0, 7),
    seq=st.integers(0, 7),
    other=st.booleans(),
    forgetful=st.booleans(),
)
def test_only_what_the_log_contradicts_is_a_reset(
    count: int, pruned: int, cursor: int, seq: int, other: bool, forgetful: bool
) -> None:
    log = linked(count)
    log.prune(OWN, min(pruned, count - 1))
    log.forgetful = forgetful
    driver = Returned(log, cursor, seq, check(seq, history=2 if other else 1))
    first = log.head(OWN).first
    contradicted = seq > count or (other and first <= seq <= count and seq > 0)
    if cursor > count or contradicted:
        assert driver.outcome == "reset"
        assert len(driver.alarms) == 1
    else:
        assert driver.outcome == ("gap" if cursor < first - 1 else "resumed")
        assert driver.alarms == []


def _json(**message: Any) -> bytes:
    return json.dumps(message).encode()


RESUME = {"log": "log-1", "cursors": {OWN: 3}}


def grow(log: ModelLog, count: int) -> None:
    for _ in range(count):
        log.append_body(OWN, {"type": "noted"})


def test_a_client_ahead_of_this_node_resumes_once_the_node_has_caught_up() -> None:
    log = ModelLog()
    grow(log, 1)

    def catch_up() -> bool:
        grow(log, 2)
        return True

    driver = Driver(log, catch_up=catch_up)
    assert driver.login(resume=RESUME)["streams"][OWN]["outcome"] == "resumed"


def test_a_client_ahead_of_the_log_itself_is_reset() -> None:
    log = ModelLog()
    grow(log, 1)
    driver = Driver(log, catch_up=lambda: True)
    assert driver.login(resume=RESUME)["streams"][OWN]["outcome"] == "reset"


def test_a_client_is_sent_elsewhere_if_the_node_cannot_find_out() -> None:
    log = ModelLog()
    grow(log, 1)
    driver = Driver(log, catch_up=lambda: False)
    driver.say(action="authenticate", token="alice", resume=RESUME)
    assert driver.closed is not None
    assert driver.closed.code == CloseCode.DRAINING
    assert "reset" not in str(driver.take())


def test_the_same_holds_for_a_subscribe() -> None:
    log = ModelLog()
    grow(log, 1)
    driver = Driver(log, catch_up=lambda: False)
    driver.login()
    driver.say(action="subscribe", stream="group/ops", after=9, log="log-1")
    assert driver.closed is not None
    assert driver.closed.code == CloseCode.DRAINING


ORDER = "order/1"


class Slow(Driver):
    """A driver whose tokens are judged when the test says so."""

    def carry_out(self, outputs: Sequence[Output]) -> None:
        super().carry_out([one for one in outputs if not isinstance(one, Verify)])


def test_where_nobody_can_judge_a_fresh_token_the_old_one_goes_on() -> None:
    driver = Slow()
    driver.say(action="authenticate", token="alice")
    driver.carry_out(driver.session.verdict(Verified(PEOPLE["alice"], driver.now.ms + 60_000), driver.now))
    driver.take()
    driver.say(action="authenticate", token="another", id="r")
    driver.carry_out(driver.session.verdict(AuthFailure(NOT_NOW), driver.now))
    [said] = driver.take()
    assert (said["code"], said["id"], driver.session.state) == ("unavailable", "r", State.OPEN)


def test_a_sign_in_without_a_token_is_refused_and_may_be_tried_again() -> None:
    driver = Driver()
    [said] = driver.say(action="authenticate", id="a")
    assert (said["type"], said["id"]) == ("error", "a")
    assert driver.login()["success"]


def ended() -> tuple[Driver, Session, Subscription]:
    driver = Driver(verdicts={ORDER: True})
    driver.login()
    driver.append(ORDER, "a")
    driver.say(action="subscribe", id="s", stream=ORDER, after="start")
    sub = driver.session.delivery.subs[ORDER]
    driver.carry_out(driver.session.close(CloseCode.DRAINING, "drain"))
    driver.take()
    return driver, driver.session, sub


def test_what_comes_after_the_end_of_a_session_changes_nothing() -> None:
    driver, session, sub = ended()
    now = driver.now
    assert session.closed
    assert session.verdict(AuthFailure(NOT_NOW), now) == []
    assert session.received(b'{"action":"heartbeat"}', now) == []
    assert session.tick(now) == session.wake_up(now) == []
    assert session.looked_up({}, now) == session.judged(ORDER, readable=False) == []
    assert session.acked(b'{"action":"ack","cursors":{"order/1":1}}', now.s) is None
    assert not session.hold(ORDER)
    assert session.next_read() is None
    assert session.stalled(now.s) is None
    assert session.snapshot(sub, 1, b"") == session.corrupt(sub) == session.refuse_snapshot(sub, "busy") == []


def test_damaged_data_ends_the_subscription_that_needs_it() -> None:
    driver = Driver(verdicts={ORDER: True})
    driver.login()
    driver.append(ORDER, "a")
    driver.say(action="subscribe", id="s", stream=ORDER, after="start")
    driver.carry_out(driver.session.corrupt(driver.session.delivery.subs[ORDER]))
    [said] = driver.take()
    assert (said["type"], said["reason"]) == ("unsubscribed", "corrupt")


def test_places_of_streams_that_were_left_are_remembered_up_to_a_bound() -> None:
    driver = Driver(settings=TransportSettings(subscriptions_max=3))
    driver.login("root")
    for number in range(5):
        stream = f"user/{number + 1}"
        driver.append(stream, "a")
        driver.say(action="subscribe", id=stream, stream=stream, after="start")
        driver.say(action="unsubscribe", id=stream, stream=stream)
    assert driver.ack(user_1=1) != [], "forgotten: this place was never sent"
    assert driver.ack(user_5=1) == []


@pytest.mark.parametrize("compressible", [True, False])
def test_a_long_reply_is_handed_to_another_thread_only_if_it_may_be_compressed(*, compressible: bool) -> None:
    spec = msgspec.structs.replace(note_command(), compressible=compressible)
    driver = Driver(commands=[spec], dialect=V1_ZSTD, compression=compression())
    driver.login()
    driver.say(action="note", id="n", text="x")
    [asked] = driver.executing
    assert isinstance(asked, Execute)
    replies, long = driver.session.replies, Reply(b'{"a":"' + b"x" * 40_000 + b'"}')
    assert (replies.long(asked, long) is not None) is compressible
    assert replies.long(asked, Reply(b'{"a":1}')) is None
    assert replies.long(asked, Reply(b'{"a":"' + b"x" * driver.settings.reply_bytes_max + b'"}')) is None


def test_a_stream_whose_verdict_is_late_and_that_named_no_log_begins_anew() -> None:
    driver = Driver(verdicts={ORDER: None})
    driver.login()
    driver.append(ORDER, "a", "b")
    [pending] = driver.say(action="subscribe", id="s", stream=ORDER, after=1)
    assert pending["outcome"] == "pending"
    begun = driver.verdict(ORDER, readable=True)
    assert begun[0]["outcome"] == "reset"


def test_a_snapshot_that_failed_is_not_wanted_again_if_a_newer_one_is() -> None:
    wanted = Wanted(lambda: 0.5)
    older, newer = Subscription("user/1", 0, 0), Subscription("user/1", 0, 0)
    wanted.want(older, 0)
    want = wanted.take(0)
    assert want is not None
    wanted.want(newer, 0)
    assert not wanted.failed(want, 0)
    left = wanted.take(0)
    assert left is not None
    assert left.sub is newer


def test_a_token_that_ended_while_the_process_slept_ends_the_connection() -> None:
    driver = Driver()
    driver.login("alice+60")
    driver.take()
    driver.now = Now(driver.now.s + 61, driver.now.ms + 61_000)
    driver.carry_out(driver.session.wake_up(driver.now))
    assert driver.closed is not None
    assert driver.closed.code == CloseCode.TOKEN_EXPIRED


def test_a_stream_whose_head_is_not_in_memory_is_looked_up_before_it_is_placed() -> None:
    log = ModelLog()
    log.append("group/ops")
    driver = Driver(log)
    driver.shared = msgspec.structs.replace(driver.shared, knows=lambda stream: stream != "group/ops")
    driver.session = Session("s-1", V1, driver.shared, driver.now)
    driver.login()
    driver.take()
    driver.lookups.clear()
    driver.say(action="subscribe", stream="group/ops", after=1, log="log-1", check=[1, "differs"])
    assert driver.lookups == [("group/ops", 0), ("group/ops", 1)]


def joined(verdict: bool | None) -> tuple[Driver, list[Message]]:
    """A client that subscribes an order of three events, and what it is answered."""
    driver = Driver(verdicts={ORDER: verdict})
    driver.login()
    driver.take()
    driver.append(ORDER, "a", "b", "c")
    return driver, driver.say(action="subscribe", id="s", stream=ORDER, after="start")


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
