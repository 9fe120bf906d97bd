"""Signing in to a mailbox and asking which folders it has: no mail is read. Effects only: no event, no log.

It takes the place of a check (`SigningIn`), so it signs in as a check of the mailbox does.
"""

from huahuo.actors.effects.traced import stage
from huahuo.eventstore.ambient import Ambient
from huahuo.mailcheck.checks.graph_check import graph_of
from huahuo.mailcheck.checks.no_reports import NoReports
from huahuo.mailcheck.checks.ports import CheckFailed, CheckLimits, GraphTarget, Ok, Sink, Target
from huahuo.mailcheck.checks.session import connected, greet, sign_in
from huahuo.mailcheck.fetched import UidCursor
from huahuo.mailcheck.imap.folders import chosen, selectable
from huahuo.mailcheck.imap.network import Network
from huahuo.mailcheck.imap.outcome import classify
from huahuo.mailcheck.servers.faults import MailFault
from huahuo.mailcheck.web.requests import Requests


class Folders(NoReports):
    """What was found.

    `names` are in the order of the server; `junk` is the one that holds junk, "" if there is none.
    """

    def __init__(self, *, wanted: bool = True) -> None:
        """`wanted` False: signing in is enough."""
        self.wanted = wanted
        self.names: list[str] = []
        self.junk = ""


class SigningInOnly:
    """See the module. Implements `CheckMail`; `sink` is a `Folders`, or of a check that only signs in."""

    def __init__(
        self, *, network: Network, requests: Requests, limits: CheckLimits, ambient: Ambient
    ) -> None:
        self._network = network
        self._requests = requests
        self._limits = limits
        self._ambient = ambient

    async def __call__(self, target: Target | GraphTarget, since: UidCursor | None, sink: Sink) -> Ok:
        """Sign in. Raises CheckFailed."""
        folders = sink if isinstance(sink, Folders) else Folders(wanted=False)
        try:
            if isinstance(target, GraphTarget):
                await self._by_graph(target, folders)
            else:
                await self._over_imap(target, folders)
        except MailFault as fault:
            by_graph = isinstance(target, GraphTarget)
            raise CheckFailed(classify(fault, over_http=by_graph)) from fault
        return Ok(0, since or UidCursor("", 0, 0), resynced=False)

    async def _by_graph(self, target: GraphTarget, folders: Folders) -> None:
        graph = graph_of(target, self._requests, self._ambient)
        folders.names = [name for _, name in await graph.folders()]

    async def _over_imap(self, target: Target, folders: Folders) -> None:
        with stage("imap connect"):
            place, client = await connected(target, self._network, self._limits, self._ambient)
        try:
            with stage("imap greet"):
                await greet(client, place)
            with stage("imap sign in"):
                await sign_in(client, target, place)
            if folders.wanted:
                listed = await client.folders()
                folders.names = [folder.name for folder in selectable(listed)]
                folders.junk = next((folder.name for folder in chosen(listed, ("junk",))), "")
            await client.logout(self._limits.logout_timeout_s)
        finally:
            client.abort()
