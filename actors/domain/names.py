"""Names of kinds, keys of entities, and which streams an application may write. Pure."""

import re
from collections.abc import Collection
from typing import Final

from huahuo.actors.domain.wire_types import WIRE_TYPES
from huahuo.eventstore.limits import BROWSER_INT_MAX

RESERVED_KINDS: Final = frozenset(
    {
        "user", "group", "system", "log", "mailbox", "roster", "auth", "audit", "effect", "timer", "job",
        "ds", "projection",
    }
)  # fmt: skip
"""Kinds of streams that the service itself writes."""

REPLY_TYPES: Final = frozenset(
    {
        "audit_result", "emails_list", "error", "heartbeat_response", "import_result", "info", "mail",
        "mail_records", "success", "warning",
    }
)  # fmt: skip
"""Types of replies that the service has besides those named after a query."""

NO_TYPES: Final = WIRE_TYPES | REPLY_TYPES
"""Types of the protocol's own messages. A classic client could not tell such an event from a message."""

NAME: Final = re.compile(r"[A-Za-z0-9_.:/-]{1,64}")
"""The form of a stored name: what `publish` accepts as a type."""

KIND: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")
TAKEN_TABLES: Final = frozenset({"timers"})
"""Projections of the service itself."""
_TABLE: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_TEXT_KEY: Final = re.compile(r"[A-Za-z0-9_.@+-]{1,64}")
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,15}")
_SIGNED: Final = re.compile(r"0|-?[1-9][0-9]{0,15}")
_GROUP: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_NO_NAMES: Final = frozenset({".", ".."})
COUNTER: Final = "entity:"
"""The log's counter of ids of a kind has this prefix."""


def is_table(name: str) -> bool:
    """Whether an application's projection may have this name."""
    return bool(_TABLE.fullmatch(name)) and name not in TAKEN_TABLES


def is_key(key: object, of: type) -> bool:
    """Whether `key` may be the id of an entity whose `key=` is `of`."""
    if of is int:
        return isinstance(key, int) and not isinstance(key, bool) and 0 < key <= BROWSER_INT_MAX
    return isinstance(key, str) and bool(_TEXT_KEY.fullmatch(key)) and key not in _NO_NAMES


def key_of(text: str, of: type) -> int | str | None:
    """The key that is written as `text` in a stream's name, None if it is none."""
    if of is int:
        return int(text) if _NUMBER.fullmatch(text) and int(text) <= BROWSER_INT_MAX else None
    return text if is_key(text, str) else None


def is_own_stream(stream: str, kinds_with_entity: Collection[str]) -> bool:
    """Whether an application may put events of its own on `stream`.

    It may on `user/…`, `group/…`, `system`, and on streams of kinds of its own without an entity.
    """
    kind, slash, rest = stream.partition("/")
    if not slash:
        return stream == "system"
    if kind == "user":
        return bool(_SIGNED.fullmatch(rest)) or (is_key(rest, str))
    if kind == "group":
        return bool(_GROUP.fullmatch(rest))
    free = bool(KIND.fullmatch(kind)) and kind not in RESERVED_KINDS and kind not in kinds_with_entity
    return free and is_key(rest, str)
