"""`search_mails`: a page of the mails of a user that have these words and fit these fields.

The index knows the owner of each mail as a key, and every match is held against the user's own mailboxes
once more. Nothing of another user is read on the way.
"""

import asyncio
import math
import re
from collections.abc import Awaitable, Callable, Container, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from huahuo.actors.entities.directory import Directory
from huahuo.actors.entities.entity import Query
from huahuo.actors.plugins.actions import Action
from huahuo.actors.plugins.calls import Call, Refusal, Reply, error_reply
from huahuo.actors.plugins.principal import UserId
from huahuo.eventstore.fulltext.asking import parse
from huahuo.eventstore.fulltext.index import ONE_OF_MAX, Unusable
from huahuo.eventstore.fulltext.model import Ask, Found
from huahuo.eventstore.port import Log
from huahuo.mailcheck.api.params import SearchParams
from huahuo.mailcheck.api.unread import UnreadMails
from huahuo.mailcheck.finding.entries import MARKS, WITH_ATTACHMENTS, WITH_CODE, mailbox_key, owner_key
from huahuo.mailcheck.finding.index import MailIndex
from huahuo.mailcheck.listing.asked import Filter
from huahuo.mailcheck.replies import FoundRecord, MailsFound, Record
from huahuo.mailcheck.roster.state import Roster
from huahuo.mailcheck.row import Row
from huahuo.mailcheck.tables.records import (
    MAIL,
    MAILS,
    PURGES,
    MailRecord,
    mail_key,
    number_of,
    record_key,
)
from huahuo.mailcheck.words import en, zh

ROSTER: Final = "roster"
EXAMINED_MAX: Final = 4_000
"""Matches of which one page looks at the mailbox. If few are in a wanted one, the page is short and `next`
continues."""
_AT_ONCE: Final = 500
_GONE_MAX: Final = 64
"""Deleted mailboxes that the index passes over; it forgets their mails one by one. Mails of further ones are
sifted here."""
_ROWS_A_STEP: Final = 4_096

_record: Final = msgspec.json.Decoder(MailRecord).decode
_NEXT: Final = re.compile(r"[0-9]{1,18}")
"""A number that SQLite has."""


