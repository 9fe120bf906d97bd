"""Texts for clients stand in catalogues, one for each language, and nowhere else."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

from huahuo import en as huahuo_en
from huahuo import zh as huahuo_zh
from huahuo.actors.plugins import en as entities_en
from huahuo.actors.plugins import zh as entities_zh
from huahuo.actors.plugins.words import LANGUAGES, Words, language_of, texts_of
from huahuo.mailcheck import en as mail_en
from huahuo.mailcheck import zh as mail_zh
from huahuo.mailcheck.classic import classic_zh
from huahuo.mailcheck.records import ImportResult, LineFailure
from huahuo.transport.words import en, http_en, http_zh, zh

ROOT = Path(__file__).resolve().parents[2]
CATALOGUES = [
    (zh, en),
    (http_zh, http_en),
    (huahuo_zh, huahuo_en),
    (mail_zh, mail_en),
    (entities_zh, entities_en),
]
EXPLAINING = {"invalid_field": 1, "_invalid": 0, "Refusal": 2, "Invalid": 2, "close": 1, "_close": 1}
"""Calls that are given details or a reason, and which of their arguments that is."""
IDENTIFIER = re.compile(r"[a-z_]+( or [a-z_]+)?")
"""What details may be besides a text: a name of fields, or a unit."""
CHINESE = re.compile(r"[\u4e00-\u9fff]")
NOT_FOR_CLIENTS = (
    *("huahuo/demo/demo.py", "huahuo/__init__.py", "huahuo/pages/"),
    *(
        "mailcheck/codes/",
        "mailcheck/servers/imap_grammar.py",
        "mailcheck/plugin/samples.py",
        "eventstore/fulltext/",
    ),
    *("mailcheck/servers/faults.py"),
)
"""Sample mails, our own name, tables that have both languages, and words that are looked for or explained."""
SAYING = {
    "error": 1, "Invalid": 1, "Refusal": 1, "problem": 1, "Wrong": 1, "AskedWrongly": 0, "respond": 1,
    "_refusal": 1, "HttpRefused": 1,
}  # fmt: skip
"""Calls that are given a text for clients, and which of their arguments that is."""


def modules() -> Iterator[Path]:
    for floor in ("transport", "huahuo", "actors", "replay", "eventstore", "mailcheck"):
        for path in (ROOT / floor).rglob("*.py"):
            if not any(parent.is_symlink() for parent in path.parents):
                yield path


def is_exempt(path: Path) -> bool:
    return path.relative_to(ROOT).as_posix().startswith(NOT_FOR_CLIENTS)


def test_chinese_stands_in_catalogues_alone() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in modules()
        if path.name not in {"zh.py", "http_zh.py", "classic_zh.py"} and not is_exempt(path)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if CHINESE.search(line)
    ]
    assert found == []


def test_what_the_transport_says_in_an_error_is_of_its_catalogue() -> None:
    found = []
    for path in modules():
        name = path.relative_to(ROOT).as_posix()
        if not name.startswith(
            ("transport/", "huahuo/admin/", "huahuo/users/", "mailcheck/", "actors/plugins/")
        ):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            at = SAYING.get(_called(node)) if isinstance(node, ast.Call) else None
            if isinstance(node, ast.Call) and at is not None and len(node.args) > at:
                text = node.args[at]
                if isinstance(text, ast.Constant | ast.JoinedStr):
                    found.append(f"{name}:{node.lineno}")
    assert found == []


def test_details_and_reasons_are_of_a_catalogue() -> None:
    found = []
    for path in modules():
        name = path.relative_to(ROOT).as_posix()
        if not name.startswith(("transport/", "mailcheck/api/", "huahuo/app/cluster_actions")):
            continue
        if name.startswith("transport/client/"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            at = EXPLAINING.get(_called(node)) if isinstance(node, ast.Call) else None
            if isinstance(node, ast.Call) and at is not None and len(node.args) > at:
                found += [f"{name}:{node.lineno}: {text}" for text in _texts(node.args[at])]
    assert [text for text in found if not IDENTIFIER.fullmatch(text.partition(": ")[2].strip())] == []


def _texts(node: ast.expr) -> list[str]:
    """What is written out in an expression, without the names of fields before a colon."""
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    said = [part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)]
    return [text for text in said if not re.fullmatch(r"(\w+|)\[?(: )?|\]: ", text)]


def test_details_come_in_the_language_of_the_client_and_names_stay() -> None:
    words = Words()
    words.add(zh, en)
    of_worker = Words.of(words.catalogue())
    for said in (words, of_worker):
        assert said.explain(en.MISSING, "zh") == zh.MISSING
        assert said.explain(f"text: {en.MISSING}", "zh") == f"text: {zh.MISSING}"
        assert said.explain("stream: Expected `str`, got `int`", "zh") == "stream: 应为 `str`，实为 `int`"
        assert said.explain("n: Expected `int` >= 1", "zh") == "n: 应为 `int` >= 1"
        assert said.explain("0f3a99", "zh") == "0f3a99", "what is no text of the catalogue stays"
        assert said.explain(f"text: {en.MISSING}", "en") == f"text: {en.MISSING}"
        body = msgspec.json.encode({"type": "error", "code": "x", "message": zh.BUSY, "details": en.MISSING})
        assert said.reply(body, "zh") is body, "a client that asks for no language sees no difference"
        assert msgspec.json.decode(said.reply(body, "zh", "zh"))["details"] == zh.MISSING
        told = msgspec.json.decode(said.reply(body, "en", "en"))
        assert (told["message"], told["details"]) == (en.BUSY, en.MISSING)


def test_what_an_application_says_in_english_stays_though_a_text_of_the_service_is_like_it() -> None:
    words = Words()
    words.add(zh, en)
    words.add(entities_zh, entities_en)
    text = entities_en.NO_SUCH.format("coupon: try another")
    own = msgspec.json.encode({"type": "error", "code": "no_coupon", "message": text})
    assert words.reply(own, "zh", "zh") is own
    entity = msgspec.json.encode({"type": "error", "code": "not_found", "message": text})
    assert entities_zh.NO_SUCH.format("coupon") in words.reply(entity, "zh", "zh").decode()


def _called(node: ast.Call) -> str:
    called = node.func
    if isinstance(called, ast.Attribute):
        return "" if ast.unparse(called.value).endswith("log") else called.attr
    return called.id if isinstance(called, ast.Name) else ""


@pytest.mark.parametrize("catalogue", CATALOGUES, ids=lambda pair: pair[0].__name__)
def test_a_catalogue_has_the_same_texts_in_each_language(catalogue: tuple[ModuleType, ModuleType]) -> None:
    Words().add(*catalogue)
    chinese, english = map(texts_of, catalogue)
    assert [name for name, text in english.items() if CHINESE.search(text)] == []
    assert [name for name, text in chinese.items() if not CHINESE.search(text)] == []


def test_english_texts_are_right_for_one_thing_too() -> None:
    counted = re.compile(r"(?<!at most )\{\} (?:new )?(?:mailboxes|mails|checks|lines)\b")
    assert [name for name, text in texts_of(mail_en).items() if counted.search(text)] == []


def test_a_text_that_is_missing_in_a_language_is_an_error_at_the_start() -> None:
    one, other = ModuleType("zh"), ModuleType("en")
    one.__dict__.update(HELLO="你好", NAMED="你好 {}")
    other.__dict__.update(HELLO="hello")
    with pytest.raises(ValueError, match="NAMED"):
        Words().add(one, other)
    other.__dict__.update(NAMED="hello")
    with pytest.raises(ValueError, match="same number"):
        Words().add(one, other)


def test_what_is_put_into_a_text_is_put_into_its_translation() -> None:
    words = Words()
    words.add(zh, en)
    assert words.say(zh.TOO_DEEP.format(32), "en") == "the message is nested deeper than 32 levels"
    assert words.say(zh.TOO_DEEP.format(32), "zh") == zh.TOO_DEEP.format(32)
    assert words.say("别的文字", "en") == "别的文字", "an application's own text stays"


def test_the_reasons_of_an_import_are_said_in_the_reader_s_language() -> None:
    words = Words()
    words.add(mail_zh, mail_en)
    of_worker = Words.of(words.catalogue())
    failures = [LineFailure(2, mail_zh.FOUR_FIELDS.format(2)), LineFailure(3, mail_zh.TAG_CHARS.format(9))]
    body = msgspec.json.encode(ImportResult(3, 1, 2, failures))
    for said in (words, of_worker):
        told = msgspec.json.decode(said.reply(body, "en"), type=ImportResult)
        assert [one.reason for one in told.failed_details] == [
            mail_en.FOUR_FIELDS.format(2), "a tag has 1 to 9 characters"
        ]  # fmt: skip
        assert said.reply(body, "zh") is body


@pytest.mark.parametrize(
    ("preferred", "language"),
    [
        ([], "zh"), (["en"], "en"), (["en-GB,en;q=0.9"], "en"), (["fr, zh-Hans;q=0.5, en;q=0.4"], "zh"),
        (["zh;q=0.1", "en;q=0.2"], "en"), (["en;q=0"], "zh"), (["*"], "zh"), (["en;q=x"], "zh"),
        (["EN"], "en"),
    ],
)  # fmt: skip
def test_a_request_prefers_a_language(preferred: list[str], language: str) -> None:
    assert language_of(preferred, "zh") == language
    assert language in LANGUAGES


@pytest.mark.parametrize("said", [mail_zh, mail_en, classic_zh], ids=lambda said: said.__name__)
def test_each_text_that_mail_names_is_in_its_file(said: ModuleType) -> None:
    name = said.__name__.rpartition(".")[2]
    source = "\n".join(path.read_text("utf-8") for path in (ROOT / "mailcheck").rglob("*.py"))
    named = set(re.findall(rf"\b{name}\.([A-Z][A-Z_]+)\b", source))
    assert named
    assert named - texts_of(said).keys() - {"LISTED"} == set()
