"""Commands and queries about the mails of a user: a mailbox's list, one mail, `search_mails`, `add_mail`.

The index knows the owner of each mail as a key, and every match is held against the user's own mailboxes
once more. Nothing of another user is read on the way. Unread is what the last reading of each folder saw.
A mail from a file lies in a folder of its own, `UPLOADED`, and the server never hears of it. A check that
finds the same mail on the server takes it for this one.
"""

import asyncio
import math
import re
from base64 import b64decode
from binascii import Error
from collections.abc import Awaitable, Callable, Container, Sequence
from datetime import UTC, datetime
from typing import Annotated, Final

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from huahuo.actors.plugins.actions import Action, Id
from huahuo.actors.plugins.calls import Call, Refusal, Reply, UserId, error_reply, json_reply
from huahuo.eventstore.fulltext.index import ONE_OF_MAX, Unusable
from huahuo.eventstore.fulltext.words import Ask, Found, parse
from huahuo.eventstore.port import Log
from huahuo.mailcheck import en, records, zh
from huahuo.mailcheck.api.contents import Opening
from huahuo.mailcheck.api.mail_index import MailIndex
from huahuo.mailcheck.api.mailbox_list import Filter
from huahuo.mailcheck.api.params import RECORDS_MAX, MailRecordsParams, OfMail, SearchParams
from huahuo.mailcheck.api.rosters import Answering, Rosters
from huahuo.mailcheck.checks.check_effect import CheckFailed
from huahuo.mailcheck.checks.folder_reader import RawMail, fetched_mail
from huahuo.mailcheck.events import GRAPH_UIDVALIDITY, UPLOADED, FetchedMail, UidCursor
from huahuo.mailcheck.mailbox.decider import MailsSeen, digest_of
from huahuo.mailcheck.mime.mail import mail_of_outlook
from huahuo.mailcheck.mime.outlook import MAGIC

_FOLDERS_MAX = 100
_decode = msgspec.json.Decoder(records.Unread).decode


class UnreadMails:
    """For one question: what was read of a mailbox once is remembered."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._folders: dict[int, dict[str, tuple[int, frozenset[int]]]] = {}

    async def has(self, record: records.MailRecord) -> bool:
        """Whether this mail is one of them."""
        folders = self._folders.get(record.email_id)
        if folders is None:
            rows = await self._log.rows(records.UNREAD, str(record.email_id), limit=_FOLDERS_MAX)
            found = [_decode(value) for _, value in rows]
            folders = {one.folder: (one.uidvalidity, one.numbers()) for one in found if one.uids}
            self._folders[record.email_id] = folders
        uidvalidity, uids = folders.get(record.folder, (0, frozenset()))
        return record.uid in uids and record.uidvalidity == uidvalidity


_STEPS_MAX = 20
"""Stretches of mails that one page looks at for mails to one address. Then `next` continues."""


class MailQueries(Answering):
    """Queries about the mails of a user: a mailbox's list, and one mail with its content."""

    def __init__(self, rosters: Rosters, opening: Opening) -> None:
        super().__init__(rosters)
        self._opening = opening

    def actions(self) -> list[Action]:
        """The actions."""
        return [
            Action("get_mail_records", MailRecordsParams, self._records, query=True),
            Action("get_mail", OfMail, self._mail, query=True),
        ]

    async def _records(self, call: Call[MailRecordsParams]) -> Reply:
        params = call.params
        email_id = params.email_id
        before = None if params.before is None else records.page_key(params.before)
        if params.before is not None and before is None:
            return error_reply(Refusal("invalid_field", zh.INVALID_FIELD, "before"))
        if await self._rosters.row(call.principal.user_id, email_id) is None:
            return error_reply(Refusal("not_found", zh.NO_MAILBOX.format(email_id)))
        unread = UnreadMails(self._log)
        found, last = await self._page(params, before)
        listed = [records.Record.of(record, unread=await unread.has(record)) for record in found]
        following = None if last is None else records.page_token(last)
        return Reply(msgspec.json.encode(records.MailRecords(email_id, listed, following)))

    async def _page(
        self, params: MailRecordsParams, before: bytes | None
    ) -> tuple[list[records.MailRecord], bytes | None]:
        """The next mails, and the key behind which the page after them begins."""
        part, kept, last = str(params.email_id), list[records.MailRecord](), before
        limit = RECORDS_MAX if params.to else params.limit + 1
        for _ in range(_STEPS_MAX):
            if params.sort == "received_time":
                rows = await self._log.rows(records.MAILS, part, after=last or b"", limit=limit)
            else:
                rows = await self._log.rows(records.MAILS, part, before=last, limit=limit)
            for key, value in rows:
                if len(kept) == params.limit:
                    return kept, last
                record, last = msgspec.json.decode(value, type=records.MailRecord), key
                if not params.to or record.is_to(params.to):
                    kept.append(record)
            if len(rows) < limit:
                return kept, None
        return kept, last

    async def _mail(self, call: Call[OfMail]) -> Reply:
        mail_id = call.params.mail_id
        record = await self._rosters.mail(call.principal.user_id, mail_id)
        try:
            content = None if record is None else await self._opening.content(record)
        except CheckFailed as failed:
            return error_reply(Refusal("unavailable", failed.outcome.said))
        except TimeoutError:
            return error_reply(Refusal("unavailable", zh.SERVER_TOO_SLOW))
        if record is None or content is None:
            return error_reply(Refusal("not_found", zh.NO_MAIL.format(mail_id)))
        return Reply(msgspec.json.encode(records.Mail.with_content(record, content)))


