"""The commands and queries of mailboxes and their groups: fields in, one JSON answer out.

Commands go to the roster of the user who sent them, so a user cannot reach another user's mailboxes.
Exceptions of the store and the entities pass through to the caller, which answers `busy` or `unavailable`.
The mailboxes of a group use the group's proxy, if it has one. Groups belong to the rosters of their users.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from huahuo.actors.plugins.actions import Action
from huahuo.actors.plugins.calls import (
    Call,
    Refusal,
    Reply,
    UserId,
    error_reply,
    json_reply,
)
from huahuo.actors.plugins.plugin import JobDoor
from huahuo.eventstore.executor import give_way
from huahuo.eventstore.model import Secret
from huahuo.mailcheck import en, zh
from huahuo.mailcheck.api import mailbox_list
from huahuo.mailcheck.api.import_export import ImportJobs
from huahuo.mailcheck.api.params import (
    AddEmailParams,
    ImportParams,
    ListParams,
    NoFields,
    UpdateEmailParams,
)
from huahuo.mailcheck.api.rosters import Answering, Choosing, Rosters, import_in_parts
from huahuo.mailcheck.checks.mailboxes import OneAtATime, every_row
from huahuo.mailcheck.events import user_stream
from huahuo.mailcheck.records import (
    GROUP_PROXIES,
    EmailsPage,
)
from huahuo.mailcheck.roster import decider
from huahuo.mailcheck.roster.importer import TooManyLines, bytes_in_memory, parse
from huahuo.mailcheck.roster.state import Roster
from huahuo.mailcheck.servers.providers import STANDARD, Providers


class GroupProxyParams(msgspec.Struct, frozen=True):
    """Fields of `set_group_proxy`. An empty `proxy` takes it off; `direct` means that none is used."""

    group: Annotated[str, Meta(max_length=500)]
    proxy: str

    def __repr__(self) -> str:
        return f"GroupProxyParams(group={self.group!r}, proxy='[sealed]')"


WHOLE_LINES_MAX = 100_000
"""Of an import by a client that cannot split it."""
_SORTED_ATTEMPTS_MAX = 4
"""How often one page request sorts the list, which may change or be loaded anew meanwhile."""

type _Choose = Callable[[Roster, str], mailbox_list.Order | None]


class Handlers(Answering):
    """Answers the domain's actions."""

    def __init__(
        self,
        rosters: Rosters,
        *,
        lines_max: int,
        lines_a_part: int,
        providers: Providers = STANDARD,
        jobs: JobDoor,
    ) -> None:
        super().__init__(rosters)
        self._imports = ImportJobs(jobs)
        self._providers = providers
        self._choosing = Choosing(rosters)
        self._sorting = OneAtATime()
        """A roster keeps few orders, so requests for many would drop each other's before they are sorted."""
        self._lines_max = lines_max
        self._lines_a_part = lines_a_part

    def actions(self) -> list[Action]:
        """The actions of the domain. `compressible`: large replies without text that a stranger wrote."""
        return [
            Action("get_all_emails", ListParams, self._get_all_emails, query=True, compressible=True),
            Action("add_email", AddEmailParams, self._add_email),
            Action("update_email", UpdateEmailParams, self._update_email),
            Action("claim_mailbox", decider.ClaimMailbox, self._as_sent),
            Action("release_mailbox", decider.ReleaseMailbox, self._as_sent),
            *self._choosing.actions(),
            Action("get_groups", NoFields, self._get_groups, query=True),
            Action("set_group_proxy", GroupProxyParams, self._set_group_proxy),
            Action("import_emails", ImportParams, partial(self._import, lines_max=self._lines_max)),
            Action("firemail_import", ImportParams, partial(self._import, lines_max=WHOLE_LINES_MAX)),
            *self._imports.actions(),
        ]

    async def close(self) -> None:
        """End what clients left open."""
        await self._imports.close()

    async def _add_email(self, call: Call[AddEmailParams]) -> Reply:
        params = call.params
        command = decider.AddEmail(email=params.email, mail_type=params.mail_type, **params.given())
        return await self._rosters.execute(call, command)

    async def _update_email(self, call: Call[UpdateEmailParams]) -> Reply:
        params = call.params
        command = decider.UpdateEmail(
            email_id=params.email_id,
            folders=params.folders,
            mail_type=params.mail_type,
            **params.given(),
        )
        with self._mailboxes.pauses.hold((params.email_id,)):
            return await self._rosters.execute(call, command)

    async def _as_sent(self, call: Call[Any]) -> Reply:
        return await self._rosters.execute(call, call.params)

    async def _import(self, call: Call[ImportParams], lines_max: int) -> Reply:
        params = call.params
        job = self._imports.of(call.principal.user_id, params.job_id)
        if job is not None and job.cancelled:
            return error_reply(Refusal("conflict", zh.IMPORT_CANCELLED, en.JOB_CANCELLED))
        with self._rosters.hold(call.principal.user_id, bytes_in_memory(params.data)):
            reply = await self._parse_and_import(call, lines_max)
        if job is not None:
            await self._imports.did(job, reply.body)
        return reply

    async def _parse_and_import(self, call: Call[ImportParams], lines_max: int) -> Reply:
        params = call.params
        try:
            data = await self._executor.run(
                lambda: parse(params.data, params.mail_type, lines_max, pause=give_way)
            )
        except TooManyLines:
            return error_reply(Refusal("too_large", zh.IMPORT_LINES.format(lines_max), "data"))
        validates = "login" if params.validate is True else params.validate or ""
        command = decider.ImportEmails(params.mail_type, data, validates)
        is_long = len(data.accounts) > self._lines_a_part
        if is_long and decider.refuse_settings(self._providers, params.mail_type, "", None) is None:
            return await import_in_parts(self._rosters, call, command, self._lines_a_part)
        return await self._rosters.execute(call, command)

    async def _set_group_proxy(self, call: Call[GroupProxyParams]) -> Reply:
        params = call.params
        command = decider.SetGroupProxy(params.group, Secret(params.proxy) if params.proxy else None)
        return await self._rosters.execute(call, command)

    async def _get_groups(self, call: Call[NoFields]) -> Reply:
        user_id = call.principal.user_id
        rows = await self._rosters.rows(user_id)
        counted = Counter(row.group for row in rows if row.group)
        proxied = {value.decode() async for _, value in every_row(self._log, GROUP_PROXIES, str(user_id))}
        data = [
            {"group": group, "count": counted[group], "proxy": group in proxied}
            for group in sorted({*counted, *proxied} - {""})
        ]
        return json_reply({"type": "groups", "data": data})

    async def _get_all_emails(self, call: Call[ListParams]) -> Reply:
        user_id, params = call.principal.user_id, call.params
        if params.paged:
            return await self._page_of_emails(user_id, params)
        stream = user_stream(user_id)
        rows = await self._rosters.ask(user_id, lambda seq, state: mailbox_list.list_of(state, stream, seq))
        return Reply(b'{"type":"emails_list"}', parted=rows)

    async def _page_of_emails(self, user_id: UserId, params: ListParams) -> Reply:
        sort = mailbox_list.Sort.of("id" if params.sort is None else params.sort)
        if sort is None:
            return error_reply(
                Refusal(
                    "invalid_field",
                    zh.FIELD.format("sort"),
                    en.ONE_OF_KEYS.format(", ".join(mailbox_list.KEYS)),
                )
            )
        after = None if params.before is None else mailbox_list.entry_of(sort, params.before)
        if params.before is not None and after is None:
            return error_reply(Refusal("invalid_field", zh.FIELD.format("before"), en.NO_NEXT_OF_ORDER))
        admits = None if params.filter is None else params.filter.admits()

        def look(choose: _Choose, seq: int, state: Roster) -> mailbox_list.Order | EmailsPage | None:
            order = choose(state, sort.field)
            if order is None or not order.ready:
                return order
            limit = params.limit or mailbox_list.PAGE_ROWS_MAX
            page = order.page(state.rows, limit=limit, after=after, descending=sort.descending, admits=admits)
            following = None if page.after is None else mailbox_list.token_of(sort, page.after)
            return EmailsPage(page.rows, user_stream(user_id), seq, len(state.rows), following)

        found: Any = await self._rosters.ask(user_id, partial(look, mailbox_list.kept_order))
        if isinstance(found, EmailsPage):
            return _answered(found)
        async with self._sorting.of(user_id):
            for _ in range(_SORTED_ATTEMPTS_MAX):
                found = await self._rosters.ask(user_id, partial(look, mailbox_list.order_of))
                if isinstance(found, EmailsPage):
                    return _answered(found)
                if not found.made:
                    found.take(await self._executor.run(partial(found.sort, give_way)))
                while not found.ready:
                    found.put_right()
                    await asyncio.sleep(0)
        return error_reply(Refusal("busy", zh.BUSY, en.CHANGES_FASTER))


def _answered(reply: EmailsPage) -> Reply:
    return Reply(msgspec.json.encode(reply))
