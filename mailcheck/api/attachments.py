"""`get_attachment`: one file of a mail, fetched from the mail server when a user asks for it."""

import base64
from collections.abc import Awaitable, Callable
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from huahuo.actors.plugins.actions import Action, Id
from huahuo.actors.plugins.calls import Call, Refusal, Reply, error_reply
from huahuo.actors.plugins.principal import UserId
from huahuo.eventstore.executor import Executor
from huahuo.mailcheck.checks.mailboxes import Mailboxes
from huahuo.mailcheck.checks.one_mail import Wanted
from huahuo.mailcheck.checks.ports import CheckFailed
from huahuo.mailcheck.checks.run import CheckMailbox
from huahuo.mailcheck.mime.mail import Attachment, attachment_at
from huahuo.mailcheck.tables.records import MailRecord

BYTES_MAX: Final = 10 * 1024 * 1024
"""A reply may have 16 MiB, and base64 makes four bytes of three."""
_AT_ONCE_MAX: Final = 8
_INDEX_MAX: Final = 200

type Records = Callable[[UserId, int], Awaitable[MailRecord | None]]


class AttachmentParams(msgspec.Struct, frozen=True):
    """Fields of `get_attachment`. `index` counts the list of `get_mail` from 0."""

    mail_id: Id
    index: Annotated[int, Meta(ge=0, le=_INDEX_MAX)]


class File(msgspec.Struct, tag="attachment", tag_field="type", rename={"media_type": "content_type"}):
    """The reply."""

    mail_id: int
    index: int
    name: str
    media_type: str
    size: int
    data: str


class Attachments:
    """See the module."""

    def __init__(
        self, records: Records, mailboxes: Mailboxes, fetch: CheckMailbox, executor: Executor
    ) -> None:
        self._records = records
        self._mailboxes = mailboxes
        self._fetch = fetch
        self._executor = executor
        self._running = 0

    def actions(self) -> list[Action]:
        """The action."""
        return [Action("get_attachment", AttachmentParams, self._get_attachment, query=True)]

    async def _get_attachment(self, call: Call[AttachmentParams]) -> Reply:
        params = call.params
        record = await self._records(call.principal.user_id, params.mail_id)
        if record is None:
            return error_reply(Refusal("not_found", f"邮件ID {params.mail_id} 不存在或您没有权限"))
        if self._running >= _AT_ONCE_MAX:
            return error_reply(Refusal("busy", "服务繁忙，请稍后重试", retry_s=2.0))
        self._running += 1
        try:
            raw = await self._raw(record)
        except CheckFailed as failed:
            return error_reply(Refusal("unavailable", failed.outcome.said, failed.outcome.advice))
        finally:
            self._running -= 1
        if raw is None:
            return error_reply(Refusal("not_found", "邮件已不在邮箱服务器上", "moved or deleted there"))
        found = await self._executor.run(lambda: _encoded(raw, params.index))
        if found is None:
            return error_reply(Refusal("not_found", "附件不存在", "index"))
        attachment, data = found
        if not data and attachment.size:
            return error_reply(Refusal("too_large", "附件太大", f"more than {BYTES_MAX} bytes"))
        file = File(params.mail_id, params.index, attachment.name, attachment.type, attachment.size, data)
        return Reply(msgspec.json.encode(file))

    async def _raw(self, record: MailRecord) -> bytes | None:
        if not record.uid:
            return None  # an earlier version did not keep its place
        standing = await self._mailboxes.standing(record.email_id)
        if standing.plan is None:
            return None
        wanted = Wanted(record)
        await self._fetch(record.email_id, standing.plan, wanted)
        return wanted.raw


def _encoded(raw: bytes, index: int) -> tuple[Attachment, str] | None:
    """An attachment and its content; the content is empty if it is too large."""
    found = attachment_at(raw, index, BYTES_MAX)
    if found is None:
        return None
    attachment, content = found
    if len(content) > BYTES_MAX:
        return attachment, ""
    return msgspec.structs.replace(attachment, size=len(content)), base64.b64encode(content).decode("ascii")
