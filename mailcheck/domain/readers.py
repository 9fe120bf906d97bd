"""Everything that reads mail servers: checks, looks of watchers, single mails, many mails. Made once each.

They share the network, the requests over HTTP, the access tokens, and the places at each server.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from typing import Any

from huahuo.actors.entities.directory import Directory
from huahuo.actors.plugins.lending import Lending
from huahuo.actors.plugins.principal import UserId
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.executor import Executor
from huahuo.eventstore.model import Secret
from huahuo.eventstore.port import Log
from huahuo.mailcheck.attachments.one_mail import OneMail
from huahuo.mailcheck.checks import check as checker
from huahuo.mailcheck.checks.connections import Connections
from huahuo.mailcheck.checks.grants import StoredGrants
from huahuo.mailcheck.checks.graph_check import check_graph
from huahuo.mailcheck.checks.mailboxes import Mailboxes
from huahuo.mailcheck.checks.ports import GraphTarget, Ok, Sink, Target
from huahuo.mailcheck.checks.signing_in import SigningIn
from huahuo.mailcheck.checks.signing_in_only import SigningInOnly
from huahuo.mailcheck.checks.ways import CheckMail, Gate, Ways
from huahuo.mailcheck.contents.fetching import ManyMails
from huahuo.mailcheck.domain.bounds import MailSettings
from huahuo.mailcheck.fetched import UidCursor
from huahuo.mailcheck.watching.looking import Looking
from huahuo.mailcheck.web.requests import Requests
from huahuo.mailcheck.web.retrying import TIMEOUT_S as REQUEST_TIMEOUT_S
from huahuo.mailcheck.web.tokens import Tokens

type GroupProxy = Callable[[UserId, int], Awaitable[Secret | None]]


class Readers:
    """See the module. Each reader of `SigningIn` signs in as the mailbox does, and then reads its own way."""

    def __init__(
        self,
        log: Log,
        directory: Directory,
        mailboxes: Mailboxes,
        settings: MailSettings,
        executor: Executor,
        ambient: Ambient,
        group_proxy: GroupProxy,
        check_mail: CheckMail | None = None,
        lending: Lending | None = None,
        *,
        divided: bool = False,
    ) -> None:
        """`check_mail`: in place of checks and looks over the network. `divided`: nodes divide the checks."""
        self._settings = settings
        self._executor = executor
        self._ambient = ambient
        self._large_mails = asyncio.Semaphore(settings.large_mails_max)
        self.requests = Requests(settings.network, timeout_s=REQUEST_TIMEOUT_S)
        grants = StoredGrants(log, directory, mailboxes, settings.providers)
        self.tokens = Tokens(grants, self.requests, ambient)
        self.connections = Connections(
            settings.providers,
            settings.watch_connections_max,
            lending,
            settings.checks_per_host_max if divided else 0,
        )
        shared: dict[str, Any] = {"requests": self.requests, "ambient": ambient, "network": settings.network}
        self.looking = Looking(settings.check, large_mails=self._large_mails, executor=executor, **shared)
        one = OneMail(limits=settings.check, **shared)
        many = ManyMails(limits=settings.check, large_mails=self._large_mails, executor=executor, **shared)

        def signing(read: CheckMail, gate: Gate) -> SigningIn:
            ways = Ways(log, read, settings.providers, grants, self.tokens, gate, mailboxes.reached)
            return SigningIn(log, settings.providers, ways, mailboxes.reached, settings.proxy, group_proxy)

        gate, opening = self.connections.of_check, self.connections.of_mail
        self.checks = signing(check_mail or self._check, gate)
        self.looks = signing(check_mail or self.looking.new, lambda _plan: nullcontext())
        """A watcher has its place before it signs in, and keeps it afterwards."""
        self.one_mail = signing(one, opening)
        self.many_mails = signing(many, opening)
        self.login = SigningInOnly(limits=settings.check, **shared)
        self.sign_in = signing(check_mail or self.login, gate)

    async def close(self, timeout_s: float) -> None:
        """Let refreshes of tokens end, and close what is open. Idempotent."""
        await self.tokens.close(timeout_s)
        await self.requests.close()

    async def _check(self, target: Target | GraphTarget, since: UidCursor | None, sink: Sink) -> Ok:
        settings = self._settings
        shared: dict[str, Any] = {
            "sink": sink,
            "limits": settings.check,
            "large_mails": self._large_mails,
            "executor": self._executor,
            "ambient": self._ambient,
        }
        if isinstance(target, GraphTarget):
            return await check_graph(target, since, requests=self.requests, **shared)
        return await checker.check(target, since, network=settings.network, **shared)
