"""PROTOCOL 8, the document dialect: the same messages, one for each event, and no window."""

from huahuo.transport.protocol.codes import CloseCode
from huahuo.transport.protocol.dialects import DOCUMENT, V1, negotiate
from tests.support.drivers.session import Driver, ModelLog, seqs, types


def classic(log: ModelLog | None = None, **fields: object) -> Driver:
    driver = Driver(log, dialect=DOCUMENT)
    driver.login(**fields)  # type: ignore[arg-type]
    driver.take()
    return driver


def test_each_event_is_a_message_of_its_own_with_stream_and_seq() -> None:
    assert classic().append("user/42", "a", "b") == [
        {"type": "noted", "text": "a", "timestamp": "2026-11-24T10:00:00Z", "stream": "user/42", "seq": 1},
        {"type": "noted", "text": "b", "timestamp": "2026-11-24T10:00:00Z", "stream": "user/42", "seq": 2},
    ]


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


def test_resume_and_live_work_as_for_everybody() -> None:
    log = ModelLog()
    for _ in range(3):
        log.append("user/42")
    driver = Driver(log, dialect=DOCUMENT)
    assert (
        driver.login(resume={"log": "log-1", "cursors": {"user/42": 1}})["streams"]["user/42"]["outcome"]
        == "resumed"
    )
    sent = driver.take()
    assert seqs(sent, "user/42") == [2, 3]
    assert {"type": "live", "stream": "user/42", "seq": 3} in sent


def test_acks_are_accepted_and_remembered() -> None:
    driver = classic()
    driver.append("user/42", "a", "b")
    assert driver.ack(user_42=2) == []
    assert driver.acked == {"user/42": 2}
    assert driver.ack(user_42=3)[0]["code"] == "bad_ack"


def test_a_heartbeat_is_said_every_thirty_seconds() -> None:
    driver = classic()
    assert driver.after(29) == []
    assert driver.after(1) == [{"type": "heartbeat", "timestamp": "2026-09-21T14:13:50Z"}]
    assert driver.pings == 1


def test_a_client_that_is_silent_for_ninety_seconds_is_closed_with_1001() -> None:
    driver = classic()
    for _ in range(3):
        assert "goaway" not in types(driver.after(30, heard=False))
    assert driver.after(1, heard=False)[-1]["code"] == CloseCode.GOING_AWAY
    assert driver.closed is not None
    assert driver.closed.code is CloseCode.GOING_AWAY


def test_a_drain_is_a_restart() -> None:
    driver = classic()
    driver.carry_out(driver.session.close(CloseCode.DRAINING, "bye"))
    assert driver.take()[0]["code"] == CloseCode.RESTART


def test_the_offer_decides_the_dialect() -> None:
    assert negotiate([], compression=False).dialect is DOCUMENT
    assert negotiate(["chat"], compression=False).dialect is DOCUMENT
    assert negotiate(["huahuo.v9", "huahuo.v1"], compression=False).dialect is V1
    assert negotiate(["huahuo.v1"], compression=False).subprotocol == "huahuo.v1"


def test_a_version_that_is_not_spoken_is_echoed_without_a_dialect() -> None:
    chosen = negotiate(["chat", "huahuo.v9"], compression=False)
    assert (chosen.subprotocol, chosen.dialect) == ("huahuo.v9", None)
