"""One request and its answer, by httpcore over connections that `Network` makes.

A body is unpacked here and no further than its bound: a kilobyte may stand for a gigabyte. There are no
cookies, no redirects and no settings of the environment.
"""

import asyncio
import ssl
import zlib
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

import httpcore

from huahuo.eventstore.deadline import Deadline
from huahuo.mailcheck.servers.faults import Answer, BrokenProtocol, ConnectionLost, TimedOut, TlsFailed
from huahuo.mailcheck.servers.network import Network
from huahuo.mailcheck.servers.providers import Proxy, host_name

_POOLS_MAX = 64
"""Proxies with open connections. The one not used for longest is closed first."""
_CONNECTIONS_MAX = 16
_KEPT_S = 30.0
_GZIP = 16 + zlib.MAX_WBITS
_SAFE = "%/:=&?~#+!$,;'@()*[]"


class Exchanges:
    """See the module. All methods belong to the loop's thread."""

    def __init__(self, network: Network, timeout_s: float) -> None:
        self._network = network
        self._timeout_s = timeout_s
        self._pools: dict[Proxy | None, httpcore.AsyncConnectionPool] = {}

    async def close(self) -> None:
        """Close idle connections. Idempotent."""
        while self._pools:
            await self._pools.popitem()[1].aclose()

    async def send(
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
        """Send one request. `may_cut`: a body may end after `bytes_max`. Raises as `Requests.post_form`."""
        try:
            where, host = target_of(url)
            sent = {"Host": host, "User-Agent": "huahuo", "Accept-Encoding": "gzip", **headers}
            pool = await self._pool(proxy)
            async with (
                Deadline(self._network.ambient, self._timeout_s),
                pool.stream(method, where, headers=list(sent.items()), content=content or None) as response,
            ):
                told = {
                    name.decode("latin-1").lower(): one.decode("latin-1") for name, one in response.headers
                }
                body, packed = bytearray(), _packed(told)
                async for chunk in response.aiter_stream():
                    if packed is None:
                        body += chunk
                    elif not packed.eof:  # it would keep what follows the end, with a copy for each chunk
                        body += packed.decompress(chunk, bytes_max + 1 - len(body))
                    if len(body) > bytes_max:
                        if not may_cut:
                            raise BrokenProtocol("an answer is too long")
                        return Answer(response.status, told, bytes(body[:bytes_max]), cut=True)
                return Answer(response.status, told, bytes(body))
        except (TimeoutError, httpcore.TimeoutException):
            raise TimedOut("no answer over HTTP in time") from None
        except (httpcore.NetworkError, OSError):
            raise ConnectionLost("the connection ended") from None
        except (httpcore.ProtocolError, httpcore.UnsupportedProtocol, ValueError, zlib.error):
            raise ConnectionLost("no HTTP answer") from None

    async def _pool(self, proxy: Proxy | None) -> httpcore.AsyncConnectionPool:
        pool = self._pools.pop(proxy, None) or httpcore.AsyncConnectionPool(
            ssl_context=self._network.tls,
            max_connections=_CONNECTIONS_MAX,
            keepalive_expiry=_KEPT_S,
            network_backend=_Backend(self._network, proxy, self._timeout_s),
        )
        self._pools[proxy] = pool
        if len(self._pools) > _POOLS_MAX:
            await self._pools.pop(next(iter(self._pools))).aclose()
        return pool


def target_of(url: str) -> tuple[httpcore.URL, str]:
    """Where a request goes, and its Host. Raises ValueError, HostRefused."""
    parts = urlsplit(url)
    host, port = host_name(parts.hostname or ""), parts.port
    path = quote(parts.path or "/", safe=_SAFE) + (
        f"?{quote(parts.query, safe=_SAFE)}" if parts.query else ""
    )
    where = httpcore.URL(scheme=parts.scheme, host=host, port=port, target=path)
    shown = f"[{host}]" if ":" in host else host
    return where, shown if port is None else f"{shown}:{port}"


def _packed(headers: Mapping[str, str]) -> "zlib._Decompress | None":
    coding = headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("identity", "gzip", "x-gzip", ""):
        raise BrokenProtocol("an answer is packed in a way that was not asked for")
    return zlib.decompressobj(_GZIP) if "gzip" in coding else None


class _Backend(httpcore.AsyncNetworkBackend):
    def __init__(self, network: Network, proxy: Proxy | None, timeout_s: float) -> None:
        self._network = network
        self._proxy = proxy
        self._timeout_s = timeout_s

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  httpcore's interface
        local_address: str | None = None,  # noqa: ARG002
        socket_options: Iterable[Any] | None = None,  # noqa: ARG002
    ) -> httpcore.AsyncNetworkStream:
        sock = await self._network.connect(
            host, port, timeout_s=timeout or self._timeout_s, proxy=self._proxy
        )
        return _Stream(*await asyncio.open_connection(sock=sock))

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class _Stream(httpcore.AsyncNetworkStream):
    """A connection. `Exchanges` has the deadline, so none is needed here."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002, ASYNC109
        try:
            return await self._reader.read(max_bytes)
        except (OSError, ssl.SSLError) as error:
            raise httpcore.ReadError(str(error)) from error

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002, ASYNC109
        try:
            self._writer.write(buffer)
            await self._writer.drain()
        except (OSError, ssl.SSLError) as error:
            raise httpcore.WriteError(str(error)) from error

    async def aclose(self) -> None:
        self._writer.transport.abort()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002, ASYNC109
    ) -> httpcore.AsyncNetworkStream:
        try:
            await self._writer.start_tls(ssl_context, server_hostname=server_hostname)
        except ssl.SSLCertVerificationError as error:
            raise TlsFailed(error.verify_message, certificate=True) from None
        except (OSError, ssl.SSLError) as error:
            raise TlsFailed(getattr(error, "reason", None) or "handshake failed") from None
        return self

    def get_extra_info(self, info: str) -> Any:
        if info == "ssl_object":
            return self._writer.get_extra_info("ssl_object")
        if info == "is_readable":  # an idle connection that the server has closed
            return self._reader.at_eof()
        return None
