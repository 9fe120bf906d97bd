"""The fields of the domain's commands and queries as they come over the wire (PROTOCOL 6). Pure.

Commands whose fields need no change have none here: see `huahuo.mailcheck.roster.decider`.

Decoding refuses wrong types and numbers out of range, and ignores unknown fields. The `repr` of a field
that may hold a password or a token does not show its value.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from huahuo.actors.plugins.actions import Id
from huahuo.eventstore.model import Secret
from huahuo.mailcheck.api.mailbox_list import PAGE_ROWS_MAX, Filter
from huahuo.mailcheck.roster.decider import FOLDERS_MAX, SIGN_IN_SECRETS, TAGS_MAX, Labels

RECORDS_MAX = 200
FAILURES_MAX = 1_000
QUERY_CHARS_MAX = 500
IMPORT_LINES_MAX = 10_000_000
EXPORT_ROWS_MAX = 1_000
SEARCH_IDS_MAX = 1_000
_TOKEN_CHARS_MAX = 4_096
_SORT_CHARS_MAX = 32

type Flag = bool | Annotated[int, Meta(ge=0, le=1)]
"""Older clients write booleans as 0 and 1."""


class ListParams(msgspec.Struct, frozen=True):
    """Fields of `get_all_emails`. `before` is the `next` of the previous page. Without fields: all rows."""

    limit: Annotated[int, Meta(ge=1, le=PAGE_ROWS_MAX)] | None = None
    before: Annotated[str, Meta(max_length=_TOKEN_CHARS_MAX)] | None = None
    sort: Annotated[str, Meta(max_length=_SORT_CHARS_MAX)] | None = None
    filter: Filter | None = None

    @property
    def paged(self) -> bool:
        """Whether the client asks for a page rather than for all rows."""
        return any(one is not None for one in (self.limit, self.before, self.sort, self.filter))


class _Account(msgspec.Struct, frozen=True, kw_only=True):
    """Fields common to adding and updating. Missing, null and empty mean the same."""

    password: str | None = None
    client_id: str | None = None
    refresh_token: str | None = None
    login: str | None = None
    """The user name, where it is not the address. The address takes it off."""
    server: str | None = None
    port: int | None = None
    use_ssl: Flag | None = None
    proxy: str | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}('[sealed]')"

    def given(self) -> dict[str, Any]:
        """The fields of `AddEmail` and `UpdateEmail` that both have."""
        named = {name: getattr(self, name) for name in (*SIGN_IN_SECRETS, "proxy", "login")}
        return {
            "server": self.server or "",
            "port": self.port,
            "use_ssl": None if self.use_ssl is None else bool(self.use_ssl),
            "secrets": {name: Secret(value) for name, value in named.items() if value},
        }


class AddEmailParams(_Account, frozen=True, kw_only=True):
    """Fields of `add_email`."""

    email: str
    mail_type: str = "imap"

    __repr__ = _Account.__repr__


class UpdateEmailParams(_Account, frozen=True, kw_only=True):
    """Fields of `update_email`."""

    email_id: Id
    mail_type: str | None = None
    folders: Annotated[tuple[str, ...], Meta(max_length=FOLDERS_MAX)] | UnsetType | None = UNSET

    __repr__ = _Account.__repr__


class ImportParams(msgspec.Struct, frozen=True):
    """Fields of `import_emails`."""

    data: str
    mail_type: str = "outlook"
    validate: bool | Literal["login", "check"] = False
    """Sign in to each new mailbox at once, or check it."""
    job_id: Id | None = None

    def __repr__(self) -> str:
        return "ImportParams('[sealed]')"


class BeginImportParams(msgspec.Struct, frozen=True):
    """Fields of `begin_import`: how many lines will come, blank ones not counted."""

    lines: Annotated[int, Meta(ge=1, le=IMPORT_LINES_MAX)]


class EndImportParams(msgspec.Struct, frozen=True):
    """Fields of `end_import`. `stopped`: not all lines were sent."""

    job_id: Id
    stopped: bool = False


class ExportParams(msgspec.Struct, frozen=True):
    """Fields of `export_emails`. `before` is the `next` of the previous page.

    `owner` (administrators): the id of the user whose mailboxes they are.
    """

    email_ids: Annotated[tuple[Id, ...], Meta(max_length=EXPORT_ROWS_MAX)] | None = None
    filter: Filter | None = None
    format: Literal["lines", "csv"] = "lines"
    secrets: bool = False
    owner: int | str | None = None
    limit: Annotated[int, Meta(ge=1, le=EXPORT_ROWS_MAX)] = 500
    before: Id | None = None


class ChoiceParams(msgspec.Struct, frozen=True):
    """Which mailboxes a command is about: those of a list, or all that a filter admits."""

    email_ids: tuple[Id, ...] | None = None
    filter: Filter | None = None


class CheckParams(ChoiceParams, frozen=True):
    """Fields of `check_emails`. `login`: only sign in, and read no mail."""

    login: bool = False


class LabelParams(ChoiceParams, frozen=True):
    """Fields of `label_emails`."""

    add_tags: Annotated[tuple[str, ...], Meta(max_length=TAGS_MAX)] = ()
    remove_tags: Annotated[tuple[str, ...], Meta(max_length=TAGS_MAX)] = ()
    note: str | None = None
    group: str | None = None

    def labels(self) -> Labels:
        """What is to change."""
        return Labels(self.add_tags, self.remove_tags, self.note, self.group)


class FailuresParams(msgspec.Struct, frozen=True):
    """Fields of `get_failures`. `limit`: mailboxes named of each reason."""

    filter: Filter | None = None
    limit: Annotated[int, Meta(ge=0, le=FAILURES_MAX)] = 20


class SearchParams(msgspec.Struct, frozen=True):
    """Fields of `search_mails`. Without words: all mails that the other fields admit.

    `since` is included, `until` is not. `before` is the `next` of the previous page.
    """

    query: Annotated[str, Meta(max_length=QUERY_CHARS_MAX)] = ""
    email_ids: Annotated[tuple[Id, ...], Meta(max_length=SEARCH_IDS_MAX)] | None = None
    group: str | None = None
    tag: str | None = None
    since: str | None = None
    until: str | None = None
    has_code: bool | None = None
    has_attachments: bool | None = None
    unread: bool | None = None
    sort: Literal["received_time", "-received_time"] = "-received_time"
    limit: Annotated[int, Meta(ge=1, le=RECORDS_MAX)] = 50
    before: str | None = None


class WatchParams(ChoiceParams, frozen=True, kw_only=True):
    """Fields of `watch_emails`."""

    on: Flag


class MailRecordsParams(msgspec.Struct, frozen=True):
    """Fields of `get_mail_records`. `before` is the `next` of the previous page."""

    email_id: Id
    before: str | None = None
    to: Annotated[str, Meta(max_length=254)] = ""
    """Only mails to this address."""
    limit: Annotated[int, Meta(ge=1, le=RECORDS_MAX)] = 50
    sort: Literal["received_time", "-received_time"] = "-received_time"


class OfMail(msgspec.Struct, frozen=True):
    """The field of a query on one mail."""

    mail_id: Id


class OfMailbox(msgspec.Struct, frozen=True):
    """The field of a query on one mailbox."""

    email_id: Id


class NoFields(msgspec.Struct, frozen=True):
    """No fields."""