EXAMINED_MAX: Final = 4_000
"""Matches of which one page looks at the mailbox. If few are in a wanted one, the page is short and `next`
continues."""
_AT_ONCE: Final = 500
_GONE_MAX: Final = 64
"""Deleted mailboxes that the index passes over; it forgets their mails one by one. Mails of further ones are
sifted here."""

_record: Final = msgspec.json.Decoder(records.MailRecord).decode
_NEXT: Final = re.compile(r"[0-9]{1,18}")
"""A number that SQLite has."""


class Searching(Answering):
    """Answers `search_mails`."""

    def __init__(self, rosters: Rosters, index: MailIndex) -> None:
        super().__init__(rosters)
        self._index = index

    def actions(self) -> list[Action]:
        """See the module."""
        return [Action("search_mails", SearchParams, self.search, query=True)]

    async def search(self, call: Call[SearchParams]) -> Reply:
        """A page of what is found."""
        user_id, params = call.principal.user_id, call.params
        words = parse(params.query, records.MARKS)
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
        gone = await self._log.rows(records.PURGES, "", limit=_GONE_MAX)
        marks = ((params.has_code, records.WITH_CODE), (params.has_attachments, records.WITH_ATTACHMENTS))
        ask = Ask(
            words=words,
            keys=(records.owner_key(user_id), *(key for wanted, key in marks if wanted is True)),
            without=(
                *(key for wanted, key in marks if wanted is False),
                *(records.mailbox_key(records.number_of(key)) for key, _ in gone),
            ),
            one_of=tuple(records.mailbox_key(one) for one in chosen or ()) if few else (),
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
            row = await self._log.row(records.MAILS, str(one.part), records.record_key(one.at_ms, one.item))
            return row is not None and await unread.has(_record(row)) is params.unread

        try:
            found, owned, following = await self._page(ask, user_id, chosen, params.limit, admits)
        except Unusable:
            return error_reply(Refusal("busy", zh.INDEX_ANEW, en.INDEX_MADE))
        sign = 1 if ask.oldest_first else -1
        found.sort(key=lambda one: (sign * one.at_ms, sign * one.item))
        rows = await asyncio.gather(
            *(
                self._log.row(records.MAILS, str(one.part), records.record_key(one.at_ms, one.item))
                for one in found
            )
        )
        there = [_record(row) for row in rows if row is not None]
        if await self._leads_elsewhere(
            [one for one, row in zip(found, rows, strict=True) if row is None], owned
        ):
            await self._index.mend()
            return error_reply(Refusal("busy", zh.INDEX_ANEW, en.INDEX_MADE))
        mails = [
            _found(record, owned, unread=await unread.has(record))
            for record in there
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
            if (
                one.part in owned
                or await self._log.row(records.MAIL, "", records.mail_key(one.item)) is not None
            ):
                return True
        return False

    async def _addresses(self, user_id: UserId, email_ids: set[int]) -> dict[int, str]:
        """The addresses of those of these mailboxes that the user has."""
        return await self._rosters.ask(
            user_id,
            lambda _seq, state: {one: state.rows[one].email for one in email_ids if one in state.rows},
        )

    async def _chosen(self, call: Call[SearchParams]) -> set[int] | None:
        """The user's mailboxes that the question is limited to, None: it is not."""
        params = call.params
        chosen = Filter(tag=params.tag, group=params.group)
        named = None if params.email_ids is None else frozenset(params.email_ids)
        if chosen.admits() is None and named is None:
            return None
        return {row.id for row in await self._rosters.admitted(call.principal.user_id, chosen, named)}


def _found(record: records.MailRecord, owned: dict[int, str], *, unread: bool) -> records.FoundRecord:
    fields = msgspec.structs.asdict(records.Record.of(record, unread=unread))
    return records.FoundRecord(**fields, email=owned[record.email_id])


def _answered(mails: list[records.FoundRecord], following: int | None, behind: int) -> Reply:
    token = None if following is None else str(following)
    return Reply(msgspec.json.encode(records.MailsFound(mails, token, behind)))


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


MAIL_BYTES_MAX: Final = 10 << 20


class AddMailParams(msgspec.Struct, frozen=True):
    """Fields of `add_mail`. `data`: the mail as it is in its file (`.eml`, or `.msg`), in base64."""

    email_id: Id
    data: Annotated[str, Meta(max_length=4 * MAIL_BYTES_MAX // 3 + 4)]


class AddingMails(Answering):
    """`add_mail`: a mail from a file, added to the mails of a mailbox's server."""

    def __init__(self, rosters: Rosters, *, codes: bool) -> None:
        super().__init__(rosters)
        self._codes = codes

    def actions(self) -> list[Action]:
        """The action."""
        return [Action("add_mail", AddMailParams, self._add)]

    async def _add(self, call: Call[AddMailParams]) -> Reply:
        email_id = call.params.email_id
        if await self._rosters.row(call.principal.user_id, email_id) is None:
            return error_reply(Refusal("not_found", zh.NO_MAILBOX.format(email_id)))
        data, now_ms = call.params.data, self._ambient.now_ms()
        mail = await self._executor.run(lambda: mail_of(data, now_ms, codes=self._codes))
        if mail is None:
            return error_reply(Refusal("invalid_field", zh.NOT_A_MAIL, "data"))
        plan = await self._mailboxes.plan_of(email_id)
        if plan is None:
            return error_reply(Refusal("not_found", zh.NO_MAILBOX.format(email_id)))
        async with self._mailboxes.storing(email_id):
            equals = await self._mailboxes.equal_to(email_id, plan, [mail])
            if equals[digest_of(mail)].mails:
                known = equals[digest_of(mail)].mails[0].mail_id
                return json_reply({"type": "success", "message": zh.MAIL_KNOWN, "mail_id": known})
            seen = MailsSeen((mail,), UidCursor(UPLOADED, GRAPH_UIDVALIDITY, 1))
            await self._mailboxes.tell(email_id, seen, principal=call.principal.name)
            stored = await self._mailboxes.equal_to(email_id, plan, [mail])
        mails = stored[digest_of(mail)].mails
        mail_id = mails[-1].mail_id if mails else None
        return json_reply({"type": "success", "message": zh.MAIL_ADDED, "mail_id": mail_id})


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
