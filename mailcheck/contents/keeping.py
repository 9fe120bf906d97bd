"""Storing the contents of mails of which only headers were read. A mail that has its content keeps it."""

from collections.abc import Mapping

import msgspec

from huahuo.eventstore.port import Log
from huahuo.mailcheck.checks.known import KnownMails
from huahuo.mailcheck.checks.mailboxes import Mailboxes
from huahuo.mailcheck.mailbox.commands import Content, KeepContents, NoMailbox
from huahuo.mailcheck.tables.records import MAIL, MAILS, MailPlace, MailRecord, mail_key, record_key


class Keeping:
    """See the module. Exceptions of the log and the entities pass through."""

    def __init__(self, log: Log, mailboxes: Mailboxes, known: KnownMails) -> None:
        self._log = log
        self._mailboxes = mailboxes
        self._known = known

    async def keep(self, email_id: int, contents: Mapping[int, tuple[bytes, bool]]) -> bool:
        """Store (content, whether there are attachments) by mail id. False: the mailbox was deleted."""
        async with self._known.storing(email_id):  # a check may move their records meanwhile
            found = [
                Content(*stored, content, has_attachments)
                for mail_id, (content, has_attachments) in contents.items()
                if (stored := await self._missing(mail_id)) is not None
            ]
            if not found:
                return True
            answer = await self._mailboxes.tell(email_id, KeepContents(tuple(found)))
        return not isinstance(answer.reply, NoMailbox)

    async def _missing(self, mail_id: int) -> tuple[MailRecord, int] | None:
        """The record of a mail without content, and when it was received."""
        place = await self._log.row(MAIL, "", mail_key(mail_id))
        if place is None:
            return None
        at = msgspec.json.decode(place, type=MailPlace)
        row = await self._log.row(MAILS, str(at.email_id), record_key(at.received_ms, mail_id))
        record = None if row is None else msgspec.json.decode(row, type=MailRecord)
        return None if record is None or record.blob else (record, at.received_ms)
