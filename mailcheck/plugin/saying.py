"""What mail says in its events, in one language: progress, how a check ended, and why it failed. Pure."""

from typing import Final

from huahuo.actors.plugins.words import Language, Words
from huahuo.mailcheck.servers.kinds import KINDS
from huahuo.mailcheck.words import en, zh

_WORDS: Final = Words()
_WORDS.add(zh, en)
_FAILURES: Final = {
    told: {"zh": chinese, "en": english}
    for kind in KINDS.values()
    for told, chinese, english in (
        (kind.message, *kind.messages),
        (kind.advice, kind.advice_chinese, kind.advice_english),
    )
}
"""Texts about failures, which are stored in both languages, by what is stored."""
_SERVER: Final = ": "
"""Between such a text and the words of the mail server."""


def say(text: str, language: Language) -> str:
    """See `Past.say`."""
    if (known := _FAILURES.get(text)) is not None:
        return known[language]
    for stored, known in _FAILURES.items():
        if text.startswith(stored + _SERVER):
            return known[language] + text[len(stored) :]
    return _WORDS.say(text, language)
