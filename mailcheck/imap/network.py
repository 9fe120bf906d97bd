"""Connecting to a mail server: resolve once, check each address, connect to a checked address.

`check` calls `open_stream`, and no other code in this package opens a connection. The name is resolved
exactly once, so a DNS server that changes its answer cannot swap the address after the check (DNS rebinding).
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from huahuo.eventstore.ambient import Ambient, SystemAmbient
from huahuo.eventstore.deadline import Deadline
from huahuo.mailcheck.imap.stream import ImapStream
from huahuo.mailcheck.servers.faults import ConnectFailed, DnsFailed, HostRefused, TlsFailed
from huahuo.mailcheck.servers.host_rules import Reason, host_name, is_public, refusal

_ADDRESSES_MAX = 6

type Resolver = Callable[[str, int], Awaitable[list[str]]]
"""Gives the addresses of a host as texts, best first. Raises OSError if there are none."""


async def system_resolver(host: str, port: int) -> list[str]:
    """The running loop's own resolver: the machine's, or that of a simulated world."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


@dataclass(frozen=True, kw_only=True)
class Network:
    """What a check may use of the network. `ports` restrict only while `allow_private` is False.

    `tls` verifies certificates and names. It is made once, because loading the authorities is slow.
    """

    allow_private: bool = False
    ports: frozenset[int] = frozenset({993, 143})
    resolver: Resolver = system_resolver
    tls: ssl.SSLContext = field(default_factory=ssl.create_default_context)
    ambient: Ambient = field(default_factory=SystemAmbient)

    async def addresses(self, host: str, port: int, timeout_s: float) -> tuple[str, list[str]]:
        """The host's normal form and its allowed addresses.

        Raises:
            HostRefused: the host, the port or every address of the host is not allowed.
            DnsFailed: there is no address, or the answer came too late.
        """
        name = host_name(host)
        if not 0 < port < 1 << 16 or not (self.allow_private or port in self.ports):
            raise HostRefused(Reason.PORT)
        try:
            async with Deadline(self.ambient, timeout_s):
                found = await self.resolver(name, port)
        except TimeoutError:
            raise DnsFailed("no answer in time") from None
        except (OSError, UnicodeError):
            raise DnsFailed("the name has no address") from None
        verdicts = [(refusal(address, allow_private=self.allow_private), address) for address in found]
        allowed = [address for reason, address in verdicts if reason is None]
        if not allowed:
            refused = [reason for reason, _ in verdicts if reason is not None]
            raise HostRefused(refused[0]) if refused else DnsFailed("the name has no address")
        return name, allowed[:_ADDRESSES_MAX]

    async def open_stream(self, host: str, port: int, *, use_ssl: bool, timeout_s: float) -> ImapStream:
        """A connection to the first allowed address that accepts it. Each try has `timeout_s`.

        With `use_ssl` the TLS handshake, for the given name, is part of it.

        Raises:
            HostRefused: see `addresses`.
            DnsFailed: see `addresses`.
            ConnectFailed: no address accepted the connection.
            TlsFailed: the handshake failed. After a bad certificate no other address is tried.
        """
        name, candidates = await self.addresses(host, port, timeout_s)
        fault: ConnectFailed | TlsFailed = ConnectFailed("no address tried")
        for address in candidates:
            try:
                return await self._connect(name, address, port, use_ssl=use_ssl, timeout_s=timeout_s)
            except TlsFailed as failed:
                if failed.certificate:
                    raise
                fault = failed
            except ConnectFailed as failed:
                fault = failed
        raise fault

    async def _connect(
        self, name: str, address: str, port: int, *, use_ssl: bool, timeout_s: float
    ) -> ImapStream:
        loop = asyncio.get_running_loop()
        try:
            async with Deadline(self.ambient, timeout_s):
                _, stream = await loop.create_connection(
                    lambda: ImapStream(name, self.tls, public=is_public(address)),
                    address,
                    port,
                    ssl=self.tls if use_ssl else None,
                    server_hostname=name if use_ssl else None,
                )
        except TimeoutError:
            raise ConnectFailed("no answer in time", timed_out=True) from None
        except ssl.SSLCertVerificationError as error:
            raise TlsFailed(error.verify_message, certificate=True) from None
        except ssl.SSLError as error:
            raise TlsFailed(error.reason or "handshake failed") from None
        except OSError as error:
            raise ConnectFailed(error.strerror or "connection failed") from None
        return stream
