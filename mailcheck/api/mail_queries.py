"""Queries about the mails of a user: a mailbox's list, and one mail with its content."""

import msgspec

from huahuo.actors.plugins.actions import Action
from huahuo.actors.plugins.calls import Call, Refusal, Reply, error_reply
from huahuo.eventstore.port import Log
from huahuo.mailcheck.api.params import RECORDS_MAX, MailParams, MailRecordsParams
from huahuo.mailcheck.api.unread import UnreadMails
from huahuo.mailcheck.attachments.own_mails import OwnMails
from huahuo.mailcheck.checks.ports import CheckFailed
from huahuo.mailcheck.contents.opening import Opening
from huahuo.mailcheck.replies import Mail, MailRecords, Record
from huahuo.mailcheck.tables.records import MAILS, MailRecord, page_key, page_token
from huahuo.mailcheck.words import zh

_STEPS_MAX = 20
"""Stretches of mails that one page looks at for mails to one address. Then `next` continues."""


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
        email_id = params.email_id
        before = None if params.before is None else page_key(params.before)
        if params.before is not None and before is None:
            return error_reply(Refusal("invalid_field", zh.INVALID_FIELD, "before"))
        if await self._own.mailbox(call.principal.user_id, email_id) is None:
            return error_reply(Refusal("not_found", zh.NO_MAILBOX.format(email_id)))
        unread = UnreadMails(self._log)
        found, last = await self._page(params, before)
        records = [Record.of(record, unread=await unread.has(record)) for record in found]
        following = None if last is None else page_token(last)
        return Reply(msgspec.json.encode(MailRecords(email_id, records, following)))

    async def _page(
        self, params: MailRecordsParams, before: bytes | None
    ) -> tuple[list[MailRecord], bytes | None]:
        """The next mails, and the key behind which the page after them begins."""
        part, kept, last = str(params.email_id), list[MailRecord](), before
        limit = RECORDS_MAX if params.to else params.limit + 1
        for _ in range(_STEPS_MAX):
            if params.sort == "received_time":
                rows = await self._log.rows(MAILS, part, after=last or b"", limit=limit)
            else:
                rows = await self._log.rows(MAILS, part, before=last, limit=limit)
            for key, value in rows:
                if len(kept) == params.limit:
                    return kept, last
                record, last = msgspec.json.decode(value, type=MailRecord), key
                if not params.to or record.is_to(params.to):
                    kept.append(record)
            if len(rows) < limit:
                return kept, None
        return kept, last

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
