"""Queries that answer in the form of FireMail: whole lists, as its front end takes no pages.

Mailboxes and mails that another service has, taken over into this one. It can be repeated.

The mails of a mailbox are reported as found in a folder of their own, with the other service's numbers as
UIDs. So each is taken over once, and the mailbox's own cursors are not touched.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from huahuo.actors.entities.decider import Origin
from huahuo.actors.plugins.actions import Action, Id
from huahuo.actors.plugins.calls import Call, Principal, Refusal, Reply, UserId, error_reply
from huahuo.actors.plugins.words import Words
from huahuo.eventstore.ambient import json_bytes
from huahuo.eventstore.model import Secret
from huahuo.mailcheck import en, zh
from huahuo.mailcheck.api.mail_actions import Searching
from huahuo.mailcheck.api.params import RECORDS_MAX, SEARCH_IDS_MAX, NoFields, OfMail, OfMailbox, SearchParams
from huahuo.mailcheck.api.rosters import Answering, Rosters, place_of
from huahuo.mailcheck.classic import classic_zh, interpreter
from huahuo.mailcheck.events import IMPORTED, STATUSES_BUSY, FetchedMail, UidCursor, user_of
from huahuo.mailcheck.mailbox.decider import MailsFound, ReportStatus
from huahuo.mailcheck.mime.mail import TEXT_CHARS_MAX
from huahuo.mailcheck.records import MAILS, FoundRecord, MailRecord, Row
from huahuo.mailcheck.roster.decider import AddEmail

_UIDVALIDITY: Final = 1
_PRINCIPAL: Final = "import"
_WORDS: Final = Words()
_WORDS.add(zh, en)
_HTML: Final = ("<html", "<body", "<div", "<p>", "<p ", "<table", "<span", "<br")
_SECRETS: Final = ("password", "client_id", "refresh_token")


class Adopted(msgspec.Struct, frozen=True):
    """What became of a mailbox: its id and whether it is new, or in English why it was left out."""

    email_id: int = 0
    is_new: bool = False
    why_not: str = ""


class Adopting(Answering):
    """Mailboxes and mails that another service has, taken over into this one. It can be repeated.

    Exceptions of the log and the entities pass through.
    """

    async def mailbox(self, user_id: UserId, fields: Mapping[str, Any]) -> Adopted:
        """Take over a mailbox, its secrets sealed. One with this address stays as it is."""
        asked = interpreter.added({**fields, "use_ssl": bool(fields.get("use_ssl", True))})
        if isinstance(asked, interpreter.Wrong):
            return Adopted(why_not=_WORDS.say(asked.message, "en"))
        command = AddEmail(
            email=str(asked["email"]),
            mail_type=str(asked["mail_type"]),
            server=str(asked.get("server", "")),
            port=asked.get("port"),
            use_ssl=asked["use_ssl"],
            secrets={name: Secret(str(asked[name])) for name in _SECRETS if name in asked},
        )
        reply = (await self._rosters.tell(user_id, command, Origin(_PRINCIPAL))).reply
        if not isinstance(reply, Refusal):
            return Adopted(email_id=getattr(reply, "email_id", 0), is_new=True)
        if reply.code != "already_exists":
            return Adopted(why_not=_WORDS.say(reply.message, "en"))
        address = command.email.strip().lower()
        return Adopted(await self._rosters.ask(user_id, lambda _seq, state: state.addresses.get(address, 0)))

    async def last_mail(self, email_id: int) -> int:
        """The number of the last mail that was taken over, 0 if none was."""
        return await self._mailboxes.ask(email_id, lambda _, state: state.seen_under(IMPORTED, _UIDVALIDITY))

    async def begin(self, email_id: int) -> int:
        """Begin to take over mails: a check that this process runs. The result is its id."""
        await self._mailboxes.tell(email_id, ReportStatus("processing", zh.TAKING_OVER), principal=_PRINCIPAL)
        return await self._mailboxes.ask(
            email_id, lambda _, state: 0 if state.check is None else state.check.check_id
        )

    async def mails(self, email_id: int, check_id: int, records: Sequence[Mapping[str, Any]]) -> None:
        """Take over mails in one commit. Their numbers rise."""
        batch = tuple(fetched_of(record, self._ambient.now_ms()) for record in records)
        cursor = UidCursor(IMPORTED, _UIDVALIDITY, batch[-1].uid)
        await self._mailboxes.tell(email_id, MailsFound(check_id, batch, cursor), principal=_PRINCIPAL)

    async def end(self, email_id: int, count: int) -> None:
        """All mails of the mailbox are taken over."""
        message = zh.TAKEN_OVER.format(count)
        await self._mailboxes.tell(email_id, ReportStatus("ok", message), principal=_PRINCIPAL)


def fetched_of(record: Mapping[str, Any], now_ms: int) -> FetchedMail:
    """A mail from FireMail's row, with `attachments` as rows of name, type and size."""
    text, html = adopted_content_of(record.get("content"))
    attachments = [
        {"name": str(one["filename"] or ""), "type": str(one["content_type"] or ""), "size": one["size"] or 0}
        for one in record.get("attachments", ())
    ]
    stored = json_bytes(
        {"text": text, "html": html, "attachments": attachments, "to": "", "cc": "", "truncated": False}
    )
    received = moment_ms(record.get("received_time"))
    return FetchedMail(
        folder=IMPORTED,
        uidvalidity=_UIDVALIDITY,
        uid=int(record["id"]),
        subject=str(record.get("subject") or ""),
        sender=str(record.get("sender") or ""),
        message_id="",
        date_ms=now_ms if received is None else received,
        internal_date_ms=None,
        has_attachments=bool(record.get("has_attachments") or attachments),
        size=len(stored),
        truncated=False,
        content=stored,
    )


