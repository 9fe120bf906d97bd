"""How a check signs in: with the mailbox's password, or with an access token for its grant.

A plan is as old as its check, and secrets are read late. Nothing is sent before it is sure that both are
of one moment: what was stored for one server is not sent to another, also if the owner moves the mailbox
just then. A token is got for the grant and the server that the mailbox has at that moment, and for no
other. IMAP refuses a grant that lacks its scope, and a tenant may have switched IMAP off; the same grant
may then read the mails by Graph. The way that worked last is tried first; if it fails for want of a right,
the other is tried once.
"""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Final

from msgspec.structs import replace

from huahuo.actors.effects.run import stage
from huahuo.actors.plugins.calls import UserId
from huahuo.eventstore.errors import Corrupt, SealBroken
from huahuo.eventstore.model import Secret
from huahuo.mailcheck.checks.check_effect import CheckFailed, GraphTarget, Ok, Target
from huahuo.mailcheck.checks.mailboxes import Mailboxes, login_place_of
from huahuo.mailcheck.events import GRAPH_UIDVALIDITY, INBOX, UidCursor, Way, mailbox_stream
from huahuo.mailcheck.mailbox.decider import ClaimGrant, Done, GrantHeld, KeepGrant, LeaveGrant, Plan
from huahuo.mailcheck.mailbox.state import Mailbox
from huahuo.mailcheck.records import GRAPH, MAILS, received_of, remote_key
from huahuo.mailcheck.servers.faults import MailFault, Outcome, classify, outcome_of
from huahuo.mailcheck.servers.oauth import Access, Grant, Grants, Tokens
from huahuo.mailcheck.servers.providers import (
    DIRECT,
    TOKENS,
    Auth,
    Provider,
    Providers,
    Proxy,
    auth_of,
    parse_proxy,
)


class StoredGrants:
    """See `Grants`. Exceptions of the log and the entities pass through: the outcome is then unknown."""

    def __init__(self, mailboxes: Mailboxes, providers: Providers) -> None:
        self._log = mailboxes.log
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

        return await self._mailboxes.ask(email_id, look)


type Gate = Callable[[Plan], AbstractAsyncContextManager[object]]
"""A place among the connections that are allowed to a mailbox's host."""


type CheckMail = Callable[[Target | GraphTarget, UidCursor | None, Any], Awaitable[Ok]]
"""`check.check`, or what stands in for it, with every argument but those of the mailbox."""


def moved() -> Outcome:
    """It says nothing of a server, so only this mailbox waits."""
    return replace(outcome_of("changed"), own_way=True)


_OTHER_WAY: Final = frozenset(
    {"token_refused", "no_scope", "grant_refused", "grant_foreign", "client_refused", "no_mechanism"}
)
"""Kinds of failures after which the other way may work."""


@dataclass(frozen=True)
class Granted:
    """One check that signs in with a grant."""

    by: "SigningIn"
    email_id: int
    plan: Plan
    sink: Any
    provider: Provider
    auth: Auth
    proxy: Proxy | None

    async def check(self) -> Ok:
        """Try the one way, then perhaps the other. Raises as `SigningIn.check`."""
        grant = await self.by.grants.read(self.email_id) if self.provider.graph_url else None
        ways = [self._imap, self._graph]
        if grant is not None and grant.way.graph:  # it is the way that worked last
            ways.reverse()
        try:
            return (await ways[0]())[0]
        except CheckFailed as failed:
            if failed.outcome.kind not in _OTHER_WAY or not self.provider.graph_url:
                raise
            first = failed
        try:
            done, access = await ways[1]()
        except CheckFailed as failed:
            # What the first way said is of more use, unless the second only cannot be asked now.
            raise (first if failed.outcome.kind in _OTHER_WAY else failed) from None
        await self.by.grants.keep(self.email_id, access.generation, access.way, None)
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

    async def _over_imap(self, access: Access) -> Ok:
        return await self.by.over_imap(self.plan, self.sink, self.auth, access.token, self.proxy)

    async def _graph(self) -> tuple[Ok, Access]:
        """Check over Graph. What an earlier check over IMAP has told is not told again."""
        access, log, part = await self._access(graph=True), self.by.mailboxes.log, str(self.email_id)

        async def renew() -> Secret:
            nonlocal access
            access = await self._access(graph=True, refused=access.token)
            return access.token

        async def known(remote_id: str) -> bool:
            return await log.row(GRAPH, part, remote_key(remote_id)) is not None

        since = self.plan.cursors.get(INBOX)
        told_ms = 0
        if since is not None and since.uidvalidity != GRAPH_UIDVALIDITY:
            newest = await log.rows(MAILS, part, limit=1)
            told_ms = received_of(newest[0][0]) if newest else 0
        target = GraphTarget(
            url=self.provider.graph_url,
            token=access.token,
            renew=renew,
            known=known,
            cursors=self.plan.cursors,
            folders=self.plan.folders,
            told_ms=told_ms,
            proxy=self.proxy,
        )
        return await self.by.check_mail(target, since, self.sink), access

    async def _access(self, *, graph: bool, refused: Secret | None = None) -> Access:
        """An access token of the mailbox as the plan has it. Raises CheckFailed."""
        while True:
            try:
                with stage("access token"):
                    got = await self.by.tokens.get(
                        self.email_id, self.provider, graph=graph, proxy=self.proxy, refused=refused
                    )
            except MailFault as fault:
                raise CheckFailed(classify(fault, over_http=True)) from fault
            now = await self.by.mailboxes.reached(self.email_id)
            if now.place != login_place_of(self.plan):
                raise CheckFailed(moved())
            if now.grant == got.generation:
                return got
            # Another grant took the place of that one: its token is got anew.


