"""One POST to an address that a user named: resolved once, each address checked, no redirect followed.

The connection goes to a checked address, so a DNS server that changes its answer cannot swap it afterwards
(DNS rebinding). A redirect could lead anywhere, so it is a failure.
"""

import asyncio
import ssl
from collections.abc import Sequence
from typing import Final
from urllib.parse import SplitResult, urlsplit

import h11

from huahuo.actors.outside.addresses import AddressRefused, host_name, refusal
from huahuo.actors.outside.names import Names, Resolver
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.deadline import Deadline

TIMEOUT_S: Final = 15.0
_ADDRESSES_MAX: Final = 4
_READ_BYTES: Final = 16 << 10
_ANSWER_BYTES_MAX: Final = 64 << 10
"""Of an answer, of which only the status counts. Behind it, the connection is cut."""
_PORTS: Final = {"https": 443, "http": 80}


class PostFailed(Exception):  # noqa: N818  a fact, not a fault
    """There was no answer. The text says why, without the URL."""


class Posting:
    """See the module. `tls` verifies certificates and names."""

    def __init__(
        self,
        ambient: Ambient,
        *,
        allow_private: bool,
        resolver: Resolver | None = None,
        tls: ssl.SSLContext | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._ambient = ambient
        self._allow_private = allow_private
        self._resolver = resolver or Names()
        self._tls = tls
        self._timeout_s = timeout_s

    async def post(self, url: str, headers: Sequence[tuple[str, str]], body: bytes) -> int:
        """The status of the answer. Raises PostFailed."""
        parts = urlsplit(url)
        port = parts.port or _PORTS[parts.scheme]
        try:
            async with Deadline(self._ambient, self._timeout_s):
                reader, writer = await self._connected(parts.scheme, parts.hostname or "", port)
                try:
                    return await _exchanged(reader, writer, _request(parts, headers, body), body)
                finally:
                    writer.transport.abort()
        except TimeoutError:
            raise PostFailed(f"no answer within {self._timeout_s:g} s") from None
        except ssl.SSLCertVerificationError as error:
            raise PostFailed(f"its certificate is not good: {error.verify_message}") from None
        except ssl.SSLError:
            raise PostFailed("no secure connection") from None
        except OSError as error:
            raise PostFailed(error.strerror or "the connection failed") from None
        except h11.RemoteProtocolError:
            raise PostFailed("the answer is no HTTP") from None

    async def _connected(
        self, scheme: str, host: str, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to the first allowed address that accepts it."""
        name, addresses = await self._addresses(host, port)
        failed: OSError = ConnectionError("no address of the host can be tried")
        for address in addresses:
            try:
                if scheme == "http":
                    return await asyncio.open_connection(address, port)
                if self._tls is None:  # loading the authorities is slow, and most services have no webhooks
                    self._tls = ssl.create_default_context()
                return await asyncio.open_connection(address, port, ssl=self._tls, server_hostname=name)
            except ssl.SSLError:
                raise
            except OSError as error:
                failed = error
        raise failed

    async def _addresses(self, host: str, port: int) -> tuple[str, list[str]]:
        try:
            name = host_name(host)
            found = await self._resolver(name, port)
        except AddressRefused as error:
            raise PostFailed(str(error)) from None
        except (OSError, UnicodeError):
            raise PostFailed("the host's name has no address") from None
        why, allowed = "the host's name has no address", []
        for address in found:
            reason = refusal(address, allow_private=self._allow_private)
            if reason is None:
                allowed.append(address)
            else:
                why = f"its address is refused: {reason}"
        if not allowed:
            raise PostFailed(why)
        return name, allowed[:_ADDRESSES_MAX]


def _request(parts: SplitResult, headers: Sequence[tuple[str, str]], body: bytes) -> h11.Request:
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    given = [
        ("host", parts.netloc),
        ("content-type", "application/json"),
        ("content-length", str(len(body))),
        ("user-agent", "huahuo-webhooks"),
        ("connection", "close"),
        *headers,
    ]
    return h11.Request(method="POST", target=target, headers=given)


async def _exchanged(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: h11.Request, body: bytes
) -> int:
    wire = h11.Connection(h11.CLIENT)
    writer.write(wire.send(request) + wire.send(h11.Data(data=body)) + wire.send(h11.EndOfMessage()))
    await writer.drain()
    status, size = 0, 0
    while True:
        event = wire.next_event()
        if event is h11.NEED_DATA:
            data = await reader.read(_READ_BYTES)
            size += len(data)
            wire.receive_data(data)
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed) or event is h11.PAUSED:
            return status
        if size > _ANSWER_BYTES_MAX:  # without a status: "100 Continue" again and again
            return status
