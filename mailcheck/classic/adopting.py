"""Mailboxes and mails that another service has, taken over into this one. It can be repeated.

The mails of a mailbox are reported as found in a folder of their own, with the other service's numbers as
UIDs. So each is taken over once, and the mailbox's own cursors are not touched.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from huahuo.actors.entities.decider import Answer, Origin
from huahuo.actors.entities.directory import Directory
from huahuo.actors.entities.entity import Execute, Query
from huahuo.actors.plugins.calls import Refusal
from huahuo.actors.plugins.principal import UserId
from huahuo.actors.plugins.words import Words
from huahuo.eventstore.ambient import Ambient, json_bytes
from huahuo.eventstore.model import Secret
from huahuo.mailcheck.checks.mailboxes import MAILBOX, Mailboxes
from huahuo.mailcheck.classic.hearing import Wrong, added
from huahuo.mailcheck.fetched import IMPORTED, FetchedMail, UidCursor
from huahuo.mailcheck.mailbox.commands import MailsFound, ReportStatus
from huahuo.mailcheck.mailbox.state import Mailbox
from huahuo.mailcheck.mime.mail import TEXT_CHARS_MAX
from huahuo.mailcheck.replies import MailReply
from huahuo.mailcheck.roster.commands import AddEmail
from huahuo.mailcheck.roster.state import Roster
from huahuo.mailcheck.words import en, zh

ROSTER: Final = "roster"
_UIDVALIDITY: Final = 1
_PRINCIPAL: Final = "import"
_TAKING_OVER: Final = zh.TAKING_OVER
_WORDS: Final = Words()
_WORDS.add(zh, en)
_HTML: Final = ("<html", "<body", "<div", "<p>", "<p ", "<table", "<span", "<br")
_SECRETS: Final = ("password", "client_id", "refresh_token")


class Adopted(msgspec.Struct, frozen=True):
    """What became of a mailbox: its id and whether it is new, or in English why it was left out."""

    email_id: int = 0
    is_new: bool = False
    why_not: str = ""


class Adopting:
    """See the module. Exceptions of the log and the entities pass through."""

    def __init__(self, directory: Directory, mailboxes: Mailboxes, ambient: Ambient) -> None:
        self._directory = directory
        self._mailboxes = mailboxes
        self._ambient = ambient

    async def mailbox(self, user_id: UserId, fields: Mapping[str, Any]) -> Adopted:
        """Take over a mailbox, its secrets sealed. One with this address stays as it is."""
        asked = added({**fields, "use_ssl": bool(fields.get("use_ssl", True))})
        if isinstance(asked, Wrong):
            return Adopted(why_not=_WORDS.say(asked.message, "en"))
        command = AddEmail(
            email=str(asked["email"]),
            mail_type=str(asked["mail_type"]),
            server=str(asked.get("server", "")),
            port=asked.get("port"),
            use_ssl=asked["use_ssl"],
            secrets={name: Secret(str(asked[name])) for name in _SECRETS if name in asked},
        )
        answer: Answer[MailReply] = await self._directory.ask(
            ROSTER, user_id, Execute(command, Origin(_PRINCIPAL))
        )
        reply = answer.reply
        if not isinstance(reply, Refusal):
            return Adopted(email_id=getattr(reply, "email_id", 0), is_new=True)
        if reply.code != "already_exists":
            return Adopted(why_not=_WORDS.say(reply.message, "en"))

        def look(_seq: int, state: Roster) -> int:
            return state.addresses.get(command.email.strip().lower(), 0)

        return Adopted(email_id=await self._directory.ask(ROSTER, user_id, Query(look)))

    async def last_mail(self, email_id: int) -> int:
        """The number of the last mail that was taken over, 0 if none was."""

        def look(_seq: int, state: Mailbox) -> int:
            return state.seen_under(IMPORTED, _UIDVALIDITY)

        last: int = await self._directory.ask(MAILBOX, email_id, Query(look))
        return last

    async def begin(self, email_id: int) -> int:
        """Begin to take over mails: a check that this process runs. The result is its id."""
        await self._mailboxes.tell(email_id, ReportStatus("processing", _TAKING_OVER), principal=_PRINCIPAL)

        def look(_seq: int, state: Mailbox) -> int:
            return 0 if state.check is None else state.check.check_id

        check_id: int = await self._directory.ask(MAILBOX, email_id, Query(look))
        return check_id

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
    text, html = content_of(record.get("content"))
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


def content_of(stored: object) -> tuple[str, str]:
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
