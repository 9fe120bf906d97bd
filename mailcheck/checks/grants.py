"""The grants of mailboxes: in the log, read and replaced through the mailbox entity."""

from huahuo.actors.entities.directory import Directory
from huahuo.actors.entities.entity import Query
from huahuo.eventstore.model import Secret
from huahuo.eventstore.port import Log
from huahuo.mailcheck.checks.mailboxes import MAILBOX, Mailboxes
from huahuo.mailcheck.fetched import Way
from huahuo.mailcheck.mailbox.commands import ClaimGrant, Done, GrantHeld, KeepGrant, LeaveGrant
from huahuo.mailcheck.mailbox.state import Mailbox
from huahuo.mailcheck.servers.providers import Provider, Providers
from huahuo.mailcheck.streams import mailbox_stream
from huahuo.mailcheck.web.tokens import Grant


class StoredGrants:
    """See `Grants`. Exceptions of the log and the entities pass through: the outcome is then unknown."""

    def __init__(self, log: Log, directory: Directory, mailboxes: Mailboxes, providers: Providers) -> None:
        self._log = log
        self._directory = directory
        self._mailboxes = mailboxes
        self._providers = providers

    async def read(self, email_id: int) -> Grant | None:
        """See `Grants`."""
        owner = mailbox_stream(email_id)
        while True:
            before = await self._state(email_id)
            refresh_token, own = await self._log.secrets(owner, ("refresh_token", "client_id"))
            after = await self._state(email_id)
            if before == after:
                break  # else the secrets may be those of another generation
        generation, way, provider = after
        client_id = provider.client_id if own is None else own.reveal()
        if refresh_token is None or not client_id:
            return None
        return Grant(generation, client_id, refresh_token, way, provider)

    async def keep(self, email_id: int, generation: int, way: Way, refresh_token: Secret | None) -> bool:
        """See `Grants`."""
        answer = await self._mailboxes.tell(email_id, KeepGrant(generation, way, refresh_token))
        return isinstance(answer.reply, Done)

    async def claim(self, email_id: int) -> bool:
        """See `Grants`."""
        by = self._log.incarnation
        if not by:
            return True
        answer = await self._mailboxes.tell(email_id, ClaimGrant(by, self._log.living()))
        return not isinstance(answer.reply, GrantHeld)

    async def leave(self, email_id: int) -> None:
        """See `Grants`."""
        if self._log.incarnation:
            await self._mailboxes.tell(email_id, LeaveGrant(self._log.incarnation))

    async def _state(self, email_id: int) -> tuple[int, Way, Provider]:
        def look(_seq: int, state: Mailbox) -> tuple[int, Way, Provider]:
            return state.grant, state.way, self._providers.of(state.mail_type, state.server, state.port)

        found: tuple[int, Way, Provider] = await self._directory.ask(MAILBOX, email_id, Query(look))
        return found
