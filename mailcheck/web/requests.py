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
    from huahuo.mailcheck.web.http_client import HttpClient

ANSWER_BYTES_MAX = 4 * 1024 * 1024
_CLIENTS_MAX = 64
"""Proxies with open connections. The one not used for longest is closed first."""


class Requests:
    """One for the service. All methods belong to the loop's thread."""

    def __init__(self, network: Network, *, timeout_s: float) -> None:
        self._network = network
        self._timeout_s = timeout_s
        self._clients: dict[Proxy | None, HttpClient] = {}

    async def post_form(self, url: str, fields: Mapping[str, str], proxy: Proxy | None = None) -> Answer:
        """Post a form.

        Raises:
            HostRefused, DnsFailed, ConnectFailed, ProxyFailed, TlsFailed: there was no connection.
            TimedOut, ConnectionLost, BrokenProtocol: there was no answer within the bounds.
        """
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        return await self._send("POST", url, headers, urlencode(fields).encode(), proxy, ANSWER_BYTES_MAX)

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
        return await self._send("GET", url, sent, b"", proxy, bytes_max, may_cut=True)

    async def close(self) -> None:
        """Close idle connections. Idempotent."""
        while self._clients:
            await self._clients.popitem()[1].close()

    async def _send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        content: bytes,
        proxy: Proxy | None,
        bytes_max: int,
        *,
        may_cut: bool = False,
    ) -> Answer:
        client = await self._client(proxy)
        return await client.send(method, url, headers, content, bytes_max, may_cut=may_cut)

    async def _client(self, proxy: Proxy | None) -> "HttpClient":
        client = self._clients.pop(proxy, None)
        if client is None:
            from huahuo.mailcheck.web.http_client import HttpClient

            client = HttpClient(self._network, proxy, self._timeout_s)
        self._clients[proxy] = client
        if len(self._clients) > _CLIENTS_MAX:
            oldest = next(iter(self._clients))
            await self._clients.pop(oldest).close()
        return client
