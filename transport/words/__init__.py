"""The texts that the transport says to clients: one catalogue for each language. Pure.

Exports the modules `zh` and `en`, whose constants have the same names, and `spoken`.
"""

from huahuo.actors.plugins.words import Words
from huahuo.transport.words import en, zh


def spoken() -> Words:
    """The transport's texts, to which the catalogues of others may be added."""
    words = Words()
    words.add(zh, en)
    return words