class Searching:
    """Answers `search_mails`."""

    def __init__(self, log: Log, directory: Directory, index: MailIndex) -> None:
        self._log = log
        self._directory = directory
        self._index = index

    def actions(self) -> list[Action]:
        """See the module."""
        return [Action("search_mails", SearchParams, self.search, query=True)]

    async def search(self, call: Call[SearchParams]) -> Reply:
        """A page of what is found."""
        user_id, params = call.principal.user_id, call.params
        words = parse(params.query, MARKS)
        if words is None:
            return _invalid("query", en.WORDS_WANTED)
        times = [_ms(one) for one in (params.since, params.until)]
        for name, given in zip(("since", "until"), times, strict=True):
            if given is not None and math.isnan(given):
                return _invalid(name, en.TIME_WANTED)
        if params.before is not None and not _NEXT.fullmatch(params.before):
            return _invalid("before", en.NO_NEXT_OF_SEARCH)
        chosen = await self._chosen(call)
        if chosen is not None and not chosen:
            return _answered([], None, self._index.lag)
        few = chosen is not None and len(chosen) <= ONE_OF_MAX
        gone = await self._log.rows(PURGES, "", limit=_GONE_MAX)
        marks = ((params.has_code, WITH_CODE), (params.has_attachments, WITH_ATTACHMENTS))
        ask = Ask(
            words=words,
            keys=(owner_key(user_id), *(key for wanted, key in marks if wanted is True)),
            without=(
                *(key for wanted, key in marks if wanted is False),
                *(mailbox_key(number_of(key)) for key, _ in gone),
            ),
            one_of=tuple(mailbox_key(one) for one in chosen or ()) if few else (),
            since_ms=None if times[0] is None else int(times[0]),
            until_ms=None if times[1] is None else int(times[1]),
            after=None if params.before is None else int(params.before),
            oldest_first=params.sort == "received_time",
            limit=params.limit + 1 if (few or chosen is None) and params.unread is None else _AT_ONCE,
        )
        unread = UnreadMails(self._log)

        async def admits(one: Found) -> bool:
            if params.unread is None:
                return True
            row = await self._log.row(MAILS, str(one.part), record_key(one.at_ms, one.item))
            return row is not None and await unread.has(_record(row)) is params.unread

        try:
            found, owned, following = await self._page(ask, user_id, chosen, params.limit, admits)
        except Unusable:
            return error_reply(Refusal("busy", zh.INDEX_ANEW, en.INDEX_MADE))
        sign = 1 if ask.oldest_first else -1
        found.sort(key=lambda one: (sign * one.at_ms, sign * one.item))
        rows = await asyncio.gather(
            *(self._log.row(MAILS, str(one.part), record_key(one.at_ms, one.item)) for one in found)
        )
        records = [_record(row) for row in rows if row is not None]
        if await self._leads_elsewhere(
            [one for one, row in zip(found, rows, strict=True) if row is None], owned
        ):
            await self._index.mend()
            return error_reply(Refusal("busy", zh.INDEX_ANEW, en.INDEX_MADE))
        mails = [
            _found(record, owned, unread=await unread.has(record))
            for record in records
            if record.email_id in owned
        ]
        return _answered(mails, following, self._index.lag)

    async def _page(
        self,
        ask: Ask,
        user_id: UserId,
        wanted: Container[int] | None,
        limit: int,
        admits: Callable[[Found], Awaitable[bool]],
    ) -> tuple[list[Found], dict[int, str], int | None]:
        """The next matches in wanted mailboxes, their addresses, and where the next page begins.

        `wanted` None: in all of the owner's. One match of each mailbox that is gone comes at the end.
        """
        kept: list[Found] = []
        owned: dict[int, str] = {}
        gone: dict[int, Found] = {}
        examined, last = 0, ask.after
        while True:
            some = await self._index.find(msgspec.structs.replace(ask, after=last))
            owned |= await self._addresses(user_id, {one.part for one in some})
            for one in some:
                if len(kept) == limit:
                    return [*kept, *gone.values()], owned, last
                last = one.number
                examined += 1
                if one.part not in owned:
                    gone[one.part] = one
                elif (wanted is None or one.part in wanted) and await admits(one):
                    kept.append(one)
            if len(some) < ask.limit:
                return [*kept, *gone.values()], owned, None
            if examined >= EXAMINED_MAX or len(kept) == limit:
                return [*kept, *gone.values()], owned, last

    async def _leads_elsewhere(self, without: Sequence[Found], owned: Container[int]) -> bool:
        """Whether one of these matches without a record is not of a mailbox that was deleted."""
        for one in without:
            if one.part in owned or await self._log.row(MAIL, "", mail_key(one.item)) is not None:
                return True
        return False

    async def _addresses(self, user_id: UserId, email_ids: set[int]) -> dict[int, str]:
        """The addresses of those of these mailboxes that the user has."""

        def look(_seq: int, state: Roster) -> dict[int, str]:
            return {number: state.rows[number].email for number in email_ids if number in state.rows}

        found: dict[int, str] = await self._directory.ask(ROSTER, user_id, Query(look))
        return found

    async def _chosen(self, call: Call[SearchParams]) -> set[int] | None:
        """The user's mailboxes that the question is limited to, None: it is not."""
        params = call.params
        limited = Filter(tag=params.tag, group=params.group).admits()
        named = None if params.email_ids is None else frozenset(params.email_ids)
        if limited is None and named is None:
            return None

        def cut(_seq: int, state: Roster) -> tuple[Row, ...]:
            return state.cut()

        rows: tuple[Row, ...] = await self._directory.ask(ROSTER, call.principal.user_id, Query(cut))
        chosen: set[int] = set()
        for number, row in enumerate(rows, start=1):
            if (limited is None or limited(row)) and (named is None or row.id in named):
                chosen.add(row.id)
            if not number % _ROWS_A_STEP:
                await asyncio.sleep(0)
        return chosen


def _found(record: MailRecord, owned: dict[int, str], *, unread: bool) -> FoundRecord:
    fields = msgspec.structs.asdict(Record.of(record, unread=unread))
    return FoundRecord(**fields, email=owned[record.email_id])


def _answered(mails: list[FoundRecord], following: int | None, behind: int) -> Reply:
    token = None if following is None else str(following)
    return Reply(msgspec.json.encode(MailsFound(mails, token, behind)))


def _ms(text: str | None) -> float | None:
    """Milliseconds since 1970, not a number for a text that is no time. A time without a zone is UTC."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return math.nan
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000


def _invalid(name: str, details: str) -> Reply:
    return error_reply(Refusal("invalid_field", zh.FIELD.format(name), details))
