"""What a client asks of a list: an order, a filter, and where the page begins (PROTOCOL 6). Pure."""

from collections.abc import Callable
from typing import Final

import msgspec
from msgspec import UNSET

from huahuo.mailcheck.listing.order import KEYS, Entry
from huahuo.mailcheck.row import Row

PAGE_ROWS_MAX: Final = 2_000


class Sort(msgspec.Struct, frozen=True):
    """A field and a direction. Ties are sorted by id, in the same direction."""

    field: str = "id"
    descending: bool = False

    @classmethod
    def of(cls, text: str) -> "Sort | None":
        """The sort that `email` or `-last_check_time` names, None if there is no such field."""
        field = text.removeprefix("-")
        return cls(field, field != text) if field in KEYS else None


class Filter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Conditions for a row to be listed. All that are given must hold.

    `text` is searched for in address, server, message and note, ignoring case. An empty `tag` or `group`:
    mailboxes without one.
    """

    status: str | tuple[str, ...] | None = None
    mail_type: str | tuple[str, ...] | None = None
    text: str = ""
    tag: str | tuple[str, ...] | None = None
    group: str | tuple[str, ...] | None = None
    error_class: str | tuple[str, ...] | None = None

    def admits(self) -> Callable[[Row], bool] | None:
        """The test of a row, None if every row passes."""
        statuses, types, text = _set(self.status), _set(self.mail_type), self.text.lower()
        groups, classes = _set(self.group), _set(self.error_class)
        tags = None if self.tag is None else frozenset(tag.casefold() for tag in _set(self.tag) or ())
        if self == Filter():
            return None

        def test(row: Row) -> bool:
            return (
                (statuses is None or row.status in statuses)
                and (types is None or row.mail_type in types)
                and (groups is None or (row.group or "") in groups)
                and (classes is None or (row.error_class or "") in classes)
                and (tags is None or has_tag(row, tags))
                and (
                    not text
                    or text in row.email.lower()
                    or text in row.message.lower()
                    or text in row.server.lower()
                    or (row.note is not UNSET and text in row.note.lower())
                )
            )

        return test


def has_tag(row: Row, tags: frozenset[str]) -> bool:
    """Whether a row has one of these tags, which are case-folded. The empty one: it has none."""
    if row.tags is UNSET or not row.tags:
        return "" in tags
    return any(tag.casefold() in tags for tag in row.tags)


_TEXT_KEYS = frozenset({"email", "status", "last_check_time", "created_at"})


def _set(value: str | tuple[str, ...] | None) -> frozenset[str] | None:
    return None if value is None else frozenset((value,) if isinstance(value, str) else value)


class _Token(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    sort: str
    key: str | int
    id: int


def token_of(sort: Sort, after: Entry) -> str:
    """The value of `next`: field, key and id of the last entry."""
    return msgspec.json.encode(_Token(sort.field, *after)).hex()


def entry_of(sort: Sort, token: str) -> Entry | None:
    """The entry that a client sent in `before`, None if it does not belong to this order."""
    try:
        given = msgspec.json.decode(bytes.fromhex(token), type=_Token)
    except (ValueError, msgspec.MsgspecError):
        return None
    of_text = sort.field in _TEXT_KEYS
    return (
        (given.key, given.id) if given.sort == sort.field and isinstance(given.key, str) is of_text else None
    )
