"""The content of one mail: from the log, or from its server if only its headers were read so far."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import msgspec

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.deadline import Deadline
from huahuo.eventstore.executor import Executor
from huahuo.eventstore.port import Log
from huahuo.mailcheck.attachments.one_mail import Wanted
from huahuo.mailcheck.attachments.own_mails import on_server
from huahuo.mailcheck.attachments.reading import ReadMail
from huahuo.mailcheck.contents.keeping import Keeping
from huahuo.mailcheck.fetched import INBOX, UidCursor
from huahuo.mailcheck.mailbox.commands import Plan
from huahuo.mailcheck.mime.mail import content_document, parse_mail
from huahuo.mailcheck.tables.records import MailRecord

AT_ONCE: Final = 16
"""Mails that are read from servers at once. Each is a connection, and memory for a mail."""
_TIMEOUT_S: Final = 60.0


class Opening:
    """See the module. `plan_of`: how a mailbox is reached, None if there is none."""

    def __init__(
        self,
        log: Log,
        read: ReadMail,
        plan_of: Callable[[int], Awaitable[Plan | None]],
        keeping: Keeping,
        executor: Executor,
        ambient: Ambient,
    ) -> None:
        self._log = log
        self._read = read
        self._plan_of = plan_of
        self._keeping = keeping
        self._executor = executor
        self._ambient = ambient
        self._places = asyncio.Semaphore(AT_ONCE)

    async def content(self, record: MailRecord) -> bytes | None:
        """The content, None if the mail is nowhere any more.

        Raises:
            CheckFailed, TimeoutError: it is only on its server, which did not give it.
        """
        if record.blob:
            return await self._log.blob(record.blob)
        async with self._places, Deadline(self._ambient, _TIMEOUT_S):
            source = await self._source(record)
        if source is None:
            return None
        mail = await self._executor.run(partial(parse_mail, source))
        content = await self._executor.run(partial(content_document, mail, truncated=False))
        await self._keeping.keep(record.email_id, {record.mail_id: (content, mail.has_attachments)})
        return content

    async def _source(self, record: MailRecord) -> bytes | None:
        plan = await self._plan_of(record.email_id)
        place = on_server(record)
        if plan is None or place is None:
            return None
        wanted = Wanted(place.remote_id)
        cursor = UidCursor(place.folder, place.uidvalidity, place.uid)
        await self._read(record.email_id, msgspec.structs.replace(plan, cursors={INBOX: cursor}), wanted)
        return wanted.source
