"""`add_mail`: a mail from a file, added to the mails of a mailbox's server.

It lies in a folder of its own, `UPLOADED`, and the server never hears of it. A check that finds the same mail
on the server takes it for this one.
"""

from base64 import b64decode
from binascii import Error
from typing import Annotated, Final

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from huahuo.actors.plugins.actions import Action, Id
from huahuo.actors.plugins.calls import Call, Refusal, Reply, error_reply, json_reply
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.executor import Executor
from huahuo.mailcheck.attachments.own_mails import OwnMails
from huahuo.mailcheck.checks.fetching import RawMail
from huahuo.mailcheck.checks.known import KnownMails
from huahuo.mailcheck.checks.mailboxes import Mailboxes
from huahuo.mailcheck.checks.reading import fetched_mail
from huahuo.mailcheck.fetched import GRAPH_UIDVALIDITY, UPLOADED, FetchedMail, UidCursor
from huahuo.mailcheck.mailbox.commands import MailsSeen
from huahuo.mailcheck.mailbox.identity import digest_of
from huahuo.mailcheck.mime.outlook import MAGIC, mail_of_outlook
from huahuo.mailcheck.words import zh

MAIL_BYTES_MAX: Final = 10 << 20


class AddMailParams(msgspec.Struct, frozen=True):
    """Fields of `add_mail`. `data`: the mail as it is in its file (`.eml`, or `.msg`), in base64."""

    email_id: Id
    data: Annotated[str, Meta(max_length=4 * MAIL_BYTES_MAX // 3 + 4)]


class AddingMails:
    """See the module."""

    def __init__(
        self,
        own: OwnMails,
        mailboxes: Mailboxes,
        known: KnownMails,
        executor: Executor,
        ambient: Ambient,
        *,
        codes: bool,
    ) -> None:
        self._own = own
        self._mailboxes = mailboxes
        self._known = known
        self._executor = executor
        self._ambient = ambient
        self._codes = codes

    def actions(self) -> list[Action]:
        """The action."""
        return [Action("add_mail", AddMailParams, self._add)]

    async def _add(self, call: Call[AddMailParams]) -> Reply:
        email_id = call.params.email_id
        if await self._own.mailbox(call.principal.user_id, email_id) is None:
            return error_reply(Refusal("not_found", zh.NO_MAILBOX.format(email_id)))
        data, now_ms = call.params.data, self._ambient.now_ms()
        mail = await self._executor.run(lambda: mail_of(data, now_ms, codes=self._codes))
        if mail is None:
            return error_reply(Refusal("invalid_field", zh.NOT_A_MAIL, "data"))
        plan = await self._mailboxes.plan_of(email_id)
        if plan is None:
            return error_reply(Refusal("not_found", zh.NO_MAILBOX.format(email_id)))
        async with self._known.storing(email_id):
            equals = await self._known.equal_to(email_id, plan, [mail])
            if equals[digest_of(mail)].mails:
                known = equals[digest_of(mail)].mails[0].mail_id
                return json_reply({"type": "success", "message": zh.MAIL_KNOWN, "mail_id": known})
            seen = MailsSeen((mail,), UidCursor(UPLOADED, GRAPH_UIDVALIDITY, 1))
            await self._mailboxes.tell(email_id, seen, principal=call.principal.name)
            stored = await self._known.equal_to(email_id, plan, [mail])
        mails = stored[digest_of(mail)].mails
        return json_reply(
            {
                "type": "success",
                "message": zh.MAIL_ADDED,
                "mail_id": mails[-1].mail_id if mails else None,
            }
        )


def mail_of(data: str, now_ms: int, *, codes: bool) -> FetchedMail | None:
    """The mail in a file, None if it has neither a subject, a sender nor a Message-ID."""
    try:
        source = b64decode(data, validate=True)
        source = mail_of_outlook(source) if source.startswith(MAGIC) else source
    except (Error, ValueError):
        return None
    raw = RawMail(1, len(source), None, source, truncated=False)
    mail = fetched_mail(raw, GRAPH_UIDVALIDITY, now_ms, codes=codes, folder=UPLOADED)
    if not (mail.subject or mail.sender or mail.message_id):
        return None
    return replace(mail, source=source) if mail.has_attachments else mail
