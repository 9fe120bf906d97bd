"""Queries about the mails of a user: a mailbox's list, and one mail with its content."""

import msgspec

from huahuo.actors.plugins.actions import Action
from huahuo.actors.plugins.calls import Call, Refusal, Reply, error_reply
from huahuo.eventstore.port import Log
from huahuo.mailcheck.api.params import MailParams, MailRecordsParams
from huahuo.mailcheck.api.unread import UnreadMails
from huahuo.mailcheck.attachments.own_mails import OwnMails
from huahuo.mailcheck.checks.ports import CheckFailed
from huahuo.mailcheck.contents.opening import Opening
from huahuo.mailcheck.replies import Mail, MailRecords, Record
from huahuo.mailcheck.tables.records import MAILS, MailRecord, page_key, page_token
from huahuo.mailcheck.words import zh


class MailQueries:
    """See the module."""

    def __init__(self, log: Log, own: OwnMails, opening: Opening) -> None:
        self._log = log
        self._own = own
        self._opening = opening

    def actions(self) -> list[Action]:
        """The actions."""
        return [
            Action("get_mail_records", MailRecordsParams, self._records, query=True),
            Action("get_mail", MailParams, self._mail, query=True),
        ]

    async def _records(self, call: Call[MailRecordsParams]) -> Reply:
        params = call.params
        email_id, limit = params.email_id, params.limit
        before = None if params.before is None else page_key(params.before)
        if params.before is not None and before is None:
            return error_reply(Refusal("invalid_field", zh.INVALID_FIELD, "before"))
        if await self._own.mailbox(call.principal.user_id, email_id) is None:
            return error_reply(Refusal("not_found", zh.NO_MAILBOX.format(email_id)))
        if params.sort == "received_time":
            rows = await self._log.rows(MAILS, str(email_id), after=before or b"", limit=limit + 1)
        else:
            rows = await self._log.rows(MAILS, str(email_id), before=before, limit=limit + 1)
        unread = UnreadMails(self._log)
        found = [msgspec.json.decode(value, type=MailRecord) for _, value in rows[:limit]]
        records = [Record.of(record, unread=await unread.has(record)) for record in found]
        following = page_token(rows[limit - 1][0]) if len(rows) > limit else None
        return Reply(msgspec.json.encode(MailRecords(email_id, records, following)))

    async def _mail(self, call: Call[MailParams]) -> Reply:
        mail_id = call.params.mail_id
        record = await self._own.record(call.principal.user_id, mail_id)
        try:
            content = None if record is None else await self._opening.content(record)
        except CheckFailed as failed:
            return error_reply(Refusal("unavailable", failed.outcome.said))
        except TimeoutError:
            return error_reply(Refusal("unavailable", zh.SERVER_TOO_SLOW))
        if record is None or content is None:
            return error_reply(Refusal("not_found", zh.NO_MAIL.format(mail_id)))
        return Reply(msgspec.json.encode(Mail.with_content(record, content)))
