"""The way through an HTTP proxy: `CONNECT`, and its answer, of which not one byte too many is read.

What comes behind the answer is the mail server's, and it may be in the same segment. A proxy may send its
answer in several segments, too.

Connecting to a mail server: resolve once, check each address, connect to a checked address.

`check` calls `open_stream`, `huahuo.mailcheck.servers` calls `connect`, and no other code in this package
opens a connection. The name is resolved exactly once, so a DNS server that changes its answer cannot swap
the address after the check (DNS rebinding).

A proxy gets the checked address too, if a user named the host. Names of the operator's own table go to the
proxy as they are: many proxies admit names only, and they may know what the local DNS does not.
"""

import asyncio
import re
import socket
import ssl
from base64 import b64encode
from dataclasses import dataclass, field
from typing import Any, Final

from huahuo.actors.plugins.resolver import Names, Resolver
from huahuo.eventstore.ambient import Ambient, SystemAmbient
from huahuo.eventstore.deadline import Deadline
from huahuo.mailcheck.servers import faults
from huahuo.mailcheck.servers.imap_client import ImapStream
from huahuo.mailcheck.servers.providers import Proxy, Reason, host_name, is_private, is_public, refusal

_HEAD_BYTES_MAX: Final = 4 * 1024
_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: ([ -~]{0,80}))?")
_OK: Final = 200


async def connect_through(sock: socket.socket, proxy: Proxy, host: str, port: int) -> None:
    """Let the proxy at the other end of `sock` connect to `host`. The caller bounds the time.

    Raises:
        ProxyFailed: it refuses, or its answer is no HTTP.
        OSError: the connection to the proxy broke.
    """
    loop = asyncio.get_running_loop()
    at = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    request = f"CONNECT {at} HTTP/1.1\r\nHost: {at}\r\n{_sign_in(proxy)}\r\n"
    await loop.sock_sendall(sock, request.encode())
    head = bytearray()
    while not head.endswith((b"\n\r\n", b"\n\n")):
        byte = await loop.sock_recv(sock, 1)
        if not byte or len(head) >= _HEAD_BYTES_MAX:
            raise faults.ProxyFailed("the proxy gave no whole answer")
        head += byte
    status = _STATUS.match(head)
    if status is None:
        raise faults.ProxyFailed("the proxy does not speak HTTP")
    if int(status[1]) // 100 != _OK // 100:
        raise faults.ProxyFailed(f"{status[1].decode()} {(status[2] or b'').decode()}".strip())


def _sign_in(proxy: Proxy) -> str:
    if not proxy.user:
        return ""
    password = "" if proxy.password is None else proxy.password.reveal()
    both = b64encode(f"{proxy.user}:{password}".encode()).decode()
    return f"Proxy-Authorization: Basic {both}\r\n"


_ADDRESSES_MAX = 6


