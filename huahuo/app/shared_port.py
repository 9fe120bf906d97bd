"""Sockets that listen on one port for several processes (SO_REUSEPORT): the kernel spreads the clients."""

import asyncio
import errno
import socket
from collections.abc import Sequence
from typing import Any, Final

WAIT_S: Final = 2.0
"""For how long a port may still be taken: workers of an owner that was killed die within this."""
_LOOK_S: Final = 0.05
_NOT_HERE: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
"""Of an address that a name has but this machine has not, such as `::1` without IPv6."""


async def bind(host: str, port: int, count: int) -> list[list[socket.socket]]:
    """The sockets of `count` processes, bound and not listening yet. Port 0 takes a free one for all.

    One process shares the port with no other.

    Raises:
        OSError: the address is not available, or another program listens there.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    addresses = [(family, address) for family, _, _, _, address in dict.fromkeys(found)]
    if port:
        await _until_free(addresses)
    made: list[list[socket.socket]] = []
    try:
        for _ in range(count):
            made.append(bound_all(addresses, shared=count > 1, port=port))
            port = port or made[0][0].getsockname()[1]
    except BaseException:
        for sock in (sock for of_one in made for sock in of_one):
            sock.close()
        raise
    return made


def again(addresses: Sequence[tuple[int, tuple[object, ...]]]) -> list[socket.socket]:
    """New sockets at the addresses of some that were closed. Raises OSError."""
    return [bound(family, address, shared=True) for family, address in addresses]


async def _until_free(addresses: Sequence[tuple[int, tuple[Any, ...]]]) -> None:
    """Wait until no process listens there. A shared port would be shared with any program of this user."""
    deadline_s = asyncio.get_running_loop().time() + WAIT_S
    while True:
        try:
            for sock in bound_all(addresses, shared=False):
                sock.close()
        except OSError as error:
            if error.errno != errno.EADDRINUSE or asyncio.get_running_loop().time() > deadline_s:
                raise
            await asyncio.sleep(_LOOK_S)
        else:
            return


def bound_all(
    addresses: Sequence[tuple[int, tuple[Any, ...]]], *, shared: bool, port: int = 0
) -> list[socket.socket]:
    """A socket for each address that this machine has, all at `port`, else at theirs. Raises OSError."""
    made: list[socket.socket] = []
    absent = OSError("the host has no address")
    for family, (host, own, *rest) in addresses:
        at = port or own or (made[0].getsockname()[1] if made else 0)
        try:
            made.append(bound(family, (host, at, *rest), shared=shared))
        except OSError as error:
            if error.errno not in _NOT_HERE:
                for sock in made:
                    sock.close()
                raise
            absent = error
    if not made:
        raise absent
    return made


def bound(family: int, address: tuple[object, ...], *, shared: bool) -> socket.socket:
    """A bound socket that does not listen yet. `shared`: other processes may bind it too. Raises OSError."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
    except BaseException:
        sock.close()
        raise
    return sock
