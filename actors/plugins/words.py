"""What the service says to its clients, in each language. Pure.

The code says each text in Chinese, as the first clients know it and as answers are recorded. For a client
with another language it is replaced where it leaves. A plug-in adds its own catalogue: one module of
constants for each language, with the same names. `{}` in a text stands for what is put in. `LISTED` of the
Chinese module names the replies that hold a list of texts: by type, the list and the field of each entry.

Events have one text for all readers, since they are stored and sent as the same bytes. A reader that wants
them in another language uses the catalogue, as the console does.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any, Final, Literal, Self, get_args

import msgspec

type Language = Literal["en", "zh"]

type Catalogue = tuple[Mapping[str, str], Sequence[tuple[str, str]], Mapping[str, tuple[str, str]]]

LANGUAGES: Final = get_args(Language.__value__)
_NAME: Final = re.compile(r"[A-Z][A-Z0-9_]*")
_GAP: Final = "{}"
_WORDED: Final = tuple(b'{"type":"%b"' % one for one in (b"success", b"error", b"warning", b"info"))
"""What replies with a text for people begin with."""
_decode: Final = msgspec.json.decode
_encode: Final = msgspec.json.encode


class Words:
    """Several catalogues as one."""

    def __init__(self) -> None:
        self._exact: dict[str, str] = {}
        self._filled: list[tuple[re.Pattern[str], str]] = []
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
                pattern = "(.*)".join(map(re.escape, text.split(_GAP)))
                self._filled.append((re.compile(pattern, re.DOTALL), english[name]))
            else:
                self._exact[text] = english[name]
        self._list(getattr(zh, "LISTED", {}))

    def _list(self, listed: Mapping[str, tuple[str, str]]) -> None:
        self._listed.update(listed)
        self._worded += tuple(b'{"type":"%b"' % one.encode() for one in listed)

    def catalogue(self) -> Catalogue:
        """All texts with their English ones, the patterns of those with gaps, and `LISTED`: for `of`."""
        filled = [(pattern.pattern, english) for pattern, english in self._filled]
        return dict(self._exact), filled, dict(self._listed)

    @classmethod
    def of(cls, catalogue: Catalogue) -> Self:
        """The texts of a `catalogue`."""
        exact, filled, listed = catalogue
        words = cls()
        words._exact.update(exact)
        words._filled += [(re.compile(pattern, re.DOTALL), english) for pattern, english in filled]
        words._list(listed)
        return words

    def say(self, text: str, language: Language) -> str:
        """The text in this language. What is in no catalogue, such as an application's text, stays."""
        if language == "zh" or text.isascii():
            return text
        known = self._exact.get(text)
        if known is not None:
            return known
        for pattern, english in self._filled:
            found = pattern.fullmatch(text)
            if found is not None:
                return english.format(*found.groups())
        return text

    def reply(self, body: bytes, language: Language) -> bytes:
        """The body of a reply in this language."""
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
