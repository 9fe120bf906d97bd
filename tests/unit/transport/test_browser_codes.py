"""The browser client's copy of the close and error codes equals the server's table."""

import json
import re
from pathlib import Path

from huahuo.transport.protocol.codes import table_json

SOURCE = Path(__file__).parents[3] / "web" / "client" / "src" / "model" / "codes.ts"
RULES = {"R": "reconnect", "S": "stop"}


def _between(start: str, end: str) -> str:
    text = SOURCE.read_text(encoding="utf-8")
    return text[text.index(start) :].partition(end)[0]


def _texts(block: str) -> list[str]:
    return re.findall(r'"(\w+)"', block)


def test_every_close_code_has_the_same_name_and_rule() -> None:
    rows = re.findall(r'\[(\d+), "(\w+)", (?:"(\w+)"|([RS]))\]', _between("export const CLOSES", "];"))
    copied = [(int(code), name, rule or RULES[short]) for code, name, rule, short in rows]
    table = json.loads(table_json())
    assert copied == [(close["code"], close["name"], close["rule"]) for close in table["closes"]]


def test_every_error_code_is_known_and_retried_alike() -> None:
    errors = json.loads(table_json())["errors"]
    assert _texts(_between("export const ERRORS", "]")) == [error["code"] for error in errors]
    assert set(_texts(_between("export const NOT_RECORDED", ");"))) == {
        error["code"] for error in errors if not error["recorded"]
    }


def test_a_refused_authentication_ends_with_the_same_close() -> None:
    rows = re.findall(r"(\w+): (\d+)", _between("export const AUTH_CLOSES", "};"))
    authentication = json.loads(table_json())["authentication"]
    assert rows == [(failure["code"], str(failure["close"])) for failure in authentication]
