"""The two ways of a check that signs in with a grant: over IMAP, and over Graph.

IMAP refuses a grant that lacks its scope, and a tenant may have switched IMAP off. The same grant may then
read the mails by Graph. The way that worked last is tried first; if it fails for want of a right, the other
is tried once.
"""

from typing import Final

from huahuo.eventstore.model import Secret
from huahuo.mailcheck.checks.ports import CheckFailed, Ok, Sink
from huahuo.mailcheck.checks.ways import Ways
from huahuo.mailcheck.mailbox.commands import Plan
from huahuo.mailcheck.servers.providers import Auth, Provider
from huahuo.mailcheck.servers.proxies import Proxy
from huahuo.mailcheck.web.tokens import Access

_OTHER_WAY: Final = frozenset(
    {"token_refused", "no_scope", "grant_refused", "grant_foreign", "client_refused", "no_mechanism"}
)
"""Kinds of failures after which the other way may work."""


class Granted:
    """One check that signs in with a grant."""

    def __init__(
        self,
        ways: Ways,
        email_id: int,
        plan: Plan,
        sink: Sink,
        provider: Provider,
        auth: Auth,
        proxy: Proxy | None,
    ) -> None:
        self._by = ways
        self._email_id = email_id
        self._plan = plan
        self._sink = sink
        self._provider = provider
        self._auth = auth
        self._proxy = proxy

    async def check(self) -> Ok:
        """Try the one way, then perhaps the other. Raises as `SigningIn.check`."""
        graph_first = bool(self._provider.graph_url) and await self._by.goes_by_graph(self._email_id)
        ways = [self._graph, self._imap] if graph_first else [self._imap, self._graph]
        try:
            return (await ways[0]())[0]
        except CheckFailed as failed:
            if failed.outcome.kind not in _OTHER_WAY or not self._provider.graph_url:
                raise
            first = failed
        try:
            done, access = await ways[1]()
        except CheckFailed as failed:
            # What the first way said is of more use, unless the second only cannot be asked now.
            raise (first if failed.outcome.kind in _OTHER_WAY else failed) from None
        await self._by.works(self._email_id, access)
        return done

    async def _imap(self) -> tuple[Ok, Access]:
        access = await self._access(graph=False)
        try:
            return await self._over_imap(access), access
        except CheckFailed as failed:
            if failed.outcome.kind != "token_refused":
                raise
        # The token may have been revoked, or the server's clock may differ: one other token settles it.
        access = await self._access(graph=False, refused=access.token)
        return await self._over_imap(access), access

    async def _graph(self) -> tuple[Ok, Access]:
        access = await self._access(graph=True)

        async def renew() -> Secret:
            nonlocal access
            access = await self._access(graph=True, refused=access.token)
            return access.token

        done = await self._by.over_graph(
            self._email_id, self._plan, self._sink, self._provider, access.token, renew, self._proxy
        )
        return done, access

    async def _over_imap(self, access: Access) -> Ok:
        return await self._by.over_imap(self._plan, self._sink, self._auth, access.token, self._proxy)

    async def _access(self, *, graph: bool, refused: Secret | None = None) -> Access:
        return await self._by.access(
            self._email_id, self._plan, self._provider, self._proxy, graph=graph, refused=refused
        )