def adopted_content_of(stored: object) -> tuple[str, str]:
    """(text, html) of a stored content: plain text, HTML, or a JSON object with either."""
    text = str(stored or "")
    is_html: object = None
    if text.startswith("{"):
        try:
            parts = msgspec.json.decode(text, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeEncodeError):
            parts = {}
        if "content" in parts:
            is_html = parts.get("has_html") or "html" in str(parts.get("content_type", ""))
            text = str(parts["content"] or "")
    if is_html is None:
        head = text[:4096].lower()
        is_html = any(tag in head for tag in _HTML)
    text = text[:TEXT_CHARS_MAX].encode("utf-8", "replace").decode()
    return ("", text) if is_html else (text, "")


def moment_ms(said: object) -> int | None:
    """A time as SQLite and Python write it; without a zone it is UTC. None: it is none."""
    try:
        moment = datetime.fromisoformat(str(said))
    except ValueError:
        return None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0, round(aware.timestamp() * 1000))


MAILS_MAX: Final = 500
"""Mails of one answer, the newest. That front end shows them in one page."""
CONTENT_BYTES_MAX: Final = 8 << 20
"""Content of one answer. Older mails then come without."""
ROWS_MAX: Final = 20_000
"""Mailboxes that an administrator is shown."""
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


class Progress(msgspec.Struct, frozen=True):
    """Fields of `firemail_progress`: mailboxes to tell of, besides those that are being checked."""

    email_ids: Annotated[list[Id], Meta(max_length=1_000)] = []


class Search(msgspec.Struct, frozen=True):
    """Fields of `firemail_search`."""

    query: Annotated[str, Meta(max_length=500)]
    search_in: Annotated[list[str], Meta(max_length=8)] = []


