"""Every refusal of the transport has an English text, which exceptions and HTTP show."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from huahuo.transport.commands import gate, publish_rules, published_events
from huahuo.transport.http import calling
from huahuo.transport.protocol import incoming
from huahuo.transport.protocol.codes import ErrorCode
from huahuo.transport.protocol.english import of_service, translated
from huahuo.transport.protocol.refusals import SENTENCES


def _texts(file: Path) -> Iterator[str]:
    inside = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr):
            inside |= {id(part) for part in node.values}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            yield node.value


@pytest.mark.parametrize("module", [gate, published_events, publish_rules, incoming, calling])
def test_each_refusal_that_an_exception_may_carry_is_in_the_table(module: object) -> None:
    texts = list(_texts(Path(str(getattr(module, "__file__", "")))))
    assert [text for text in texts if not translated(text).isascii() and "–" not in text] == []


def test_a_field_keeps_its_name() -> None:
    assert translated("字段无效：port") == "a field is not allowed: port"


def test_a_text_of_an_application_stays_as_it_is() -> None:
    assert translated("数量不足") == "数量不足"


def test_a_text_of_a_plug_in_becomes_what_its_code_means() -> None:
    assert of_service("not_found", "邮箱不存在") == SENTENCES[ErrorCode.NOT_FOUND]
    assert of_service("out_of_stock", "数量不足") == "数量不足"
