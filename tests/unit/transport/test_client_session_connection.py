"""The client's connection: how it authenticates, gives up and reconnects (PROTOCOL 3, 10)."""

import pytest

from huahuo.transport.client.model import (
    Goaway,
    Offline,
    Online,
    Problem,
    ProtocolViolation,
    Stopped,
    TokenExpiring,
)
from huahuo.transport.client.retry import Retry
from huahuo.transport.protocol.codes import CLOSES, CloseFact, Rule
from tests.support.drivers.client_session import STREAM, Bench


def _closed_with(close_code: int | None, **goaway: object) -> Bench:
    bench = Bench().follow("start").online()
    if goaway:
        bench.tell("goaway", reason="because", **goaway)
    bench.session.closed(close_code, "", bench.now)
    return bench


def test_authenticate_says_who_how_much_and_from_where() -> None:
    assert Bench(window=8).connect() == {
        "action": "authenticate",
        "token": "jwt",
        "client": "dev-1",
        "window": 8,
        "parts": True,
        "resume": {"log": None, "cursors": {}},
    }


def test_the_window_is_what_the_server_grants() -> None:
    bench = Bench(window=9000)
    bench.connect()
    bench.accept(window=4096)
    assert bench.session.window == 4096


@pytest.mark.parametrize("fact", CLOSES.values(), ids=lambda fact: fact.code.name)
def test_each_close_code_has_the_consequence_of_the_table(fact: CloseFact) -> None:
    bench = _closed_with(fact.code.value)
    assert bool(bench.happened(Stopped)) is (fact.rule is Rule.STOP)
    assert bool(bench.happened(Offline)) is (fact.rule is not Rule.STOP)
    assert bench.session.needs_token is (fact.rule is Rule.NEW_TOKEN)


def test_a_goaway_counts_even_if_the_close_that_followed_was_lost() -> None:
    bench = _closed_with(None, code=4009)
    [stopped] = bench.happened(Stopped)
    assert stopped.error.code == 4009
    assert bench.happened(Goaway) == [Goaway(4009, "because")]


def test_the_first_attempt_keeps_to_the_span_that_the_server_asks_for() -> None:
    bench = _closed_with(4013, code=4013, retry_s=[2, 10])
    assert bench.happened(Offline)[0].retry_s == 6


def test_too_many_connections_means_half_a_minute_at_least() -> None:
    bench = Bench().follow("start").online()
    bench.chance = 0.0
    bench.session.closed(4504, "", bench.now)
    assert bench.happened(Offline)[0].retry_s >= 30


def test_a_refused_token_counts_even_if_the_close_was_lost() -> None:
    bench = Bench()
    bench.connect()
    bench.tell("authentication_result", success=False, code="token_revoked", message="revoked")
    bench.session.closed(None, "", bench.now)
    [stopped] = bench.happened(Stopped)
    assert stopped.error.code == 4503
    assert "token_revoked" in stopped.error.reason


def test_without_a_source_of_tokens_an_expired_one_is_the_end() -> None:
    verdict = Retry(lambda: 0.5, renewable=False).closed(4003, 0, None, "")
    assert verdict.stop


def test_the_back_off_doubles_up_to_its_bound_with_full_jitter() -> None:
    retry = Retry(lambda: 0.999_999, first_s=0.5, max_s=20)
    delays = [retry.closed(None, float(n), None, "").delay_s for n in range(8)]
    assert delays == pytest.approx([0.5, 1, 2, 4, 8, 16, 20, 20], rel=1e-3)
    assert Retry(lambda: 0.0).closed(None, 0, None, "").delay_s == 0


def test_a_connection_that_lasted_starts_the_back_off_anew() -> None:
    retry = Retry(lambda: 0.999_999)
    for _ in range(5):
        retry.closed(None, 0, None, "")
    retry.online(10)
    assert retry.closed(None, 16, None, "").delay_s <= 0.5


def test_a_connection_that_did_not_last_does_not() -> None:
    retry = Retry(lambda: 0.999_999)
    for _ in range(5):
        retry.closed(None, 0, None, "")
    retry.online(10)
    assert retry.closed(None, 11, None, "").delay_s > 10


def test_silence_is_answered_by_a_heartbeat_and_that_by_giving_up() -> None:
    bench = Bench()
    bench.connect()
    bench.accept(heartbeat_s=30)
    bench.said()
    bench.wait(16)
    assert bench.said() == [{"action": "heartbeat"}]
    assert not bench.session.dead
    bench.wait(10)
    assert bench.session.dead


def test_any_message_shows_that_the_server_is_there() -> None:
    bench = Bench().follow("start").online()
    bench.wait(16)
    bench.events(1, 1)
    bench.wait(10)
    assert not bench.session.dead


def test_a_server_that_does_not_answer_the_authentication_is_given_up() -> None:
    bench = Bench()
    bench.connect()
    bench.wait(20)
    assert bench.session.dead


def test_a_goaway_without_its_close_is_given_up() -> None:
    bench = Bench().follow("start").online()
    bench.tell("goaway", code=4000, reason="draining")
    bench.events(1, 1)
    bench.wait(10)
    assert bench.session.dead


def test_a_new_token_is_presented_in_place_and_changes_no_position() -> None:
    bench = Bench().follow("start").online()
    bench.events(1, 2)
    bench.tell("token_expiring", in_s=60)
    assert bench.happened(TokenExpiring) == [TokenExpiring(60)]
    bench.session.authenticate_again("jwt-2")
    assert {"action": "authenticate", "token": "jwt-2"} in bench.said()
    bench.accept(streams={STREAM: {"outcome": "resumed", "after": 2}})
    bench.events(3, 3)
    assert bench.take() == [1, 2, 3]
    assert len(bench.happened(Online)) == 1


def test_a_heartbeat_of_the_server_is_answered() -> None:
    bench = Bench().follow("start").online()
    bench.tell("heartbeat", timestamp="t")
    assert {"action": "heartbeat_response"} in bench.said()


def test_a_message_of_an_unknown_type_is_passed_over() -> None:
    bench = Bench().follow("start").online()
    bench.tell("invented_later", stream=STREAM, seq=1)
    bench.events(1, 1)
    assert bench.take() == [1]


@pytest.mark.parametrize(
    "raw", ["", "[]", "{", '{"type":"events","stream":1}', b"\xff\xfe", '{"type":"x","a":' + "[" * 200_000]
)
def test_a_message_that_cannot_be_read_breaks_the_protocol(raw: str | bytes) -> None:
    bench = Bench().follow("start").online()
    with pytest.raises(ProtocolViolation):
        bench.session.received(raw, bench.now)


def test_an_error_that_belongs_to_no_command_is_told() -> None:
    bench = Bench().follow("start").online()
    bench.tell("error", code="bad_ack", message="beyond")
    assert bench.happened(Problem) == [Problem("bad_ack", "beyond")]


def test_once_stopped_nothing_starts_it_again() -> None:
    bench = _closed_with(4503)
    bench.session.closed(None, "", bench.now)
    assert bench.session.phase == "stopped"
    assert len(bench.happened(Stopped)) == 1
    assert bench.happened(Offline) == []
