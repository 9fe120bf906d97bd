"""The proxy of a mailbox's group, where the group has one. Groups belong to the rosters of their users."""

from typing import Final

from huahuo.actors.entities.directory import Directory
from huahuo.actors.entities.entity import Query
from huahuo.actors.plugins.principal import UserId
from huahuo.eventstore.model import Secret
from huahuo.eventstore.port import Log
from huahuo.mailcheck.roster.state import Roster
from huahuo.mailcheck.streams import roster_stream
from huahuo.mailcheck.tables.records import GROUP_PROXIES, group_key, group_secret

ROSTER: Final = "roster"


class GroupProxies:
    """See the module. Exceptions of the log and the entities pass through."""

    def __init__(self, log: Log, directory: Directory) -> None:
        self._log = log
        self._directory = directory

    async def of(self, user_id: UserId, email_id: int) -> Secret | None:
        """The proxy of the group in which this mailbox is now, None if there is none.

        A roster is asked only if its user has given any group a proxy: most have not.
        """
        part = str(user_id)
        if not await self._log.rows(GROUP_PROXIES, part, limit=1):
            return None

        def look(_seq: int, state: Roster) -> str:
            row = state.rows.get(email_id)
            return "" if row is None else row.group or ""

        group: str = await self._directory.ask(ROSTER, user_id, Query(look))
        if not group or await self._log.row(GROUP_PROXIES, part, group_key(group)) is None:
            return None
        return await self._log.secret(roster_stream(user_id), group_secret(group))
