"""Queries that answer in the form of FireMail: whole lists, as its front end takes no pages."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from huahuo.actors.entities.directory import Directory
from huahuo.actors.entities.entity import Query
from huahuo.actors.plugins.actions import Action, Id
from huahuo.actors.plugins.calls import Call, Refusal, Reply, error_reply
from huahuo.actors.plugins.principal import Principal, UserId
from huahuo.eventstore.port import Log
from huahuo.mailcheck.api.params import RECORDS_MAX, SEARCH_IDS_MAX, SearchParams
from huahuo.mailcheck.api.searching import Searching
from huahuo.mailcheck.attachments.own_mails import OwnMails
from huahuo.mailcheck.classic import classic_zh
from huahuo.mailcheck.classic.shapes import (
    Content,
    attachments_of,
    content_of,
    found_in,
    found_mail_of,
    mail_of,
    progress_of,
    row_of,
)
from huahuo.mailcheck.events import STATUSES_BUSY
from huahuo.mailcheck.replies import FoundRecord
from huahuo.mailcheck.roster.state import Roster
from huahuo.mailcheck.row import Row
from huahuo.mailcheck.streams import user_of
from huahuo.mailcheck.tables.records import MAIL, MAILS, MailPlace, MailRecord, mail_key
from huahuo.mailcheck.words import zh

ROSTER: Final = "roster"
MAILS_MAX: Final = 500
"""Mails of one answer, the newest. That front end shows them in one page."""
CONTENT_BYTES_MAX: Final = 8 << 20
"""Content of one answer. Older mails then come without."""
EXAMINED_MAX: Final = 20_000
"""Mails that one search looks at where there is no index."""
ROWS_MAX: Final = 20_000
"""Mailboxes that an administrator is shown."""
_PAGE: Final = 100
_BEGINNING_MIN: Final = 4
"""Letters of the beginning of a word that the index looks for."""
_ROWS_AT_ONCE: Final = 500
"""Rows that are written without giving way to others: some 2 ms."""


class _Page(msgspec.Struct):
    """An answer of `search_mails`."""

    type: str
    data: list[FoundRecord] = []


_decode_found = msgspec.json.Decoder(_Page).decode


def questions(wanted: str, places: frozenset[str]) -> list[str]:
    """What the index is asked. The last word may be the beginning of one, as people type."""
    words = [word for word in wanted.split() if word.strip('"-:')]
    if not words:
        return []
    if words[-1].isalnum() and words[-1].isascii() and len(words[-1]) >= _BEGINNING_MIN:
        words[-1] += "*"
    if "content" in places:
        return [" ".join(words)]
    fields = [field for place, field in (("subject", "subject"), ("sender", "from")) if place in places]
    return [" ".join(f"{field}:{word}" for word in words) for field in fields]


class NoFields(msgspec.Struct, frozen=True):
    """No fields."""


class OfMailbox(msgspec.Struct, frozen=True):
    """Fields of a query on one mailbox."""

    email_id: Id


class OfMail(msgspec.Struct, frozen=True):
    """Fields of a query on one mail."""

    mail_id: Id


class Progress(msgspec.Struct, frozen=True):
    """Fields of `firemail_progress`: mailboxes to tell of, besides those that are being checked."""

    email_ids: Annotated[list[Id], Meta(max_length=1_000)] = []


class Search(msgspec.Struct, frozen=True):
    """Fields of `firemail_search`."""

    query: Annotated[str, Meta(max_length=500)]
    search_in: Annotated[list[str], Meta(max_length=8)] = []


class Queries:
    """See the module."""

    def __init__(self, log: Log, directory: Directory, searching: Searching | None = None) -> None:
        """`searching` None: mails are searched by looking at each."""
        self._searching = searching
        self._log = log
        self._directory = directory
        self._own = OwnMails(log, directory)

    def actions(self) -> list[Action]:
        """The queries as actions. Clients of our own protocol have better ones."""
        return [
            Action("firemail_emails", NoFields, self._emails, query=True, compressible=True),
            Action("firemail_progress", Progress, self._progress, query=True),
            Action("firemail_mails", OfMailbox, self._mails, query=True),
            Action("firemail_attachments", OfMail, self._attachments, query=True),
            Action("firemail_search", Search, self._search, query=True),
        ]

    async def _emails(self, call: Call[NoFields]) -> Reply:
        parts: list[bytes] = []
        rows = await self._shown(call.principal)
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            some = rows[start : start + _ROWS_AT_ONCE]
            parts.append(b",".join(msgspec.json.encode(row_of(row)) for row in some))
            await asyncio.sleep(0)
        return Reply(b'{"type":"emails_list","data":[%b]}' % b",".join(parts))

    async def _progress(self, call: Call[Progress]) -> Reply:
        asked = set(call.params.email_ids)
        rows = await self._rows(call.principal.user_id)
        told = [progress_of(row) for row in rows if row.id in asked or row.status in STATUSES_BUSY]
        return _answered({"type": "firemail_progress", "data": told})

    async def _mails(self, call: Call[OfMailbox]) -> Reply:
        email_id = call.params.email_id
        if await self._owner(call.principal, email_id) is None:
            return error_reply(Refusal("not_found", zh.NO_MAILBOX.format(email_id)))
        left = CONTENT_BYTES_MAX
        told: list[dict[str, Any]] = []
        async for record in self._records(email_id, MAILS_MAX):
            shown = None
            if left > 0 and record.blob:
                shown = (await self._content(record)).shown()
                left -= len(shown.encode())
            told.append(mail_of(record, shown))
        return _answered({"type": "mail_records", "email_id": email_id, "data": told})

    async def _attachments(self, call: Call[OfMail]) -> Reply:
        mail_id = call.params.mail_id
        record = await self._record(call.principal, mail_id)
        if record is None:
            return error_reply(Refusal("not_found", classic_zh.NO_SUCH_MAIL))
        content = await self._content(record)
        told = attachments_of(mail_id, content, record.received_time)
        return _answered({"type": "firemail_attachments", "data": told, "email_id": record.email_id})

    async def _search(self, call: Call[Search]) -> Reply:
        wanted = call.params.query.strip().lower()
        if not wanted:
            return error_reply(Refusal("invalid_field", classic_zh.NO_QUERY, "query"))
        places = call.params.search_in or ["subject", "sender", "recipient", "content"]
        if self._searching is not None:
            return await self._indexed(call, self._searching, wanted, frozenset(places))
        where = dict.fromkeys(places, True)
        found: list[dict[str, Any]] = []
        examined, left = 0, CONTENT_BYTES_MAX
        for row in await self._rows(call.principal.user_id):
            async for record in self._records(row.id, EXAMINED_MAX - examined):
                examined += 1
                content = await self._content(record) if where.get("content") else Content()
                if found_in(record, row.email, content, wanted, where):
                    if not where.get("content"):
                        content = await self._content(record)
                    left -= len(content.shown().encode())
                    found.append(found_mail_of(record, content, row.email, shown=left > 0))
        found.sort(key=lambda mail: str(mail["received_time"]), reverse=True)
        return _answered({"type": "firemail_search", "results": found[:MAILS_MAX]})

    async def _indexed(
        self, call: Call[Search], searching: Searching, wanted: str, places: frozenset[str]
    ) -> Reply:
        """What the index finds, the newest first."""
        user_id = call.principal.user_id
        asked = [SearchParams(query=one, limit=RECORDS_MAX) for one in questions(wanted, places)]
        if "recipient" in places:
            ids = tuple(row.id for row in await self._rows(user_id) if wanted in row.email.lower())
            if ids:
                asked.append(SearchParams(email_ids=ids[:SEARCH_IDS_MAX], limit=RECORDS_MAX))
        found: dict[int, FoundRecord] = {}
        for params in asked:
            again: Any = call  # the same call, of another action
            made: Any = replace(again, params=params)
            reply = await searching.search(made)
            page = _decode_found(reply.body)
            if page.type == "error":
                return reply
            found |= {one.mail_id: one for one in page.data}
        newest = sorted(found.values(), key=lambda one: (one.received_time, one.mail_id), reverse=True)
        told: list[dict[str, Any]] = []
        left = CONTENT_BYTES_MAX
        for one in newest[:MAILS_MAX]:
            record = await self._own.record(user_id, one.mail_id)
            if record is None:
                continue
            content = await self._content(record) if left > 0 else Content()
            shown = left > 0 and bool(record.blob)
            left -= len(content.shown().encode())
            told.append(found_mail_of(record, content, one.email, shown=shown))
        return _answered({"type": "firemail_search", "results": told})

    async def _shown(self, who: Principal) -> list[Row]:
        """The user's mailboxes, newest first; an administrator sees those of all users, as there."""
        if not who.is_admin:
            return list(reversed(await self._rows(who.user_id)))
        rows: list[Row] = []
        for stream in self._log.streams("roster/"):
            rows += await self._rows(user_of(stream))
            if len(rows) >= ROWS_MAX:
                break
        return sorted(rows, key=lambda row: row.id, reverse=True)[:ROWS_MAX]

    async def _owner(self, who: Principal, email_id: int) -> UserId | None:
        """The owner of a mailbox that this user may look into."""
        if await self._own.mailbox(who.user_id, email_id) is not None:
            return who.user_id
        return await self._own.owner(email_id) if who.is_admin else None

    async def _record(self, who: Principal, mail_id: int) -> MailRecord | None:
        found = await self._own.record(who.user_id, mail_id)
        if found is not None or not who.is_admin:
            return found
        place = None if mail_id < 0 else await self._log.row(MAIL, "", mail_key(mail_id))
        if place is None:
            return None
        return await self._own.record(msgspec.json.decode(place, type=MailPlace).user_id, mail_id)

    async def _records(self, email_id: int, most: int) -> AsyncIterator[MailRecord]:
        """The records of a mailbox, newest first."""
        before, left = None, most
        while left > 0:
            rows = await self._log.rows(MAILS, str(email_id), before=before, limit=min(_PAGE, left))
            for _, value in rows:
                yield msgspec.json.decode(value, type=MailRecord)
            if len(rows) < min(_PAGE, left):
                return
            before, left = rows[-1][0], left - len(rows)

    async def _content(self, record: MailRecord) -> Content:
        return content_of(await self._log.blob(record.blob) if record.blob else None)

    async def _rows(self, user_id: UserId) -> Sequence[Row]:
        def look(_seq: int, state: Roster) -> Sequence[Row]:
            return state.cut()

        rows: Sequence[Row] = await self._directory.ask(ROSTER, user_id, Query(look))
        return rows


def _answered(body: object) -> Reply:
    return Reply(msgspec.json.encode(body))