_SECRETS: Final = ("password", "refresh_token", "client_id", "proxy", "login")
_OF_GRANT: Final = frozenset({"refresh_token", "client_id"})
# These no longer accept passwords. Trying one proves nothing and may lock the account.
_OAUTH_ONLY_HOSTS: Final = (".office365.com", ".outlook.com", "outlook.live.com")


type GroupProxy = Callable[[UserId, int], Awaitable[Secret | None]]
"""The proxy of the group in which a user's mailbox is, None where the group has none."""


@dataclass(frozen=True, kw_only=True)
class SigningIn:
    """How a check signs in: with the mailbox's password, or with an access token (`granted`)."""

    mailboxes: Mailboxes
    check_mail: CheckMail
    providers: Providers
    grants: Grants
    tokens: Tokens
    gate: Gate
    proxy: Proxy | None
    """The operator's, for mailboxes that have none of their own."""
    group_proxy: GroupProxy

    async def over_imap(self, plan: Plan, sink: Any, auth: Auth, secret: Secret, proxy: Proxy | None) -> Ok:
        """Check over IMAP."""
        places = self.providers.places(plan.mail_type, plan.server, plan.port, use_ssl=plan.use_ssl)
        target = Target(
            places=places,
            user=plan.email,
            auth=auth,
            secret=secret,
            cursors=plan.cursors,
            folders=plan.folders,
            proxy=proxy,
        )
        async with self.gate(plan):
            return await self.check_mail(target, plan.cursors.get(INBOX), sink)

    async def check(self, email_id: int, plan: Plan, sink: Any) -> Ok:
        """Check a mailbox. Raises CheckFailed, and whatever the sink, the log and the entities raise."""
        provider = self.providers.of(plan.mail_type, plan.server, plan.port)
        (password, refresh_token, client_id, own, login), damaged = await self._secrets_for(email_id, plan)
        plan = plan if login is None else replace(plan, email=login.reveal())
        grant = (
            refresh_token is not None
            and (bool(provider.client_id) or client_id is not None)
            and damaged.isdisjoint(_OF_GRANT)
        )
        if not damaged.isdisjoint(("proxy", "login")):
            # Without a proxy the provider would see where this service is.
            raise CheckFailed(outcome_of("secret_damaged"))
        try:
            auth = _auth(plan, provider, has_password=password is not None, grant=grant)
        except CheckFailed:
            if damaged:
                raise CheckFailed(outcome_of("secret_damaged")) from None
            raise
        try:
            proxy = await self._proxy(email_id, plan.user_id, own)
        except ValueError:
            raise CheckFailed(replace(outcome_of("proxy"), own_way=True)) from None
        except (Corrupt, SealBroken):  # of its group: the mailbox itself needs nothing entered
            damaged_proxy = replace(outcome_of("secret_damaged"), status="error", own_way=True)
            raise CheckFailed(damaged_proxy) from None
        own_way = proxy is not None and proxy is not self.proxy
        try:
            if auth in TOKENS:
                done = await Granted(self, email_id, plan, sink, provider, auth, proxy).check()
            else:
                assert password is not None, "else there is no such way"
                done = await self.over_imap(plan, sink, auth, password, proxy)
        except CheckFailed as failed:
            if not own_way:
                raise
            raise CheckFailed(replace(failed.outcome, own_way=True)) from failed
        return replace(done, own_way=True) if own_way else done

    async def _secrets_for(self, email_id: int, plan: Plan) -> tuple[list[Secret | None], frozenset[str]]:
        """`_secrets`, if they are those of the server of the plan. Raises CheckFailed."""
        before = await self.mailboxes.reached(email_id)
        while before.place == login_place_of(plan):
            found = await self._secrets(email_id)
            after = await self.mailboxes.reached(email_id)
            if after == before:
                return found
            before = after
        raise CheckFailed(moved())

    async def _secrets(self, email_id: int) -> tuple[list[Secret | None], frozenset[str]]:
        """The secrets in the order of `_SECRETS`, and the names of those that cannot be read."""
        owner = mailbox_stream(email_id)
        try:
            return await self.mailboxes.log.secrets(owner, _SECRETS), frozenset()
        except (Corrupt, SealBroken):
            pass  # of several in one job it is not known which
        found: list[Secret | None] = []
        damaged: list[str] = []
        for name in _SECRETS:
            try:
                found.append(await self.mailboxes.log.secret(owner, name))
            except (Corrupt, SealBroken):
                found.append(None)
                damaged.append(name)
        return found, frozenset(damaged)

    async def _proxy(self, email_id: int, user_id: UserId, own: Secret | None) -> Proxy | None:
        """The proxy of a mailbox: its own, else its group's, else the operator's. Raises ValueError."""
        if own is None:
            own = await self.group_proxy(user_id, email_id)
        if own is None:
            return self.proxy
        return None if own.reveal() == DIRECT else parse_proxy(own.reveal())


def _auth(plan: Plan, provider: Provider, *, has_password: bool, grant: bool) -> Auth:
    takes_passwords = not f".{plan.server.lower()}".endswith(_OAUTH_ONLY_HOSTS)
    auth = auth_of(provider, password=has_password and takes_passwords, grant=grant)
    if auth is None:
        tokens_only = provider.auth in TOKENS or not takes_passwords
        raise CheckFailed(outcome_of("no_grant" if tokens_only else "login_refused"))
    return auth
