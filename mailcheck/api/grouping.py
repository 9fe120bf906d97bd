"""Groups of a user's mailboxes: which there are, and the proxy that a group's mailboxes use."""

from collections import Counter
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from huahuo.actors.entities.decider import Answer
from huahuo.actors.entities.directory import Directory
from huahuo.actors.entities.entity import Execute, Query
from huahuo.actors.plugins.actions import Action
from huahuo.actors.plugins.calls import Call, Reply, from_entity, json_reply
from huahuo.eventstore.model import Secret
from huahuo.eventstore.port import Log
from huahuo.mailcheck.replies import MailReply, encode
from huahuo.mailcheck.roster.commands import SetGroupProxy
from huahuo.mailcheck.roster.state import Roster
from huahuo.mailcheck.row import Row
from huahuo.mailcheck.tables.records import GROUP_PROXIES

ROSTER: Final = "roster"
_PAGE_ROWS: Final = 500


class NoFields(msgspec.Struct, frozen=True):
    """No fields."""


class GroupProxyParams(msgspec.Struct, frozen=True):
    """Fields of `set_group_proxy`. An empty `proxy` takes it off; `direct` means that none is used."""

    group: Annotated[str, Meta(max_length=500)]
    proxy: str

    def __repr__(self) -> str:
        return f"GroupProxyParams(group={self.group!r}, proxy='[sealed]')"


class Grouping:
    """See the module."""

    def __init__(self, log: Log, directory: Directory) -> None:
        self._log = log
        self._directory = directory

    def actions(self) -> list[Action]:
        """The actions."""
        return [
            Action("get_groups", NoFields, self._list, query=True),
            Action("set_group_proxy", GroupProxyParams, self._set),
        ]

    async def _set(self, call: Call[GroupProxyParams]) -> Reply:
        params = call.params
        command = SetGroupProxy(params.group, Secret(params.proxy) if params.proxy else None)
        message = Execute(command, call.origin)
        answer: Answer[MailReply] = await self._directory.ask(ROSTER, call.principal.user_id, message)
        return from_entity(b"" if answer.reply is None else encode(answer.reply), answer, call)

    async def _list(self, call: Call[NoFields]) -> Reply:
        user_id = call.principal.user_id

        def look(_seq: int, state: Roster) -> tuple[Row, ...]:
            return state.cut()

        rows: tuple[Row, ...] = await self._directory.ask(ROSTER, user_id, Query(look))
        counted = Counter(row.group for row in rows if row.group)
        proxied: set[str] = set()
        before: bytes | None = None
        while page := await self._log.rows(GROUP_PROXIES, str(user_id), before=before, limit=_PAGE_ROWS):
            proxied |= {value.decode() for _, value in page}
            before = page[-1][0]
        data = [
            {"group": group, "count": counted[group], "proxy": group in proxied}
            for group in sorted({*counted, *proxied} - {""})
        ]
        return json_reply({"type": "groups", "data": data})
