"""The addresses of names that users choose, asked without a thread, so that no lookup waits for another.

`/etc/hosts` and `/etc/resolv.conf` count. A process that was forked from a service asks anew.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from aiodns import DNSResolver

AT_ONCE: Final = 256
"""More than callers ask for at a time by their own bounds, in which users have shares."""
_TIMEOUT_S: Final = 2.0
"""Of the first question to a server. The second one waits for longer."""
_TRIES: Final = 2
_NAMES_KEPT: Final = 10_000
"""The library keeps each answer for as long as that says, so it is begun anew after so many."""

type Resolver = Callable[[str, int], Awaitable[list[str]]]
"""Gives the addresses of a host as texts, best first. Raises OSError if there are none."""


class Names:
    """A `Resolver`, see the module. `servers`: DNS servers (`address:port`) instead of the system's."""

    def __init__(self, servers: Sequence[str] = ()) -> None:
        self._servers = servers
        self._dns: DNSResolver | None = None
        self._asked = self._asking = 0

    async def __call__(self, host: str, port: int) -> list[str]:
        """See `Resolver`."""
        try:
            return [str(ipaddress.ip_address(host))]
        except ValueError:
            pass
        from aiodns.error import DNSError  # most services send to no name

        if self._asking >= AT_ONCE:
            raise OSError("too many names are being looked up")
        dns = self._resolver()
        self._asking += 1
        try:
            found = await dns.getaddrinfo(host, port=port, type=socket.SOCK_STREAM)
        except DNSError as error:
            raise OSError(error.args[-1]) from None
        finally:
            self._asking -= 1
            if not self._asking:
                dns.cancel()  # questions of callers that have given up: the loop may end now
        return list(dict.fromkeys(node.addr[0].decode() for node in found.nodes))

    def _resolver(self) -> "DNSResolver":
        from aiodns import DNSResolver

        self._asked += 1
        loop = asyncio.get_running_loop()
        if self._dns is None or self._dns.loop is not loop or self._asked % _NAMES_KEPT == 0:
            self._dns = DNSResolver(self._servers or None, loop, timeout=_TIMEOUT_S, tries=_TRIES)
        return self._dns
