"""The ways of a check to a mailbox: over IMAP or Graph, and the access tokens that they take.

A token is got for the grant and the server that the mailbox has at that moment, and for no other.
"""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from msgspec.structs import replace

from huahuo.actors.effects.traced import stage
from huahuo.eventstore.model import Secret
from huahuo.eventstore.port import Log
from huahuo.mailcheck.checks.mailboxes import Reached, place_of
from huahuo.mailcheck.checks.ports import CheckFailed, GraphTarget, Ok, Sink, Target
from huahuo.mailcheck.fetched import GRAPH_UIDVALIDITY, INBOX, UidCursor
from huahuo.mailcheck.imap.outcome import Outcome, classify, outcome_of
from huahuo.mailcheck.mailbox.commands import Plan
from huahuo.mailcheck.servers.faults import MailFault
from huahuo.mailcheck.servers.providers import Auth, Provider, Providers
from huahuo.mailcheck.servers.proxies import Proxy
from huahuo.mailcheck.tables.records import GRAPH, MAILS, received_of, remote_key
from huahuo.mailcheck.web.tokens import Access, Grants, Tokens

type Gate = Callable[[Plan], AbstractAsyncContextManager[object]]
"""A place among the connections that are allowed to a mailbox's host."""


type WhereIs = Callable[[int], Awaitable[Reached]]
"""`Mailboxes.reached`."""


class CheckMail(Protocol):
    """The check of one mailbox with every argument bound except those of the mailbox."""

    async def __call__(self, target: Target | GraphTarget, since: UidCursor | None, sink: Sink) -> Ok:
        """See `checker.check`."""
        ...


class Ways:
    """See the module."""

    def __init__(
        self,
        log: Log,
        check_mail: CheckMail,
        providers: Providers,
        grants: Grants,
        tokens: Tokens,
        gate: Gate,
        where_is: WhereIs,
    ) -> None:
        self._log = log
        self._check_mail = check_mail
        self._providers = providers
        self._grants = grants
        self._tokens = tokens
        self._gate = gate
        self._where_is = where_is

    async def over_imap(self, plan: Plan, sink: Sink, auth: Auth, secret: Secret, proxy: Proxy | None) -> Ok:
        """Check over IMAP."""
        places = self._providers.places(plan.mail_type, plan.server, plan.port, use_ssl=plan.use_ssl)
        target = Target(
            places=places,
            user=plan.email,
            auth=auth,
            secret=secret,
            cursors=plan.cursors,
            folders=plan.folders,
            proxy=proxy,
        )
        async with self._gate(plan):
            return await self._check_mail(target, plan.cursors.get(INBOX), sink)

    async def over_graph(
        self,
        email_id: int,
        plan: Plan,
        sink: Sink,
        provider: Provider,
        token: Secret,
        renew: Callable[[], Awaitable[Secret]],
        proxy: Proxy | None,
    ) -> Ok:
        """Check over Graph. What an earlier check over IMAP has told is not told again."""

        async def known(remote_id: str) -> bool:
            return await self._log.row(GRAPH, str(email_id), remote_key(remote_id)) is not None

        since = plan.cursors.get(INBOX)
        told_ms = 0
        if since is not None and since.uidvalidity != GRAPH_UIDVALIDITY:
            newest = await self._log.rows(MAILS, str(email_id), limit=1)
            told_ms = received_of(newest[0][0]) if newest else 0
        target = GraphTarget(
            url=provider.graph_url,
            token=token,
            renew=renew,
            known=known,
            cursors=plan.cursors,
            folders=plan.folders,
            told_ms=told_ms,
            proxy=proxy,
        )
        return await self._check_mail(target, since, sink)

    async def access(
        self,
        email_id: int,
        plan: Plan,
        provider: Provider,
        proxy: Proxy | None,
        *,
        graph: bool,
        refused: Secret | None = None,
    ) -> Access:
        """An access token of the mailbox as the plan has it. Raises CheckFailed."""
        while True:
            try:
                with stage("access token"):
                    got = await self._tokens.get(
                        email_id, provider, graph=graph, proxy=proxy, refused=refused
                    )
            except MailFault as fault:
                raise CheckFailed(classify(fault, over_http=True)) from fault
            now = await self._where_is(email_id)
            if now.place != place_of(plan):
                raise CheckFailed(moved())
            if now.grant == got.generation:
                return got
            # Another grant took the place of that one: its token is got anew.

    async def works(self, email_id: int, access: Access) -> None:
        """Remember the way of this token."""
        await self._grants.keep(email_id, access.generation, access.way, None)

    async def goes_by_graph(self, email_id: int) -> bool:
        """Whether Graph is the way that worked last."""
        grant = await self._grants.read(email_id)
        return grant is not None and grant.way.graph


def moved() -> Outcome:
    """It says nothing of a server, so only this mailbox waits."""
    return replace(outcome_of("changed"), own_way=True)
