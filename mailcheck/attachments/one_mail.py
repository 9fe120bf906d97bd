"""One mail from its server, as it is there. Read-only, as a check. Effects only: no event, no log.

It takes the place of a check (`SigningIn`), so it signs in as a check of the mailbox does.
"""

from imapclient.imap_utf7 import encode as encode_utf7

from huahuo.eventstore.ambient import Ambient
from huahuo.mailcheck.checks.graph_check import graph_of
from huahuo.mailcheck.checks.no_reports import NoReports
from huahuo.mailcheck.checks.ports import CheckFailed, CheckLimits, GraphTarget, Ok, Sink, Target
from huahuo.mailcheck.fetched import UidCursor
from huahuo.mailcheck.imap.client import ImapClient
from huahuo.mailcheck.imap.network import Network
from huahuo.mailcheck.imap.outcome import classify
from huahuo.mailcheck.imap.stream import ImapStream
from huahuo.mailcheck.servers.faults import MailFault
from huahuo.mailcheck.servers.providers import Place
from huahuo.mailcheck.web.requests import Requests


class Wanted(NoReports):
    """What is read, and its text.

    `remote_id`: its id at Graph, "" over IMAP. `source` is None if the mail is not there any more.
    """

    def __init__(self, remote_id: str) -> None:
        self.remote_id = remote_id
        self.source: bytes | None = None


class OneMail:
    """See the module. Implements `CheckMail`: `since` is the place of the mail, `sink` a `Wanted`."""

    def __init__(
        self, *, network: Network, requests: Requests, limits: CheckLimits, ambient: Ambient
    ) -> None:
        self._network = network
        self._requests = requests
        self._limits = limits
        self._ambient = ambient

    async def __call__(self, target: Target | GraphTarget, since: UidCursor | None, sink: Sink) -> Ok:
        """Read the mail. Raises CheckFailed."""
        assert isinstance(sink, Wanted)
        assert since is not None, "the mail has a place"
        try:
            if isinstance(target, GraphTarget):
                await self._by_graph(target, sink)
            else:
                await self._over_imap(target, since, sink)
        except MailFault as fault:
            by_graph = isinstance(target, GraphTarget)
            raise CheckFailed(classify(fault, over_http=by_graph)) from fault
        return Ok(0, since, resynced=False)

    async def _by_graph(self, target: GraphTarget, wanted: Wanted) -> None:
        if not wanted.remote_id:
            return  # it was found over IMAP, and has no name there
        graph = graph_of(target, self._requests, self._ambient)
        answer = await graph.mail(wanted.remote_id, self._limits.mail_bytes_max)
        wanted.source = None if answer is None else answer.body

    async def _over_imap(self, target: Target, place: UidCursor, wanted: Wanted) -> None:
        if wanted.remote_id:
            return
        limits = self._limits
        where, stream = await self._connected(target)
        client = ImapClient(
            stream, self._ambient, command_timeout_s=limits.command_timeout_s,
            fetch_timeout_s=limits.fetch_timeout_s,
        )  # fmt: skip
        try:
            await client.greet()
            await client.secure(where.tls)
            await client.sign_in(target.auth, target.user, target.secret, host=where.host, port=where.port)
            await client.identify()
            folder = await client.examine(encode_utf7(place.folder).decode())
            if folder.uidvalidity == place.uidvalidity:
                most = limits.mail_bytes_max
                found = await client.fetch_bodies([place.uid], bytes_expected=most, bytes_max_each=most)
                wanted.source = found[place.uid].body if place.uid in found else None
            await client.logout(limits.logout_timeout_s)
        finally:
            client.abort()

    async def _connected(self, target: Target) -> tuple[Place, ImapStream]:
        """The first place that can be reached. If none can, the fault of the first."""
        first: MailFault | None = None
        for place in target.places:
            try:
                return place, await self._network.open_stream(
                    place.host, place.port, use_ssl=place.tls == "implicit",
                    timeout_s=self._limits.connect_timeout_s, listed=place.listed, proxy=target.proxy,
                )  # fmt: skip
            except MailFault as fault:
                first = first or fault
        assert first is not None, "a target has a place"
        raise first
