"""The page for where the console was not built: what can be promised about its files without a browser."""

import re
from pathlib import Path

import pytest

import huahuo
from transport.codes import AUTH_CLOSES, CLOSES, CloseFact, Rule

STATIC = Path(huahuo.__file__).parent / "fallback"
SCRIPTS = sorted(STATIC.glob("*.js"))
WORDS = re.compile(r"^const (en|zh) = \{(.*?)^\};", re.DOTALL | re.MULTILINE)
KEY = re.compile(r'(?:^|[{,]\s*)(\w+): "', re.MULTILINE)


def _source(name: str) -> str:
    return (STATIC / name).read_text(encoding="utf-8")


def _languages() -> dict[str, set[str]]:
    return {name: set(KEY.findall(body)) for name, body in WORDS.findall(_source("text.js"))}


def _stops(code: int) -> bool:
    """The page's own rule, read from its source."""
    source = _source("connection.js")
    [listed] = re.findall(r"STOP = new Set\(\[([\d, ]+)\]\)", source)
    [slowly] = re.findall(r"SLOWLY = (\d+)", source)
    assert "STOP.has(code) || (code >= 4500 && code !== SLOWLY)" in source
    return code in {int(one) for one in listed.split(",")} or (code >= 4500 and code != int(slowly))


@pytest.mark.parametrize("fact", CLOSES.values(), ids=lambda fact: fact.code.name)
def test_the_page_gives_up_where_the_table_says_so(fact: CloseFact) -> None:
    assert _stops(fact.code) is (fact.rule in {Rule.STOP, Rule.NEW_TOKEN})


def test_the_page_knows_what_each_failed_authentication_means() -> None:
    [listed] = re.findall(r"FAILURES = \{(.*?)\}", _source("connection.js"))
    known = {name: int(code) for name, code in re.findall(r"(\w+): (\d+)", listed)}
    assert known == {code.value: close.value for code, close in AUTH_CLOSES.items()}


def test_both_languages_have_the_same_words() -> None:
    languages = _languages()
    assert languages["en"] == languages["zh"]
    assert len(languages["en"]) > 50


def test_each_word_that_the_page_asks_for_exists() -> None:
    asked = set(re.findall(r'data-(?:text|label)="(\w+)"', _source("index.html")))
    for script in SCRIPTS:
        asked |= set(re.findall(r'\bt\("(\w+)"', script.read_text(encoding="utf-8")))
    assert asked <= _languages()["en"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_no_script_makes_markup_from_text(script: Path) -> None:
    for forbidden in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function("):
        assert forbidden not in script.read_text(encoding="utf-8")


def test_the_page_has_nothing_inline_that_its_policy_would_refuse() -> None:
    page = _source("index.html")
    assert not re.search(r"<script(?![^>]*\bsrc=)", page)
    assert not re.search(r"<style|\sstyle=|\son\w+=", page)


def test_each_element_that_a_script_names_is_in_the_page() -> None:
    ids = set(re.findall(r'\bid="([\w-]+)"', _source("index.html")))
    for script in SCRIPTS:
        assert set(re.findall(r'\$\("([\w-]+)"\)', script.read_text(encoding="utf-8"))) <= ids
