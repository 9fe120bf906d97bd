"""The service's own refusals in English, for exceptions and for HTTP. Pure.

The code says each text in Chinese (`transport.words`). Texts of an application stay as they are, in whatever
language it writes them.
"""

from typing import Final

from huahuo.actors.plugins.words import Words
from huahuo.transport.protocol.refusals import SENTENCES
from huahuo.transport.words import en, http_en, http_zh, zh

_WORDS: Final = Words()
_WORDS.add(zh, en)
_WORDS.add(http_zh, http_en)


def translated(message: str) -> str:
    """`message` in English if it is a text of the transport, else as it is."""
    return _WORDS.say(message, "en")


def of_service(code: str, message: str) -> str:
    """A refusal of the service or of a plug-in in English: its text, else what its code means."""
    said = translated(message)
    known = said.isascii() or code not in SENTENCES
    return said if known else SENTENCES[code]
