"""What the service says to its clients, in each language. Pure.

The code says each text in Chinese, as the first clients know it and as answers are recorded. For a client
with another language it is replaced where it leaves. A plug-in adds its own catalogue: one module of
constants for each language, with the same names. `{}` in a text stands for what is put in. `LISTED` of the
Chinese module names the replies that hold a list of texts: by type, the list and the field of each entry.

`details` of an error, the reason of a `goaway`, and what an application's entities say are in English, which
exceptions and logs have too. Clients that ask for Chinese get the Chinese text of the same name (`explain`).

Events have one text for all readers, since they are stored and sent as the same bytes. A reader that wants
them in another language uses the catalogue, as the console does.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from types import ModuleType
from typing import Any, Final, Literal, Self, get_args

import msgspec

type Language = Literal["en", "zh"]

type Catalogue = tuple[Mapping[str, str], Sequence[tuple[str, str]], Mapping[str, tuple[str, str]]]

LANGUAGES: Final = get_args(Language.__value__)
_NAME: Final = re.compile(r"[A-Z][A-Z0-9_]*")
_GAP: Final = "{}"
CHARS_MAX: Final = 1_024
"""A longer text is taken to be in no catalogue: the time to match a pattern grows with its square."""
_WORDED: Final = tuple(b'{"type":"%b"' % one for one in (b"success", b"error", b"warning", b"info"))
"""What replies with a text for people begin with."""
_OF_ENTITIES: Final = frozenset({"not_found", "too_large", "invalid_field"})
"""Codes with which entities refuse, in English. With any other, a message is of an application."""
_OF_FIELD: Final = re.compile(r"((?:[\w.\[\]]{1,64}: )?)(.*?)((?: - at `[^`]*`)?)", re.DOTALL)
"""Details about a field begin with its name and may end with its place. Neither is translated."""
_decode: Final = msgspec.json.decode
_encode: Final = msgspec.json.encode


class Words:
    """Several catalogues as one."""

    def __init__(self) -> None:
        self._exact: dict[str, str] = {}
        self._filled: list[tuple[str, str]] = []
        self._patterns: list[tuple[re.Pattern[str], str]] = []
        self._listed: dict[str, tuple[str, str]] = {}
        self._worded = _WORDED

    def add(self, zh: ModuleType, en: ModuleType) -> None:
        """Add a catalogue. Raises ValueError: a text is missing in one of the languages."""
        chinese, english = texts_of(zh), texts_of(en)
        if missing := sorted(chinese.keys() ^ english.keys()):
            raise ValueError(f"{zh.__name__} and {en.__name__} differ: {', '.join(missing)}")
        for name, text in chinese.items():
            if text.count(_GAP) != english[name].count(_GAP):
                raise ValueError(f"{zh.__name__}.{name}: each language must have the same number of {_GAP}")
            if _GAP in text:
                self._fill(text, english[name])
            else:
                self._exact[text] = english[name]
        self._list(getattr(zh, "LISTED", {}))

    def _fill(self, chinese: str, english: str) -> None:
        self._filled.append((chinese, english))
        self._patterns.append((_pattern(chinese), english))

    def _list(self, listed: Mapping[str, tuple[str, str]]) -> None:
        self._listed.update(listed)
        self._worded += tuple(b'{"type":"%b"' % one.encode() for one in listed)

    def catalogue(self) -> Catalogue:
        """For `of`: the texts with their English ones, the same for texts with gaps, and `LISTED`."""
        return dict(self._exact), list(self._filled), dict(self._listed)

    @classmethod
    def of(cls, catalogue: Catalogue) -> Self:
        """The texts of a `catalogue`."""
        exact, filled, listed = catalogue
        words = cls()
        words._exact.update(exact)
        for chinese, english in filled:
            words._fill(chinese, english)
        words._list(listed)
        return words

    def say(self, text: str, language: Language) -> str:
        """The text in this language. What is in no catalogue, such as an application's text, stays."""
        if language == "zh" or text.isascii():
            return text
        known = self._exact.get(text)
        if known is not None:
            return known
        return _translated(text, self._patterns) or text

    def explain(self, text: str, language: Language) -> str:
        """`details` or a reason, from English to this language. A text in no catalogue stays as it is."""
        if language == "en" or not text or len(text) > CHARS_MAX:
            return text
        found = _OF_FIELD.fullmatch(text)
        name, why, place = found.groups() if found is not None else ("", text, "")
        exact, patterns = self._chinese
        for before, said, after in (("", text, ""), (name, why, place)):
            known = exact.get(said) or _translated(said, patterns)
            if known is not None:
                return f"{before}{known}{after}"
        return text

    @cached_property
    def _chinese(self) -> tuple[Mapping[str, str], Sequence[tuple[re.Pattern[str], str]]]:
        """The Chinese texts by the English ones, for `explain`. Made when a client asks first."""
        exact = {english: chinese for chinese, english in reversed(self._exact.items())}
        return exact, [(_pattern(english), chinese) for chinese, english in self._filled]

    def reply(self, body: bytes, language: Language, details: Language = "en") -> bytes:
        """The body of a reply in this language. `details`: the language of an error's details."""
        if details == "zh" and body.startswith(_WORDED[1]):
            said = _decode(body)
            fields = ("message", "details") if said.get("code") in _OF_ENTITIES else ("details",)
            texts = {name: said[name] for name in fields if isinstance(said.get(name), str)}
            told = {name: self.explain(text, details) for name, text in texts.items()}
            body = body if told == texts else _encode({**said, **told})
        if language == "zh" or not body.startswith(self._worded):
            return body
        said = _decode(body)
        changed = self._say_in(said, "message", language)
        listed, field = self._listed.get(said["type"], ("", ""))
        for entry in said.get(listed, ()):
            changed |= self._say_in(entry, field, language)
        return _encode(said) if changed else body

    def _say_in(self, said: dict[str, Any], field: str, language: Language) -> bool:
        """Replace the text in a field; whether it was another one."""
        text = said.get(field)
        if not isinstance(text, str):
            return False
        said[field] = self.say(text, language)
        return said[field] is not text


