"""What comes when a session has ended, or no longer wants it, changes nothing."""

from collections.abc import Sequence

import msgspec
import pytest

from huahuo.actors.plugins.calls import Reply
from huahuo.transport.access.rights import NOT_NOW, AuthFailure, Verified
from huahuo.transport.protocol.codes import CloseCode
from huahuo.transport.protocol.dialects import V1, V1_ZSTD
from huahuo.transport.protocol.flow_control import TransportSettings
from huahuo.transport.session.delivery_states import Subscription, Wanted
from huahuo.transport.session.interface import Execute, Now, Output, Verify
from huahuo.transport.session.session import Session, State
from tests.support.drivers.session import PEOPLE, Driver, ModelLog, note_command
from tests.support.worlds.compressed import compression

ORDER = "order/1"


class Slow(Driver):
    """A driver whose tokens are judged when the test says so."""

    def carry_out(self, outputs: Sequence[Output]) -> None:
        super().carry_out([one for one in outputs if not isinstance(one, Verify)])


def test_while_a_token_is_judged_the_client_that_wants_to_join_is_known() -> None:
    driver = Slow()
    assert (driver.session.state, driver.session.joining) == (State.CONNECTED, None)
    driver.say(action="authenticate", token="alice", client="dev-7")
    assert (driver.session.state, driver.session.joining) == (State.VERIFYING, "dev-7")


def test_only_a_token_of_the_same_user_may_replace_the_first() -> None:
    driver = Slow()
    alice, bob = (Verified(PEOPLE[name], driver.now.ms + 60_000) for name in ("alice", "bob"))
    driver.say(action="authenticate", token="alice")
    assert not driver.session.may_refresh(alice)
    driver.carry_out(driver.session.verdict(alice, driver.now))
    driver.say(action="authenticate", token="another")
    assert driver.session.may_refresh(alice)
    assert not driver.session.may_refresh(bob)


def test_where_nobody_can_judge_a_first_token_the_client_comes_back_later() -> None:
    driver = Slow()
    driver.say(action="authenticate", token="alice")
    driver.carry_out(driver.session.verdict(AuthFailure(NOT_NOW), driver.now))
    assert driver.closed is not None
    assert driver.closed.code == CloseCode.SERVER_FAULT


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


def test_a_stream_that_nobody_reads_is_not_held() -> None:
    driver = Driver(verdicts={ORDER: True})
    driver.login()
    assert not driver.session.hold(ORDER)


def test_a_snapshot_that_comes_for_a_subscription_that_ended_is_dropped() -> None:
    driver = Driver(verdicts={ORDER: True})
    driver.hold_snapshots = True
    driver.login()
    driver.append(ORDER, "a")
    driver.say(action="subscribe", id="s", stream=ORDER, after="snapshot")
    [due] = driver.snapshots_due
    driver.say(action="unsubscribe", id="u", stream=ORDER)
    assert not driver.session.awaits(due.sub)
    assert driver.session.refuse_snapshot(due.sub, "busy", 1.0) == []
    assert driver.session.corrupt(due.sub) == []


@pytest.mark.parametrize(("reason", "retry_s"), [("busy", 2.0), ("internal", None)])
def test_a_snapshot_that_cannot_be_had_ends_its_subscription_alone(
    reason: str, retry_s: float | None
) -> None:
    driver = Driver(verdicts={ORDER: True})
    driver.hold_snapshots = True
    driver.login()
    driver.append(ORDER, "a")
    driver.say(action="subscribe", id="s", stream=ORDER, after="snapshot")
    [due] = driver.snapshots_due
    driver.carry_out(driver.session.refuse_snapshot(due.sub, reason, retry_s))
    [said] = driver.take()
    assert (said["type"], said["stream"], said["reason"], said.get("retry_s")) == (
        "unsubscribed", ORDER, reason, retry_s,
    )  # fmt: skip
    assert driver.append("user/42", "goes on") != []


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


def test_a_session_says_until_when_it_is_quiet() -> None:
    driver = Driver()
    assert driver.session.quiet_until_s(driver.now) > driver.now.s
    driver.login()
    driver.take()
    early_s = driver.session.quiet_until_s(driver.now)
    assert driver.after(early_s - driver.now.s - 0.01) == []


def test_an_idle_session_is_quiet_until_its_next_ping() -> None:
    driver = Driver()
    driver.login()
    driver.take()
    driver.after(1)
    assert driver.session.quiet_until_s(driver.now) == pytest.approx(
        driver.now.s - 1 + TransportSettings().heartbeat_s
    )


def test_a_client_that_was_silent_while_the_process_slept_gets_a_ping_and_time_to_answer_it() -> None:
    driver = Driver()
    driver.login()
    driver.take()
    asleep_s = 3600.0
    driver.ttl_s = 2 * asleep_s
    driver.say(action="authenticate", token="alice")
    woken = Now(driver.now.s + asleep_s, driver.now.ms + round(asleep_s * 1000))
    driver.now = woken
    driver.carry_out(driver.session.wake_up(woken))
    assert (driver.closed, driver.pings) == (None, 1)
    heartbeat_s = TransportSettings().heartbeat_s
    closes = []
    for passes_s in (heartbeat_s - 0.1, 0.2):
        driver.after(passes_s, heard=False)
        closes.append(driver.closed)
    assert closes[0] is None
    assert closes[1] is not None
    assert closes[1].code == CloseCode.SILENT


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
