"""The table of close and error codes equals that of the protocol."""

import json

import pytest

from huahuo.transport.protocol.codes import (
    AUTH_CLOSES,
    CLOSES,
    AuthCode,
    CloseCode,
    ErrorCode,
    Rule,
    recordable,
    rule_of,
    table_json,
)

RULES = {
    1000: "stop",
    1001: "reconnect",
    1002: "stop",
    1006: "reconnect",
    1007: "stop",
    1009: "stop",
    1011: "reconnect",
    1012: "reconnect",
    1013: "reconnect",
    4000: "reconnect",
    4003: "new_token",
    4008: "reconnect",
    4009: "stop",
    4012: "reconnect",
    4013: "reconnect",
    4408: "reconnect",
    4500: "stop",
    4503: "stop",
    4504: "reconnect_slowly",
    4506: "stop",
    4507: "stop",
}


def test_every_close_code_of_the_protocol_has_the_clients_rule_of_the_protocol() -> None:
    assert {int(code): fact.rule.value for code, fact in CLOSES.items()} == RULES


def test_every_close_code_says_when_it_is_issued() -> None:
    assert set(CLOSES) == set(CloseCode)
    assert all(fact.when.endswith(".") for fact in CLOSES.values())


def test_a_span_to_wait_is_given_exactly_where_coming_back_is_the_answer() -> None:
    for fact in CLOSES.values():
        back = fact.rule in {Rule.RECONNECT, Rule.RECONNECT_SLOWLY}
        assert (fact.retry_s is not None) == back, fact


def test_too_many_connections_is_not_retried_before_thirty_seconds() -> None:
    assert CLOSES[CloseCode.TOO_MANY_CONNECTIONS].retry_s == (30.0, 60.0)


@pytest.mark.parametrize(
    ("code", "rule"), [(4599, Rule.STOP), (4099, Rule.RECONNECT), (1015, Rule.RECONNECT)]
)
def test_a_code_of_a_newer_server_is_judged_by_its_range(code: int, rule: Rule) -> None:
    assert rule_of(code) is rule


def test_a_known_code_is_judged_by_the_table() -> None:
    assert rule_of(4504) is Rule.RECONNECT_SLOWLY


def test_exactly_the_passing_errors_are_not_recorded() -> None:
    passing = {code.value for code in ErrorCode if not recordable(code)}
    assert passing == {
        *("unavailable", "busy", "rate_limited", "corrupt", "internal", "unauthenticated"),
        *("storage_full", "quota_exceeded"),
    }


def test_a_failed_authentication_has_a_close_code() -> None:
    assert set(AUTH_CLOSES) == set(AuthCode)
    assert AUTH_CLOSES[AuthCode.TOKEN_EXPIRED] == 4003
    assert AUTH_CLOSES[AuthCode.TOKEN_INVALID] == 4500
    assert AUTH_CLOSES[AuthCode.TOKEN_REVOKED] == 4503


def test_the_table_as_json_holds_every_code_once() -> None:
    table = json.loads(table_json())
    assert {row["code"]: row["rule"] for row in table["closes"]} == RULES
    assert [row["code"] for row in table["errors"]] == [code.value for code in ErrorCode]
