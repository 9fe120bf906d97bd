"""What mail keeps of one user: all of it removed, or all of it given out."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from itertools import batched
from typing import Final, Protocol

import msgspec

from huahuo.actors.entities.decider import Origin
from huahuo.actors.entities.directory import Directory
from huahuo.actors.entities.entity import Execute, Query
from huahuo.actors.plugins.plugin import Forgotten
from huahuo.actors.plugins.principal import UserId
from huahuo.eventstore.port import Log
from huahuo.mailcheck.roster.commands import DeleteEmails, SetGroupProxy
from huahuo.mailcheck.roster.state import Roster
from huahuo.mailcheck.streams import mailbox_stream, user_stream
from huahuo.mailcheck.tables.records import GROUP_PROXIES, MAILS, PURGES, MailRecord, email_key

ROSTER: Final = "roster"
SERVICE: Final = "service"
_IDS_A_PART: Final = 200
_LOOK_S: Final = 0.05
_PAGE: Final = 200
_GROUPS_MAX: Final = 10_000
_MAILBOX: Final = "mailbox/"


class Pauses(Protocol):
    """Holds checks of mailboxes back."""

    def hold(self, email_ids: tuple[int, ...]) -> AbstractContextManager[None]: ...  # noqa: D102


class Belongings:
    """See the module."""

    def __init__(self, log: Log, directory: Directory, pauses: Pauses) -> None:
        self._log = log
        self._directory = directory
        self._pauses = pauses

    async def forget(self, user_id: UserId) -> Forgotten:
        """Delete all mailboxes of a user, and wait until nothing is left of their mails and of the index."""

        def cut(_seq: int, state: Roster) -> tuple[int, ...]:
            return tuple(row.id for row in state.cut())

        ids: tuple[int, ...] = await self._directory.ask(ROSTER, user_id, Query(cut))
        for some in batched(ids, _IDS_A_PART):
            with self._pauses.hold(some):
                await self._directory.ask(ROSTER, user_id, Execute(DeleteEmails(some), Origin(SERVICE)))
        for _, group in await self._log.rows(GROUP_PROXIES, str(user_id), limit=_GROUPS_MAX):
            taken = Execute(SetGroupProxy(group.decode(), None), Origin(SERVICE))
            await self._directory.ask(ROSTER, user_id, taken)
        every = await mailboxes_of(self._log, user_id)
        for email_id in every:
            key = email_key(email_id)
            gone = await self._log.row(PURGES, "", key) is None
            while not gone:
                await asyncio.sleep(_LOOK_S)
                gone = await self._log.row(PURGES, "", key) is None
        streams = (f"{ROSTER}/{user_id}", *(mailbox_stream(one) for one in every))
        return Forgotten({"mailboxes": len(ids)}, streams)


async def mailboxes_of(log: Log, user_id: UserId) -> list[int]:
    """Every mailbox that the user's stream tells of, also those that were deleted."""
    found: dict[int, None] = {}
    stream, after = user_stream(user_id), 0
    while page := await log.read(stream, after, events_max=_PAGE):
        after = page[-1].seq
        for event in page:
            if event.entity.startswith(_MAILBOX):
                found[int(event.entity.removeprefix(_MAILBOX))] = None
    return list(found)


async def belongings(log: Log, user_id: UserId) -> AsyncIterator[tuple[str, bytes]]:
    """The mails of a user as files: names, and JSON with the record and the content. See `Past`."""
    for email_id in await mailboxes_of(log, user_id):
        before: bytes | None = None
        while rows := await log.rows(MAILS, str(email_id), before=before, limit=_PAGE):
            for _, value in rows:
                record = msgspec.json.decode(value, type=MailRecord)
                content = await log.blob(record.blob) if record.blob else None  # only its headers were read
                told = msgspec.to_builtins(record)
                told["content"] = None if content is None else content.decode("utf-8", "replace")
                yield f"mails/{email_id}/{record.mail_id}.json", msgspec.json.encode(told)
            before = rows[-1][0]
