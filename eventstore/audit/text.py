"""Which parts of an event's body the audit index shows and searches, and the syntax of a search. Pure.

SQLite's tokenizer treats a run of Chinese characters as one word. So each such character gets spaces around
it, both in the indexed text and in a search, where a word becomes a phrase of its characters.
"""

import re
from typing import Any

import msgspec

SEALED = "[sealed]"
QUERY_CHARS_MAX = 1000

SECRET_FIELDS = frozenset(
    {"password", "passwd", "refresh_token", "access_token", "client_secret", "secret", "token", "api_key"}
)
"""Our events have no such field. If another program's event has one, its value is not shown."""

_NO_TEXT = frozenset({"type", "timestamp"})
_DEPTH_MAX = 32
_SECRET = re.compile(rb'"(?:%s)"' % b"|".join(name.encode() for name in sorted(SECRET_FIELDS)))
_ENDS = str.maketrans('"\0', "  ")
"""What would end a phrase, or the whole expression."""
_IDEOGRAPH = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff]")


def shown(body: bytes) -> tuple[str, Any]:
    """The body as it may be shown, as JSON text and as a value; secret fields hold `SEALED`."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        value = {"unreadable": body.decode("utf-8", "replace")}
        return msgspec.json.encode(value).decode(), value
    if _SECRET.search(body):
        value = _sealed(value, 0)
        return msgspec.json.encode(value).decode(), value
    return body.decode(), value


def words_of(value: Any) -> str:
    """The texts and numbers in a body, for the search; without field names, `type` and `timestamp`."""
    parts: list[str] = []
    if isinstance(value, dict):
        for name, inner in value.items():
            if name not in _NO_TEXT:
                _collect(inner, parts, 0)
    return spaced(" ".join(parts))


def spaced(text: str) -> str:
    """`text` with every ideograph a word of its own."""
    return text if text.isascii() else _IDEOGRAPH.sub(r" \g<0> ", text)


def match_of(query: str) -> str:
    """An FTS5 expression that finds all words of `query`; `word*` finds every word with that beginning.

    Raises:
        ValueError: the query holds no word, or is too long.
    """
    if len(query) > QUERY_CHARS_MAX:
        raise ValueError(f"text: at most {QUERY_CHARS_MAX} characters")
    phrases: list[str] = []
    for word in query.split():
        bare = word.rstrip("*")
        if any(character.isalnum() for character in bare):
            phrases.append('"' + spaced(bare).translate(_ENDS) + '"' + (" *" if word != bare else ""))
    if not phrases:
        raise ValueError("text: holds no word to search for")
    return " AND ".join(phrases)


def _sealed(value: Any, depth: int) -> Any:
    if depth >= _DEPTH_MAX:
        return SEALED
    if isinstance(value, dict):
        return {
            name: SEALED if name in SECRET_FIELDS else _sealed(inner, depth + 1)
            for name, inner in value.items()
        }
    if isinstance(value, list):
        return [_sealed(inner, depth + 1) for inner in value]
    return value


def _collect(value: Any, parts: list[str], depth: int) -> None:
    if isinstance(value, str):
        parts.append(value)
    elif isinstance(value, bool) or value is None or depth >= _DEPTH_MAX:
        return
    elif isinstance(value, int | float):
        parts.append(str(value))
    elif isinstance(value, dict):
        for inner in value.values():
            _collect(inner, parts, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _collect(inner, parts, depth + 1)