def _pattern(text: str) -> re.Pattern[str]:
    """Matches a text with gaps, whatever fills them."""
    return re.compile("(.*)".join(map(re.escape, text.split(_GAP))), re.DOTALL)


def _translated(text: str, patterns: Iterable[tuple[re.Pattern[str], str]]) -> str | None:
    """The translation of the first pattern that the text fits, with the same fillings; None: it fits none."""
    if len(text) > CHARS_MAX:
        return None
    for pattern, other in patterns:
        found = pattern.fullmatch(text)
        if found is not None:
            return other.format(*found.groups())
    return None


def texts_of(catalogue: ModuleType) -> Mapping[str, str]:
    """The texts of a module, by their names."""
    return {
        name: text
        for name, text in vars(catalogue).items()
        if _NAME.fullmatch(name) and isinstance(text, str)
    }


def language_of(preferred: Iterable[str], default: Language) -> Language:
    """The first language of a list such as that of `Accept-Language` (RFC 9110, 12.5.4)."""
    weighted: list[tuple[float, Language]] = []
    for listed in preferred:
        for one in listed.split(","):
            tag, _, parameter = one.strip().lower().partition(";")
            weight = _weight(parameter)
            found = next((known for known in LANGUAGES if tag == known or tag.startswith(f"{known}-")), None)
            if found is not None and weight > 0:
                weighted.append((weight, found))
    return max(weighted, key=lambda one: one[0])[1] if weighted else default


def _weight(parameter: str) -> float:
    name, _, value = parameter.strip().partition("=")
    if name != "q":
        return 1.0
    try:
        return float(value)
    except ValueError:
        return 0.0
