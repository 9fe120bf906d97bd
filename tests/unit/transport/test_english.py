"""Refusals in English, as exceptions and HTTP show them."""

from huahuo.transport.protocol.codes import SENTENCES, ErrorCode
from huahuo.transport.protocol.problem import of_service, translated


def test_a_field_keeps_its_name() -> None:
    assert translated("字段无效：port") == "a field is not valid: port"


def test_a_text_of_an_application_stays_as_it_is() -> None:
    assert translated("数量不足") == "数量不足"


def test_a_text_of_a_plug_in_becomes_what_its_code_means() -> None:
    assert of_service("not_found", "邮箱不存在") == SENTENCES[ErrorCode.NOT_FOUND]
    assert of_service("out_of_stock", "数量不足") == "数量不足"
