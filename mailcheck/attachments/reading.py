"""`get_attachment` and `get_source`: an attached file, or a mail as it was sent, read from the mail server.

A mail that came from a file is kept whole, if it has attachments: no server has it.
"""

from base64 import b64encode
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, Final, Protocol

import msgspec
from msgspec import Meta

from huahuo.actors.plugins.actions import Action, Id
from huahuo.actors.plugins.calls import Call, Refusal, Reply, error_reply, json_reply
from huahuo.actors.plugins.principal import UserId
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.executor import Executor
from huahuo.mailcheck.attachments.asking import Asking
from huahuo.mailcheck.attachments.one_mail import Wanted
from huahuo.mailcheck.attachments.own_mails import OwnMails, on_server
from huahuo.mailcheck.checks.ports import Ok, Sink
from huahuo.mailcheck.fetched import INBOX, UidCursor
from huahuo.mailcheck.mailbox.commands import Plan
from huahuo.mailcheck.mime.mail import attached
from huahuo.mailcheck.tables.records import MailRecord
from huahuo.mailcheck.words import en, zh

CONTENT_BYTES_MAX: Final = 11 << 20
"""Of a file: as text it must fit into one reply."""
_GONE: Final = zh.MAIL_GONE


class AttachmentParams(msgspec.Struct, frozen=True):
    """Fields of `get_attachment`. `index`: its place in the mail's list, from 0."""

    mail_id: Id
    index: Annotated[int, Meta(ge=0, le=1_000)]


class SourceParams(msgspec.Struct, frozen=True):
    """Fields of `get_source`."""

    mail_id: Id


class ReadMail(Protocol):
    """`SigningIn.check` with `OneMail` in place of a check."""

    async def __call__(self, email_id: int, plan: Plan, sink: Sink) -> Ok:
        """See `SigningIn.check`."""
        ...


class Attachments:
    """See the module. `plan_of`: how a mailbox is reached, None if there is none."""

    def __init__(
        self,
        mails: OwnMails,
        read: ReadMail,
        plan_of: Callable[[int], Awaitable[Plan | None]],
        executor: Executor,
        ambient: Ambient,
    ) -> None:
        self._mails = mails
        self._read = read
        self._plan_of = plan_of
        self._executor = executor
        self._asking = Asking(ambient, zh.READING_ALREADY, en.READ_AT_ONCE)

    def actions(self) -> list[Action]:
        """The actions."""
        return [
            Action("get_attachment", AttachmentParams, self._get, query=True),
            Action("get_source", SourceParams, self._get_source, query=True),
        ]

    async def _get(self, call: Call[AttachmentParams]) -> Reply:
        return await self._asking.answer(call.principal.name, partial(self._found, call))

    async def _get_source(self, call: Call[SourceParams]) -> Reply:
        return await self._asking.answer(call.principal.name, partial(self._whole, call))

    async def _on_server(self, record: MailRecord, plan: Plan) -> bytes | None:
        place = on_server(record)
        if place is None:
            return None
        wanted = Wanted(place.remote_id)
        cursor = UidCursor(place.folder, place.uidvalidity, place.uid)
        await self._read(record.email_id, msgspec.structs.replace(plan, cursors={INBOX: cursor}), wanted)
        return wanted.source

    async def _source(self, user_id: UserId, mail_id: int) -> bytes | Refusal:
        record = await self._mails.record(user_id, mail_id)
        plan = None if record is None else await self._plan_of(record.email_id)
        if record is None or plan is None:
            return Refusal("not_found", zh.NO_MAIL.format(mail_id))
        source = await self._mails.source(record) or await self._on_server(record, plan)
        return Refusal("not_found", _GONE) if source is None else source

    async def _whole(self, call: Call[SourceParams]) -> Reply:
        mail_id = call.params.mail_id
        source = await self._source(call.principal.user_id, mail_id)
        if isinstance(source, Refusal):
            return error_reply(source)
        if len(source) > CONTENT_BYTES_MAX:
            return error_reply(Refusal("too_large", zh.ATTACHMENT_TOO_LARGE, f"{CONTENT_BYTES_MAX} bytes"))
        encoded = await self._executor.run(lambda: b64encode(source).decode())
        return json_reply({"type": "source", "mail_id": mail_id, "size": len(source), "data": encoded})

    async def _found(self, call: Call[AttachmentParams]) -> Reply:
        params = call.params
        source = await self._source(call.principal.user_id, params.mail_id)
        if isinstance(source, Refusal):
            return error_reply(source)
        file = await self._executor.run(lambda: attached(source, params.index, CONTENT_BYTES_MAX))
        if file is None:
            return error_reply(Refusal("not_found", zh.NO_ATTACHMENT, "index"))
        about, content = file
        if len(content) > CONTENT_BYTES_MAX:
            return error_reply(Refusal("too_large", zh.ATTACHMENT_TOO_LARGE, f"{CONTENT_BYTES_MAX} bytes"))
        encoded = await self._executor.run(lambda: b64encode(content).decode())
        return json_reply(
            {
                "type": "attachment",
                "mail_id": params.mail_id,
                "index": params.index,
                "name": about.name,
                "content_type": about.type,
                "size": len(content),
                "data": encoded,
            }
        )