class Queries(Answering):
    """See the module."""

    def __init__(self, rosters: Rosters, searching: Searching | None = None) -> None:
        """`searching` None: mails are not searched."""
        super().__init__(rosters)
        self._searching = searching

    def actions(self) -> list[Action]:
        """The queries as actions. Clients of our own protocol have better ones."""
        search = Action("firemail_search", Search, self._search, query=True)
        return [
            *([] if self._searching is None else [search]),
            Action("firemail_emails", NoFields, self._emails, query=True, compressible=True),
            Action("firemail_progress", Progress, self._progress, query=True),
            Action("firemail_mails", OfMailbox, self._mails, query=True),
            Action("firemail_attachments", OfMail, self._attachments, query=True),
        ]

    async def _emails(self, call: Call[NoFields]) -> Reply:
        parts: list[bytes] = []
        rows = await self._shown(call.principal)
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            some = rows[start : start + _ROWS_AT_ONCE]
            parts.append(b",".join(msgspec.json.encode(interpreter.row_of(row)) for row in some))
            await asyncio.sleep(0)
        return Reply(b'{"type":"emails_list","data":[%b]}' % b",".join(parts))

    async def _progress(self, call: Call[Progress]) -> Reply:
        asked = set(call.params.email_ids)
        rows = await self._rosters.rows(call.principal.user_id)
        told = [
            interpreter.progress_of(row) for row in rows if row.id in asked or row.status in STATUSES_BUSY
        ]
        return _answered({"type": "firemail_progress", "data": told})

    async def _mails(self, call: Call[OfMailbox]) -> Reply:
        email_id = call.params.email_id
        if await self._owner(call.principal, email_id) is None:
            return error_reply(Refusal("not_found", zh.NO_MAILBOX.format(email_id)))
        left = CONTENT_BYTES_MAX
        told: list[dict[str, Any]] = []
        for _, value in await self._log.rows(MAILS, str(email_id), limit=MAILS_MAX):
            record = msgspec.json.decode(value, type=MailRecord)
            shown = None
            if left > 0 and record.blob:
                shown = (await self._content(record)).shown()
                left -= len(shown.encode())
            told.append(interpreter.mail_of(record, shown))
        return _answered({"type": "mail_records", "email_id": email_id, "data": told})

    async def _attachments(self, call: Call[OfMail]) -> Reply:
        mail_id = call.params.mail_id
        record = await self._record(call.principal, mail_id)
        if record is None:
            return error_reply(Refusal("not_found", classic_zh.NO_SUCH_MAIL))
        content = await self._content(record)
        told = interpreter.attachments_of(mail_id, content, record.received_time)
        return _answered({"type": "firemail_attachments", "data": told, "email_id": record.email_id})

    async def _search(self, call: Call[Search]) -> Reply:
        """What the index finds, the newest first."""
        wanted = call.params.query.strip().lower()
        if not wanted:
            return error_reply(Refusal("invalid_field", classic_zh.NO_QUERY, "query"))
        places = call.params.search_in or ["subject", "sender", "recipient", "content"]
        assert self._searching is not None, "else there is no such action"
        user_id = call.principal.user_id
        asked = [SearchParams(query=one, limit=RECORDS_MAX) for one in questions(wanted, frozenset(places))]
        if "recipient" in places:
            ids = tuple(row.id for row in await self._rosters.rows(user_id) if wanted in row.email.lower())
            if ids:
                asked.append(SearchParams(email_ids=ids[:SEARCH_IDS_MAX], limit=RECORDS_MAX))
        found: dict[int, FoundRecord] = {}
        for params in asked:
            again: Any = call  # the same call, of another action
            made: Any = replace(again, params=params)
            reply = await self._searching.search(made)
            page = _decode_found(reply.body)
            if page.type == "error":
                return reply
            found |= {one.mail_id: one for one in page.data}
        newest = sorted(found.values(), key=lambda one: (one.received_time, one.mail_id), reverse=True)
        told: list[dict[str, Any]] = []
        left = CONTENT_BYTES_MAX
        for one in newest[:MAILS_MAX]:
            record = await self._rosters.mail(user_id, one.mail_id)
            if record is None:
                continue
            content = await self._content(record) if left > 0 else interpreter.Content()
            shown = left > 0 and bool(record.blob)
            left -= len(content.shown().encode())
            told.append(interpreter.found_mail_of(record, content, one.email, shown=shown))
        return _answered({"type": "firemail_search", "results": told})

    async def _shown(self, who: Principal) -> list[Row]:
        """The user's mailboxes, newest first; an administrator sees those of all users, as there."""
        if not who.is_admin:
            return list(reversed(await self._rosters.rows(who.user_id)))
        rows: list[Row] = []
        for stream in self._log.streams("roster/"):
            rows += await self._rosters.rows(user_of(stream))
            if len(rows) >= ROWS_MAX:
                break
        return sorted(rows, key=lambda row: row.id, reverse=True)[:ROWS_MAX]

    async def _owner(self, who: Principal, email_id: int) -> UserId | None:
        """The owner of a mailbox that this user may look into."""
        if await self._rosters.row(who.user_id, email_id) is not None:
            return who.user_id
        if not who.is_admin:
            return None
        return await self._mailboxes.ask(email_id, lambda _, state: state.user_id if state.exists else None)

    async def _record(self, who: Principal, mail_id: int) -> MailRecord | None:
        found = await self._rosters.mail(who.user_id, mail_id)
        if found is not None or not who.is_admin:
            return found
        place = await place_of(self._log, mail_id)
        return None if place is None else await self._rosters.mail(place.user_id, mail_id)

    async def _content(self, record: MailRecord) -> interpreter.Content:
        return interpreter.content_of(await self._log.blob(record.blob) if record.blob else None)


def _answered(body: object) -> Reply:
    return Reply(msgspec.json.encode(body))
