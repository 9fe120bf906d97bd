"""Exceptions and commands tell a refusal in English, whatever language the service speaks to its users."""

import pytest

from huahuo.transport.client.model import CommandError
from huahuo.transport.protocol.codes import SENTENCES, ErrorCode, in_english


def test_every_code_of_the_protocol_has_a_sentence() -> None:
    assert SENTENCES.keys() == set(ErrorCode)


@pytest.mark.parametrize("code", ErrorCode)
def test_the_services_own_text_is_not_shown(code: str) -> None:
    assert in_english(code, "操作失败").isascii()


def test_the_python_clients_exception_is_in_english_and_keeps_the_services_text() -> None:
    error = CommandError("busy", "服务繁忙", "", 1.0)
    assert str(error).isascii()
    assert error.message == "服务繁忙"


def test_details_say_which_field() -> None:
    assert in_english("invalid_field", "字段无效", "email") == "invalid_field: a field is not valid (email)"


@pytest.mark.parametrize(
    ("code", "message", "told"),
    [
        ("sold_out", "only 3 are left", "sold_out: only 3 are left"),
        ("not_found", "no order 7", "not_found: no order 7"),
        ("sold_out", "售罄", "sold_out: 售罄"),
        ("sold_out", "", "sold_out"),
    ],
)
def test_an_applications_message_is_shown(code: str, message: str, told: str) -> None:
    assert in_english(code, message) == told
