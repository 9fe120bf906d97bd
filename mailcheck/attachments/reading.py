"""`get_attachment`: one attached file, read from the mail server when it is asked for.

A mail that came from a file is kept whole, if it has attachments: no server has it.
"""

from base64 import b64encode
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Annotated, Final, Protocol

import msgspec
from msgspec import Meta

from huahuo.actors.plugins.actions import Action, Id
from huahuo.actors.plugins.calls import Call, Refusal, Reply, error_reply, json_reply
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.deadline import Deadline
from huahuo.eventstore.executor import Executor
from huahuo.mailcheck.attachments.one_mail import Wanted
from huahuo.mailcheck.attachments.own_mails import OwnMails
from huahuo.mailcheck.checks.ports import CheckFailed, Ok, Sink
from huahuo.mailcheck.fetched import INBOX, UidCursor
from huahuo.mailcheck.mailbox.commands import Plan
from huahuo.mailcheck.mime.mail import attached
from huahuo.mailcheck.tables.records import MailRecord
from huahuo.mailcheck.words import zh

CONTENT_BYTES_MAX: Final = 11 << 20
"""Of a file: as text it must fit into one reply."""
AT_ONCE: Final = 2
"""Files that one user reads at once. A query that waits for a mail server holds one of the user's turns."""
_TIMEOUT_S: Final = 60.0
_GONE: Final = zh.MAIL_GONE


class AttachmentParams(msgspec.Struct, frozen=True):
    """Fields of `get_attachment`. `index`: its place in the mail's list, from 0."""

    mail_id: Id
    index: Annotated[int, Meta(ge=0, le=1_000)]


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
        self._ambient = ambient
        self._running: Counter[str] = Counter()

    def actions(self) -> list[Action]:
        """The action."""
        return [Action("get_attachment", AttachmentParams, self._get, query=True)]

    async def _get(self, call: Call[AttachmentParams]) -> Reply:
        user = call.principal.name
        if self._running[user] >= AT_ONCE:
            return error_reply(Refusal("busy", zh.READING_ALREADY, "two are read at once"))
        self._running[user] += 1
        try:
            async with Deadline(self._ambient, _TIMEOUT_S):
                return await self._found(call)
        except CheckFailed as failed:
            return error_reply(Refusal("unavailable", failed.outcome.said))
        except TimeoutError:
            return error_reply(Refusal("unavailable", zh.SERVER_TOO_SLOW))
        finally:
            self._running[user] -= 1
            if not self._running[user]:
                del self._running[user]

    async def _on_server(self, record: MailRecord, plan: Plan) -> bytes | None:
        place = await self._mails.on_server(record)
        if place is None:
            return None
        wanted = Wanted(place.remote_id)
        cursor = UidCursor(place.folder, place.uidvalidity, place.uid)
        await self._read(record.email_id, msgspec.structs.replace(plan, cursors={INBOX: cursor}), wanted)
        return wanted.source

    async def _found(self, call: Call[AttachmentParams]) -> Reply:
        params = call.params
        record = await self._mails.record(call.principal.user_id, params.mail_id)
        plan = None if record is None else await self._plan_of(record.email_id)
        if record is None or plan is None:
            return error_reply(Refusal("not_found", zh.NO_MAIL.format(params.mail_id)))
        source = await self._mails.source(record) or await self._on_server(record, plan)
        if source is None:
            return error_reply(Refusal("not_found", _GONE))
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
