"""The domain's commands and queries as the transport calls them: fields in, one JSON answer out.

Commands go to the roster of the user who sent them, so a user cannot reach another user's mailboxes.
Exceptions of the store and the entities pass through to the caller, which answers `busy` or `unavailable`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from huahuo.actors.entities.decider import Answer, Origin
from huahuo.actors.entities.directory import Directory
from huahuo.actors.entities.entity import Execute, Query
from huahuo.eventstore.executor import Executor, give_way
from huahuo.eventstore.port import Log
from huahuo.mailcheck.api.params import (
    AddEmailParams,
    EmailIdsParams,
    ImportParams,
    ListParams,
    MailParams,
    MailRecordsParams,
    UpdateEmailParams,
)
from huahuo.mailcheck.checks.run import Pauses
from huahuo.mailcheck.events import user_stream
from huahuo.mailcheck.listing import (
    KEYS,
    PAGE_ROWS_MAX,
    Order,
    RowsCut,
    Sort,
    entry_of,
    list_of,
    order_of,
    token_of,
)
from huahuo.mailcheck.replies import EmailsPage, Mail, MailRecords, MailReply, Record, Refusal, Reply, encode
from huahuo.mailcheck.roster.commands import (
    AddEmail,
    CancelCheck,
    CheckEmails,
    DeleteEmails,
    ImportEmails,
    RosterCommand,
    UpdateEmail,
)
from huahuo.mailcheck.roster.importer import TooManyLines, parse
from huahuo.mailcheck.roster.state import Roster
from huahuo.mailcheck.tables.records import (
    MAIL,
    MAILS,
    MailPlace,
    MailRecord,
    mail_key,
    page_key,
    page_token,
    record_key,
)

ROSTER = "roster"
_SORTED_ATTEMPTS_MAX = 4
"""How often one page request sorts the list. Meanwhile, other requests may discard the order it needs."""

type Handler = Callable[[Origin, int, bool, Any], Awaitable[MailReply]]
"""(origin of the command for the log, user id, whether the user is an admin, fields) -> the answer."""


class MailCommand(msgspec.Struct, frozen=True):
    """One action of the domain, to be registered with the transport.

    `compressible`: its replies are large and hold no mail, so no text that a stranger wrote.
    """

    action: str
    params: type
    handler: Handler
    query: bool = False
    compressible: bool = False


class Handlers:
    """Answers the domain's actions."""

    def __init__(
        self, log: Log, directory: Directory, executor: Executor, pauses: Pauses, *, lines_max: int
    ) -> None:
        self._log = log
        self._directory = directory
        self._executor = executor
        self._pauses = pauses
        self._lines_max = lines_max

    def commands(self) -> list[MailCommand]:
        """One `MailCommand` for each action."""
        return [
            MailCommand("get_all_emails", ListParams, self._get_all_emails, query=True, compressible=True),
            MailCommand("get_mail_records", MailRecordsParams, self._get_mail_records, query=True),
            MailCommand("get_mail", MailParams, self._get_mail, query=True),
            MailCommand("add_email", AddEmailParams, self._add_email),
            MailCommand("update_email", UpdateEmailParams, self._update_email),
            MailCommand("delete_emails", EmailIdsParams, self._delete_emails),
            MailCommand("check_emails", EmailIdsParams, self._check_emails),
            MailCommand("cancel_check", EmailIdsParams, self._cancel_check),
            MailCommand("import_emails", ImportParams, self._import_emails),
        ]

    async def _add_email(
        self, origin: Origin, user_id: int, _is_admin: bool, params: AddEmailParams
    ) -> MailReply:
        command = AddEmail(
            email=params.email,
            mail_type=params.mail_type,
            server=params.server or "",
            port=params.port,
            use_ssl=params.ssl(),
            secrets=params.secrets(),
        )
        return await self._execute(origin, user_id, command)

    async def _update_email(
        self, origin: Origin, user_id: int, _is_admin: bool, params: UpdateEmailParams
    ) -> MailReply:
        command = UpdateEmail(
            email_id=params.email_id,
            mail_type=params.mail_type,
            server=params.server or "",
            port=params.port,
            use_ssl=params.ssl(),
            secrets=params.secrets(),
        )
        with self._pauses.hold((params.email_id,)):
            return await self._execute(origin, user_id, command)

    async def _delete_emails(
        self, origin: Origin, user_id: int, _is_admin: bool, params: EmailIdsParams
    ) -> MailReply:
        with self._pauses.hold(params.email_ids):
            return await self._execute(origin, user_id, DeleteEmails(params.email_ids))

    async def _check_emails(
        self, origin: Origin, user_id: int, _is_admin: bool, params: EmailIdsParams
    ) -> MailReply:
        return await self._execute(origin, user_id, CheckEmails(params.email_ids))

    async def _cancel_check(
        self, origin: Origin, user_id: int, _is_admin: bool, params: EmailIdsParams
    ) -> MailReply:
        with self._pauses.hold(params.email_ids):
            return await self._execute(origin, user_id, CancelCheck(params.email_ids))

    async def _import_emails(
        self, origin: Origin, user_id: int, _is_admin: bool, params: ImportParams
    ) -> MailReply:
        try:
            data = await self._executor.run(
                lambda: parse(params.data, params.mail_type, self._lines_max, pause=give_way)
            )
        except TooManyLines:
            return _refused(Refusal("too_large", f"一次最多导入 {self._lines_max} 行", "data"))
        command = ImportEmails(params.mail_type, data)
        return await self._execute(origin, user_id, command, size=len(params.data))

    async def _get_all_emails(
        self, _origin: Origin, user_id: int, _is_admin: bool, params: ListParams
    ) -> MailReply:
        if params.paged:
            return await self._page_of_emails(user_id, params)
        stream = user_stream(user_id)

        def cut(seq: int, state: Roster) -> RowsCut:
            return list_of(state, stream, seq)

        rows: RowsCut = await self._directory.ask(ROSTER, user_id, Query(cut))
        return MailReply(b'{"type":"emails_list"}', parted=rows)

    async def _page_of_emails(self, user_id: int, params: ListParams) -> MailReply:
        sort = Sort.of("id" if params.sort is None else params.sort)
        if sort is None:
            return _refused(
                Refusal("invalid_field", "字段无效：sort", f"one of {', '.join(KEYS)}, or -field")
            )
        after = None if params.before is None else entry_of(sort, params.before)
        if params.before is not None and after is None:
            return _refused(Refusal("invalid_field", "字段无效：before", "it is no `next` of this order"))
        admits = None if params.filter is None else params.filter.admits()

        def look(seq: int, state: Roster) -> Order | EmailsPage:
            order = order_of(state, sort.field)
            if not order.ready:
                return order
            limit = params.limit or PAGE_ROWS_MAX
            page = order.page(state.rows, limit=limit, after=after, descending=sort.descending, admits=admits)
            following = None if page.after is None else token_of(sort, page.after)
            return EmailsPage(page.rows, user_stream(user_id), seq, len(state.rows), following)

        for _ in range(_SORTED_ATTEMPTS_MAX):
            found: Order | EmailsPage = await self._directory.ask(ROSTER, user_id, Query(look))
            if isinstance(found, EmailsPage):
                return _answered(found)
            while not found.ready:
                found.step()
                await asyncio.sleep(0)
        return _refused(Refusal("busy", "服务繁忙，请稍后重试", "too many orders are asked for at once"))

    async def _get_mail_records(
        self, _origin: Origin, user_id: int, _is_admin: bool, params: MailRecordsParams
    ) -> MailReply:
        email_id, limit = params.email_id, params.limit
        before = None if params.before is None else page_key(params.before)
        if params.before is not None and before is None:
            return _refused(Refusal("invalid_field", "字段无效", "before"))
        if not await self._owns(user_id, email_id):
            return _refused(Refusal("not_found", f"邮箱ID {email_id} 不存在或您没有权限"))
        rows = await self._log.rows(MAILS, str(email_id), before=before, limit=limit + 1)
        records = [Record.of(msgspec.json.decode(value, type=MailRecord)) for _, value in rows[:limit]]
        following = page_token(rows[limit - 1][0]) if len(rows) > limit else None
        return _answered(MailRecords(email_id, records, following))

    async def _get_mail(
        self, _origin: Origin, user_id: int, _is_admin: bool, params: MailParams
    ) -> MailReply:
        record = await self._record(user_id, params.mail_id)
        content = None if record is None else await self._log.blob(record.blob)
        if record is None or content is None:
            return _refused(Refusal("not_found", f"邮件ID {params.mail_id} 不存在或您没有权限"))
        return _answered(Mail.with_content(record, content))

    async def _record(self, user_id: int, mail_id: int) -> MailRecord | None:
        """The record of a mail, None if the mail is not this user's."""
        if mail_id < 0:
            return None
        found = await self._log.row(MAIL, "", mail_key(mail_id))
        if found is None:
            return None
        place = msgspec.json.decode(found, type=MailPlace)
        # Records are purged shortly after their mailbox is deleted, so the roster decides what still exists.
        if place.user_id != user_id or not await self._owns(user_id, place.email_id):
            return None
        key = record_key(place.received_ms, mail_id)
        value = await self._log.row(MAILS, str(place.email_id), key)
        return None if value is None else msgspec.json.decode(value, type=MailRecord)

    async def _owns(self, user_id: int, email_id: int) -> bool:
        def look(_seq: int, state: Roster) -> bool:
            return email_id in state.rows

        owned: bool = await self._directory.ask(ROSTER, user_id, Query(look))
        return owned

    async def _execute(
        self, origin: Origin, user_id: int, command: RosterCommand, size: int = 0
    ) -> MailReply:
        message = Execute(command, origin)
        answer: Answer[Reply] = await self._directory.ask(ROSTER, user_id, message, size=size)
        if answer.duplicate is not None:
            return MailReply(answer.duplicate.reply, answer.at, recorded=True, duplicate=True)
        assert answer.reply is not None, "a first execution has its reply"
        return MailReply(encode(answer.reply), answer.at, recorded=origin.key is not None)


def _answered(reply: EmailsPage | MailRecords | Mail) -> MailReply:
    return MailReply(msgspec.json.encode(reply))


def _refused(refusal: Refusal) -> MailReply:
    return MailReply(encode(refusal))