@dataclass(frozen=True, kw_only=True)
class Network:
    """What a check may use of the network. `ports` restrict only while `allow_private` is False.

    `tls` verifies certificates and names. It is made once, because loading the authorities is slow.
    """

    allow_private: bool = False
    ports: frozenset[int] = frozenset({993, 143})
    resolver: Resolver = field(default_factory=Names)
    tls: ssl.SSLContext = field(default_factory=ssl.create_default_context)
    ambient: Ambient = field(default_factory=SystemAmbient)

    async def addresses(
        self, host: str, port: int, timeout_s: float, *, any_port: bool = False
    ) -> tuple[str, list[str]]:
        """The host's normal form and its allowed addresses.

        Raises:
            HostRefused: the host, the port or every address of the host is not allowed.
            DnsFailed: there is no address, or the answer came too late.
        """
        name = host_name(host)
        if not 0 < port < 1 << 16 or not (any_port or self.allow_private or port in self.ports):
            raise faults.HostRefused(Reason.PORT)
        try:
            async with Deadline(self.ambient, timeout_s):
                found = await self.resolver(name, port)
        except TimeoutError:
            raise faults.DnsFailed("no answer in time") from None
        except (OSError, UnicodeError):
            raise faults.DnsFailed("the name has no address") from None
        verdicts = [(refusal(address, allow_private=self.allow_private), address) for address in found]
        allowed = [address for reason, address in verdicts if reason is None]
        if not allowed:
            refused = [reason for reason, _ in verdicts if reason is not None]
            raise faults.HostRefused(refused[0]) if refused else faults.DnsFailed("the name has no address")
        return name, allowed[:_ADDRESSES_MAX]

    async def open_stream(
        self,
        host: str,
        port: int,
        *,
        use_ssl: bool,
        timeout_s: float,
        listed: bool = False,
        proxy: Proxy | None = None,
    ) -> ImapStream:
        """A connection to the first allowed address that accepts it. Each try has `timeout_s`.

        With `use_ssl` the TLS handshake, for the given name, is part of it. `listed`: the operator named host
        and port.

        Raises:
            HostRefused: see `addresses`.
            DnsFailed: see `addresses`.
            ConnectFailed: no address accepted the connection.
            ProxyFailed: the proxy did not connect.
            TlsFailed: the handshake failed. After a bad certificate no other address is tried.
        """
        name, candidates = await self._targets(host, port, timeout_s, listed=listed, proxy=proxy)
        fault: faults.MailFault = faults.ConnectFailed("no address tried")
        for address in candidates:
            try:
                return await self._open(
                    name, address, port, use_ssl=use_ssl, timeout_s=timeout_s, proxy=proxy
                )
            except faults.TlsFailed as failed:
                if failed.certificate:
                    raise
                fault = failed
            except (faults.ConnectFailed, faults.ProxyFailed) as failed:
                fault = failed
        raise fault

    async def connect(
        self, host: str, port: int, *, timeout_s: float, proxy: Proxy | None = None
    ) -> socket.socket:
        """A connected socket to a host that the operator named. Raises as `open_stream`, without TLS."""
        _, candidates = await self._targets(host, port, timeout_s, listed=True, proxy=proxy)
        fault: faults.MailFault = faults.ConnectFailed("no address tried")
        for address in candidates:
            try:
                return await self._socket(address, port, timeout_s, proxy)
            except (faults.ConnectFailed, faults.ProxyFailed) as failed:
                fault = failed
        raise fault

    async def _targets(
        self, host: str, port: int, timeout_s: float, *, listed: bool, proxy: Proxy | None
    ) -> tuple[str, list[str]]:
        """The host's normal form, and the addresses (or the name for a proxy) to try."""
        if proxy is not None and listed:
            name = host_name(host)
            return name, [name]
        return await self.addresses(host, port, timeout_s, any_port=listed)

    async def _open(
        self, name: str, address: str, port: int, *, use_ssl: bool, timeout_s: float, proxy: Proxy | None
    ) -> ImapStream:
        loop = asyncio.get_running_loop()
        sock = None if proxy is None else await self._socket(address, port, timeout_s, proxy)
        where: dict[str, Any] = {"host": address, "port": port} if sock is None else {"sock": sock}
        # A proxy may reach a name at any address, and one that a user named sees what passes. So what is
        # behind it counts as public, unless both are known to be in the own network.
        public = is_public(address) or not (proxy is None or (_is_near(proxy) and is_private(address)))
        try:
            async with Deadline(self.ambient, timeout_s):
                _, stream = await loop.create_connection(
                    lambda: ImapStream(name, self.tls, public=public),
                    **where,
                    ssl=self.tls if use_ssl else None,
                    server_hostname=name if use_ssl else None,
                )
        except TimeoutError:
            raise faults.ConnectFailed("no answer in time", timed_out=True) from None
        except ssl.SSLCertVerificationError as error:
            raise faults.TlsFailed(error.verify_message, certificate=True) from None
        except ssl.SSLError as error:
            raise faults.TlsFailed(error.reason or "handshake failed") from None
        except OSError as error:
            raise faults.ConnectFailed(error.strerror or "connection failed") from None
        return stream

    async def _socket(self, address: str, port: int, timeout_s: float, proxy: Proxy | None) -> socket.socket:
        try:
            async with Deadline(self.ambient, timeout_s):
                if proxy is not None:
                    return await self._through(proxy, address, port, timeout_s)
                return await _dialled(address, port)
        except TimeoutError:
            if proxy is not None:
                raise faults.ProxyFailed("no answer in time") from None
            raise faults.ConnectFailed("no answer in time", timed_out=True) from None
        except OSError as error:
            raise faults.ConnectFailed(error.strerror or "connection failed") from None

    async def _through(self, proxy: Proxy, address: str, port: int, timeout_s: float) -> socket.socket:
        try:
            if proxy.trusted:
                hosts = await self.resolver(proxy.host, proxy.port)
            else:
                _, hosts = await self.addresses(proxy.host, proxy.port, timeout_s, any_port=True)
            if proxy.scheme == "http":
                return await _through_http(proxy, hosts[:_ADDRESSES_MAX], address, port)
        except (OSError, faults.DnsFailed) as error:
            raise faults.ProxyFailed("the proxy cannot be reached") from error
        return await self._through_socks(proxy, hosts[0], address, port, timeout_s)

    async def _through_socks(
        self, proxy: Proxy, host: str, address: str, port: int, timeout_s: float
    ) -> socket.socket:
        # The library is loaded by those only who use such a proxy.
        from python_socks import ProxyError, ProxyType
        from python_socks.async_.asyncio import Proxy as Dialer

        password = "" if proxy.password is None else proxy.password.reveal()
        dialer = Dialer(ProxyType.SOCKS5, host, proxy.port, proxy.user or None, password, rdns=True)
        try:
            sock: socket.socket = await dialer.connect(address, port, timeout=timeout_s)
        except ProxyError as error:
            raise faults.ProxyFailed(str(error)) from error
        except OSError as error:
            raise faults.ProxyFailed("the proxy cannot be reached") from error
        except Exception as error:  # the library has errors of no common kind, as for an answer cut off
            raise faults.ProxyFailed("the proxy gave no whole answer") from error
        return sock


def _is_near(proxy: Proxy) -> bool:
    """Whether the operator named a proxy, or its host is an address of the own network."""
    return proxy.trusted or is_private(proxy.host)


async def _through_http(proxy: Proxy, hosts: list[str], address: str, port: int) -> socket.socket:
    """By the first address of the proxy that can be reached. Raises OSError if none can, and ProxyFailed."""
    fault = OSError("it has no address")
    for host in hosts:
        try:
            sock = await _dialled(host, proxy.port)
        except OSError as error:
            fault = error
            continue
        try:
            await connect_through(sock, proxy, address, port)
        except BaseException:
            sock.close()
            raise
        return sock
    raise fault


async def _dialled(address: str, port: int) -> socket.socket:
    """A connected socket. Raises OSError."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(sock, (address, port))
    except BaseException:
        sock.close()
        raise
    return sock
