"""One request and its answer, by httpx over connections that `Network` makes.

A body is unpacked here and no further than its bound: a kilobyte may stand for a gigabyte.
"""

import asyncio
import ssl
import zlib
from collections.abc import AsyncIterator, Iterable, Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, cast

import httpcore
import httpx

from huahuo.eventstore.deadline import Deadline
from huahuo.mailcheck.servers.faults import BrokenProtocol, ConnectionLost, TimedOut, TlsFailed
from huahuo.mailcheck.servers.network import Network
from huahuo.mailcheck.servers.outcome import Answer
from huahuo.mailcheck.servers.providers import Proxy

_CLIENTS_MAX = 64
"""Proxies with open connections. The one not used for longest is closed first."""
_CONNECTIONS_MAX = 16
_KEPT_S = 30.0
_GZIP = 16 + zlib.MAX_WBITS


class Exchanges:
    """See the module. All methods belong to the loop's thread."""

    def __init__(self, network: Network, timeout_s: float) -> None:
        self._network = network
        self._timeout_s = timeout_s
        self._clients: dict[Proxy | None, httpx.AsyncClient] = {}

    async def close(self) -> None:
        """Close idle connections. Idempotent."""
        while self._clients:
            await self._clients.popitem()[1].aclose()

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
        client = await self._client(proxy)
        try:
            async with (
                Deadline(self._network.ambient, self._timeout_s),
                client.stream(
                    method, url, headers={**headers, "Accept-Encoding": "gzip"}, content=content
                ) as response,
            ):
                body, packed = bytearray(), _packed(response)
                async for chunk in response.aiter_raw():
                    if packed is None:
                        body += chunk
                    elif not packed.eof:  # it would keep what follows the end, with a copy for each chunk
                        body += packed.decompress(chunk, bytes_max + 1 - len(body))
                    if len(body) > bytes_max:
                        if not may_cut:
                            raise BrokenProtocol("an answer is too long")
                        return _answer(response, bytes(body[:bytes_max]), cut=True)
                return _answer(response, bytes(body))
        except (TimeoutError, httpcore.TimeoutException, httpx.TimeoutException):
            raise TimedOut("no answer over HTTP in time") from None
        except (httpcore.RemoteProtocolError, httpx.InvalidURL, zlib.error):
            raise ConnectionLost("no HTTP answer") from None
        except (httpcore.NetworkError, httpx.TransportError, OSError):
            raise ConnectionLost("the connection ended") from None

    async def _client(self, proxy: Proxy | None) -> httpx.AsyncClient:
        client = self._clients.pop(proxy, None)
        if client is None:
            transport = _Transport(self._network, proxy, self._timeout_s)
            client = httpx.AsyncClient(
                transport=transport, timeout=self._timeout_s, trust_env=False, cookies=_no_cookies()
            )
        self._clients[proxy] = client
        if len(self._clients) > _CLIENTS_MAX:
            oldest = next(iter(self._clients))
            await self._clients.pop(oldest).aclose()
        return client


def _no_cookies() -> CookieJar:
    """A jar that takes none: what a server gave one user must not come back with another one's token."""
    return CookieJar(DefaultCookiePolicy(allowed_domains=()))


def _packed(response: httpx.Response) -> "zlib._Decompress | None":
    coding = response.headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("identity", "gzip", "x-gzip", ""):
        raise BrokenProtocol("an answer is packed in a way that was not asked for")
    return zlib.decompressobj(_GZIP) if "gzip" in coding else None


def _answer(response: httpx.Response, body: bytes, *, cut: bool = False) -> Answer:
    return Answer(
        response.status_code, {name.lower(): one for name, one in response.headers.items()}, body, cut
    )


class _Transport(httpx.AsyncBaseTransport):
    """httpx over connections of ours."""

    def __init__(self, network: Network, proxy: Proxy | None, timeout_s: float) -> None:
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=network.tls,
            max_connections=_CONNECTIONS_MAX,
            keepalive_expiry=_KEPT_S,
            network_backend=_Backend(network, proxy, timeout_s),
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        answer = await self._pool.handle_async_request(
            httpcore.Request(
                method=request.method,
                url=httpcore.URL(
                    scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
                ),
                headers=request.headers.raw,
                content=cast("httpx.AsyncByteStream", request.stream),
                extensions=request.extensions,
            )
        )
        return httpx.Response(
            answer.status, headers=answer.headers, stream=_Body(answer), extensions=answer.extensions
        )

    async def aclose(self) -> None:
        await self._pool.aclose()


class _Body(httpx.AsyncByteStream):
    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._answer.aiter_stream():
            yield chunk

    async def aclose(self) -> None:
        await self._answer.aclose()


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
