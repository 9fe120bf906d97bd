"""Queries that answer in the form of FireMail: whole lists, as its front end takes no pages."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from huahuo.actors.entities.directory import Directory
from huahuo.actors.entities.entity import Query
from huahuo.actors.plugins.actions import Action, Id
from huahuo.actors.plugins.calls import Call, Refusal, Reply, error_reply
from huahuo.actors.plugins.principal import UserId
from huahuo.eventstore.port import Log
from huahuo.mailcheck.attachments.own_mails import OwnMails
from huahuo.mailcheck.classic.shapes import (
    Content,
    attachments_of,
    content_of,
    found_in,
    mail_of,
    progress_of,
    row_of,
)
from huahuo.mailcheck.events import STATUSES_BUSY
from huahuo.mailcheck.roster.state import Roster
from huahuo.mailcheck.row import Row
from huahuo.mailcheck.tables.records import MAILS, MailRecord

ROSTER: Final = "roster"
MAILS_MAX: Final = 500
"""Mails of one answer, the newest. That front end shows them in one page."""
CONTENT_BYTES_MAX: Final = 8 << 20
"""Content of one answer. Older mails then come without."""
EXAMINED_MAX: Final = 20_000
"""Mails that one search looks at."""
_PAGE: Final = 100
_ROWS_AT_ONCE: Final = 500
"""Rows that are written without giving way to others: some 2 ms."""


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

    def __init__(self, log: Log, directory: Directory) -> None:
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
        rows = (await self._rows(call.principal.user_id))[::-1]  # newest first
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
        if await self._own.mailbox(call.principal.user_id, email_id) is None:
            return error_reply(Refusal("not_found", f"邮箱ID {email_id} 不存在或您没有权限"))
        left = CONTENT_BYTES_MAX
        told: list[dict[str, Any]] = []
        async for record in self._records(email_id, MAILS_MAX):
            shown = None
            if left > 0:
                shown = (await self._content(record)).shown()
                left -= len(shown.encode())
            told.append(mail_of(record, shown))
        return _answered({"type": "mail_records", "email_id": email_id, "data": told})

    async def _attachments(self, call: Call[OfMail]) -> Reply:
        mail_id = call.params.mail_id
        record = await self._own.record(call.principal.user_id, mail_id)
        if record is None:
            return error_reply(Refusal("not_found", "邮件不存在"))
        content = await self._content(record)
        told = attachments_of(mail_id, content, record.received_time)
        return _answered({"type": "firemail_attachments", "data": told, "email_id": record.email_id})

    async def _search(self, call: Call[Search]) -> Reply:
        wanted = call.params.query.strip().lower()
        if not wanted:
            return error_reply(Refusal("invalid_field", "搜索关键词不能为空", "query"))
        places = call.params.search_in or ["subject", "sender", "recipient", "content"]
        where = dict.fromkeys(places, True)
        found: list[dict[str, Any]] = []
        examined, left = 0, CONTENT_BYTES_MAX
        for row in await self._rows(call.principal.user_id):
            async for record in self._records(row.id, EXAMINED_MAX - examined):
                examined += 1
                content = await self._content(record) if where.get("content") else Content()
                if found_in(record, row.email, content, wanted, where):
                    shown = (content if where.get("content") else await self._content(record)).shown()
                    left -= len(shown.encode())
                    mail = mail_of(record, shown if left > 0 else None)
                    found.append({**mail, "email_address": row.email, "recipient": row.email})
        found.sort(key=lambda mail: str(mail["received_time"]), reverse=True)
        return _answered({"type": "firemail_search", "results": found[:MAILS_MAX]})

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
