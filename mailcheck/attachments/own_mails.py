"""Mails by their number, for the user who owns them: the record, and the place on the mail server."""

from typing import Final

import msgspec

from huahuo.actors.entities.directory import Directory
from huahuo.actors.entities.entity import Query
from huahuo.actors.plugins.principal import UserId
from huahuo.eventstore.port import Log
from huahuo.mailcheck.fetched import GRAPH_UIDVALIDITY
from huahuo.mailcheck.mailbox.state import Mailbox
from huahuo.mailcheck.roster.state import Roster
from huahuo.mailcheck.row import Row
from huahuo.mailcheck.tables.records import (
    MAIL,
    MAILS,
    SOURCES,
    MailPlace,
    MailRecord,
    mail_key,
    record_key,
)

_ROSTER: Final = "roster"
_MAILBOX: Final = "mailbox"


class OnServer(msgspec.Struct, frozen=True):
    """Where a mail was found. `remote_id`: its id at Graph, "" over IMAP."""

    folder: str
    uidvalidity: int
    uid: int
    remote_id: str = ""


class OwnMails:
    """See the module. Exceptions of the log and the entities pass through."""

    def __init__(self, log: Log, directory: Directory) -> None:
        self._log = log
        self._directory = directory

    async def mailbox(self, user_id: UserId, email_id: int) -> Row | None:
        """A mailbox of this user."""

        def look(_seq: int, state: Roster) -> Row | None:
            return state.rows.get(email_id)

        row: Row | None = await self._directory.ask(_ROSTER, user_id, Query(look))
        return row

    async def owner(self, email_id: int) -> UserId | None:
        """Whose mailbox this is, None if there is none: for administrators."""

        def look(_seq: int, state: Mailbox) -> UserId | None:
            return state.user_id if state.exists else None

        owner: UserId | None = await self._directory.ask(_MAILBOX, email_id, Query(look))
        return owner

    async def record(self, user_id: UserId, mail_id: int) -> MailRecord | None:
        """A mail of this user. Records outlive their mailbox for a while; the roster says what there is."""
        found = None if mail_id < 0 else await self._log.row(MAIL, "", mail_key(mail_id))
        if found is None:
            return None
        place = msgspec.json.decode(found, type=MailPlace)
        if place.user_id != user_id or await self.mailbox(user_id, place.email_id) is None:
            return None
        value = await self._log.row(MAILS, str(place.email_id), record_key(place.received_ms, mail_id))
        return None if value is None else msgspec.json.decode(value, type=MailRecord)

    async def source(self, record: MailRecord) -> bytes | None:
        """The whole mail, where it is kept here because it came from a file. Raises Corrupt."""
        blob = await self._log.row(SOURCES, str(record.email_id), mail_key(record.mail_id))
        return None if blob is None else await self._log.blob(blob.decode())


def on_server(record: MailRecord) -> OnServer | None:
    """Where the mail was found last; None if it never was on a server."""
    if record.uidvalidity == GRAPH_UIDVALIDITY and not record.remote_id:
        return None
    return OnServer(record.folder, record.uidvalidity, record.uid, record.remote_id or "")
