"""One mail as it lies on its server, fetched when a user asks for what is not stored here.

It signs in as a check does. The mail is found by its place; if it was moved since, it is not looked for.
"""

from typing import Final

from imapclient.imap_utf7 import encode as encode_utf7

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.deadline import Deadline
from huahuo.mailcheck.checks.ports import CheckFailed, CheckLimits, GraphTarget, Ok, Target
from huahuo.mailcheck.checks.session import connected, greet, sign_in
from huahuo.mailcheck.fetched import FetchedMail, UidCursor
from huahuo.mailcheck.imap.client import ImapClient
from huahuo.mailcheck.imap.network import Network
from huahuo.mailcheck.imap.outcome import classify
from huahuo.mailcheck.servers.faults import CommandRefused, MailFault, TimedOut
from huahuo.mailcheck.tables.records import MailRecord
from huahuo.mailcheck.web.graph import Graph
from huahuo.mailcheck.web.requests import Requests

_DONE: Final = Ok(0, UidCursor("", 0, 0), resynced=False)
_TIMEOUT_S: Final = 60.0
"""For a whole mail: a user waits."""


class Wanted:
    """The mail that is wanted, and what came of it. It takes the place of the sink of a check."""

    def __init__(self, record: MailRecord) -> None:
        self.record = record
        self.raw: bytes | None = None

    async def progress(self, percent: int, message: str) -> None:
        """See `Sink`."""

    async def mails(self, batch: list[FetchedMail], cursor: UidCursor) -> None:
        """See `Sink`."""


class OneMail:
    """See the module, and `CheckMail`."""

    def __init__(self, limits: CheckLimits, network: Network, requests: Requests, ambient: Ambient) -> None:
        self._limits = limits
        self._network = network
        self._requests = requests
        self._ambient = ambient

    async def fetch(self, target: Target | GraphTarget, since: UidCursor | None, sink: object) -> Ok:
        """Give the wanted mail its bytes; None: it is not there any more. Raises CheckFailed."""
        del since
        assert isinstance(sink, Wanted), "nobody else wants one mail"
        try:
            async with Deadline(self._ambient, _TIMEOUT_S):
                if isinstance(target, GraphTarget):
                    sink.raw = await self._by_graph(target, sink.record)
                else:
                    sink.raw = await self._over_imap(target, sink.record)
        except MailFault as fault:
            raise CheckFailed(classify(fault)) from fault
        except TimeoutError:
            raise CheckFailed(classify(TimedOut("one mail took too long"))) from None
        return _DONE

    async def _over_imap(self, target: Target, record: MailRecord) -> bytes | None:
        place, client = await connected(target, self._network, self._limits, self._ambient)
        try:
            await greet(client, place)
            await sign_in(client, target, place)
            return await self._read(client, record)
        finally:
            client.abort()

    async def _read(self, client: ImapClient, record: MailRecord) -> bytes | None:
        try:
            folder = await client.examine(encode_utf7(record.folder).decode("ascii"))
        except CommandRefused:
            return None
        if folder.uidvalidity != record.uidvalidity:
            return None
        found = await client.fetch_bodies([record.uid], bytes_expected=max(record.size, 1))
        return found[record.uid].body if record.uid in found else None

    async def _by_graph(self, target: GraphTarget, record: MailRecord) -> bytes | None:
        if not isinstance(record.remote_id, str):
            return None
        graph = Graph(
            self._requests,
            self._ambient,
            url=target.url,
            token=target.token,
            renew=target.renew,
            proxy=target.proxy,
        )
        answer = await graph.mail(record.remote_id, self._limits.mail_bytes_max)
        return None if answer is None or answer.cut else answer.body
