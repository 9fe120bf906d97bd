"""Requests to token endpoints and Graph.

Each has one deadline and a bound for its answer, and none follows a redirect. Connections are made by
`Network`, so addresses are checked and proxies used as for IMAP. Failures of the way are the same faults; an
answer of any status is an `Answer`.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from huahuo.eventstore.model import Secret
from huahuo.mailcheck.imap.network import Network
from huahuo.mailcheck.servers.proxies import Proxy
from huahuo.mailcheck.web.answers import Answer

if TYPE_CHECKING:
    from huahuo.mailcheck.web.exchanges import Exchanges

ANSWER_BYTES_MAX = 4 * 1024 * 1024


class Requests:
    """One for the service. All methods belong to the loop's thread."""

    def __init__(self, network: Network, *, timeout_s: float) -> None:
        self._network = network
        self._timeout_s = timeout_s
        self._made: Exchanges | None = None

    async def post_form(self, url: str, fields: Mapping[str, str], proxy: Proxy | None = None) -> Answer:
        """Post a form.

        Raises:
            HostRefused, DnsFailed, ConnectFailed, ProxyFailed, TlsFailed: there was no connection.
            TimedOut, ConnectionLost, BrokenProtocol: there was no answer within the bounds.
        """
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        return await self._exchanges().send(
            "POST", url, headers, urlencode(fields).encode(), proxy, ANSWER_BYTES_MAX
        )

    async def get(
        self,
        url: str,
        *,
        token: Secret,
        headers: Mapping[str, str],
        proxy: Proxy | None = None,
        bytes_max: int = ANSWER_BYTES_MAX,
    ) -> Answer:
        """Get with an access token. A longer body is cut at `bytes_max`. Raises as `post_form`."""
        sent = {"Authorization": f"Bearer {token.reveal()}", **headers}
        return await self._exchanges().send("GET", url, sent, b"", proxy, bytes_max, may_cut=True)

    async def close(self) -> None:
        """Close idle connections. Idempotent."""
        if self._made is not None:
            await self._made.close()

    def _exchanges(self) -> "Exchanges":
        if self._made is None:
            from huahuo.mailcheck.web.exchanges import Exchanges  # httpx is a tenth of a start's imports

            self._made = Exchanges(self._network, self._timeout_s)
        return self._made
