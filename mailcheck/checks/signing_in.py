"""How a check signs in: with the mailbox's password, or with an access token (`granted`).

A plan is as old as its check, and secrets are read late. Nothing is sent before it is sure that both are of
one moment: what was stored for one server is not sent to another, also if the owner moves the mailbox
just then.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from msgspec.structs import replace

from huahuo.actors.plugins.principal import UserId
from huahuo.eventstore.errors import Corrupt, SealBroken
from huahuo.eventstore.model import Secret
from huahuo.eventstore.port import Log
from huahuo.mailcheck.checks.granted import Granted
from huahuo.mailcheck.checks.mailboxes import place_of
from huahuo.mailcheck.checks.ports import CheckFailed, Ok, Sink
from huahuo.mailcheck.checks.ways import Ways, WhereIs, moved
from huahuo.mailcheck.imap.outcome import outcome_of
from huahuo.mailcheck.mailbox.commands import Plan
from huahuo.mailcheck.servers.providers import TOKENS, Auth, Provider, Providers, auth_of
from huahuo.mailcheck.servers.proxies import DIRECT, Proxy, parse_proxy
from huahuo.mailcheck.streams import mailbox_stream

_SECRETS: Final = ("password", "refresh_token", "client_id", "proxy", "login")
_OF_GRANT: Final = frozenset({"refresh_token", "client_id"})
# These no longer accept passwords. Trying one proves nothing and may lock the account.
_OAUTH_ONLY_HOSTS: Final = (".office365.com", ".outlook.com", "outlook.live.com")


type GroupProxy = Callable[[UserId, int], Awaitable[Secret | None]]
"""The proxy of the group in which a user's mailbox is, None where the group has none."""


class SigningIn:
    """See the module. `proxy` is the operator's, for mailboxes that have none of their own."""

    def __init__(
        self,
        log: Log,
        providers: Providers,
        ways: Ways,
        where_is: WhereIs,
        proxy: Proxy | None = None,
        group_proxy: GroupProxy | None = None,
    ) -> None:
        """`group_proxy` None: no group has a proxy of its own."""
        self._log = log
        self._providers = providers
        self._ways = ways
        self._where_is = where_is
        self._default_proxy = proxy
        self._group_proxy = group_proxy

    async def check(self, email_id: int, plan: Plan, sink: Sink) -> Ok:
        """Check a mailbox. Raises CheckFailed, and whatever the sink, the log and the entities raise."""
        provider = self._providers.of(plan.mail_type, plan.server, plan.port)
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
        own_way = proxy is not None and proxy is not self._default_proxy
        try:
            if auth in TOKENS:
                done = await Granted(self._ways, email_id, plan, sink, provider, auth, proxy).check()
            else:
                assert password is not None, "else there is no such way"
                done = await self._ways.over_imap(plan, sink, auth, password, proxy)
        except CheckFailed as failed:
            if not own_way:
                raise
            raise CheckFailed(replace(failed.outcome, own_way=True)) from failed
        return replace(done, own_way=True) if own_way else done

    async def _secrets_for(self, email_id: int, plan: Plan) -> tuple[list[Secret | None], frozenset[str]]:
        """`_secrets`, if they are those of the server of the plan. Raises CheckFailed."""
        before = await self._where_is(email_id)
        while before.place == place_of(plan):
            found = await self._secrets(email_id)
            after = await self._where_is(email_id)
            if after == before:
                return found
            before = after
        raise CheckFailed(moved())

    async def _secrets(self, email_id: int) -> tuple[list[Secret | None], frozenset[str]]:
        """The secrets in the order of `_SECRETS`, and the names of those that cannot be read."""
        owner = mailbox_stream(email_id)
        try:
            return await self._log.secrets(owner, _SECRETS), frozenset()
        except (Corrupt, SealBroken):
            pass  # of several in one job it is not known which
        found: list[Secret | None] = []
        damaged: list[str] = []
        for name in _SECRETS:
            try:
                found.append(await self._log.secret(owner, name))
            except (Corrupt, SealBroken):
                found.append(None)
                damaged.append(name)
        return found, frozenset(damaged)

    async def _proxy(self, email_id: int, user_id: UserId, own: Secret | None) -> Proxy | None:
        """The proxy of a mailbox: its own, else its group's, else the operator's. Raises ValueError."""
        if own is None and self._group_proxy is not None:
            own = await self._group_proxy(user_id, email_id)
        if own is None:
            return self._default_proxy
        return None if own.reveal() == DIRECT else parse_proxy(own.reveal())


def _auth(plan: Plan, provider: Provider, *, has_password: bool, grant: bool) -> Auth:
    takes_passwords = not f".{plan.server.lower()}".endswith(_OAUTH_ONLY_HOSTS)
    auth = auth_of(provider, password=has_password and takes_passwords, grant=grant)
    if auth is None:
        tokens_only = provider.auth in TOKENS or not takes_passwords
        raise CheckFailed(outcome_of("no_grant" if tokens_only else "login_refused"))
    return auth
