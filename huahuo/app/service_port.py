"""Where a service is: its sockets, the file that tells its address, and one GET to it.

Several processes listen on one port (SO_REUSEPORT): the kernel spreads the clients. The waiting room is
the port of a node that has nothing to serve yet: `/healthz` 200, and `/readyz` 503 with its progress. It
is closed until a node that needs it opens it, and the service takes over its sockets as they listen
(`hand_over`), so that no client is refused in between. `DIR/service.json` tells the other commands where
the service of a directory runs.
"""

import asyncio
import contextlib
import errno
import os
import re
import socket
import urllib.error
import urllib.request
from collections.abc import Sequence
from email.message import Message
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final, Self

import msgspec
import structlog

from huahuo.eventstore.ambient import Ambient
from huahuo.transport.access.claims import SKEW_MS
from huahuo.transport.protocol.codes import AUTH_CLOSES, AuthCode

SERVICE_FILE = "service.json"


class ServiceAddress(msgspec.Struct, frozen=True):
    """A running service: its URL and its process id."""

    url: str
    pid: int


def write_address(directory: Path, url: str) -> None:
    """Write the address of this process (mode 0600, replaced atomically)."""
    temporary = directory / (SERVICE_FILE + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(ServiceAddress(url, os.getpid())) + b"\n")
    temporary.replace(directory / SERVICE_FILE)


def read_address(directory: Path) -> ServiceAddress | None:
    """The content of the file, None if there is none. It is stale if the service was killed."""
    path = directory / SERVICE_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=ServiceAddress) if path.is_file() else None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None


def remove_address(directory: Path) -> None:
    """Remove the file at a regular stop."""
    (directory / SERVICE_FILE).unlink(missing_ok=True)


_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Never through a proxy of the environment, which would look for the service on its own machine."""
_TIMEOUT_S: Final = 2.0
_REASON_BYTES_MAX: Final = 2048


def http_get(url: str, path: str, timeout_s: float) -> str:
    """The text at `path`.

    Raises:
        urllib.error.HTTPError: the answer is an error; it is also an OSError.
        OSError: the service does not answer in time, or something else is there.
    """
    try:
        with _direct.open(_page(url, path), timeout=timeout_s) as answer:
            return str(answer.read().decode(errors="replace"))
    except (HTTPException, ValueError) as error:  # ValueError: of a host that can be none
        raise OSError(f"no page can be had there ({type(error).__name__})") from error


def not_ready(url: str) -> str:
    """Why the service is not ready, in its own words, or that it does not answer. "" if it is ready."""
    try:
        http_get(url, "/readyz", _TIMEOUT_S)
    except urllib.error.HTTPError as error:
        with error:
            try:
                return error.read(_REASON_BYTES_MAX).decode(errors="replace").strip() or str(error)
            except (OSError, HTTPException):
                return str(error)
    except OSError as error:
        return f"no answer: {getattr(error, 'reason', error)}"
    return ""


def time_of(url: str) -> float | None:
    """What time the service has, in seconds since 1970, as its answers say. None if none says it."""
    try:
        with _direct.open(_page(url, "/healthz"), timeout=_TIMEOUT_S) as answer:
            return _date(answer.headers)
    except urllib.error.HTTPError as error:
        with error:
            return _date(error.headers)
    except (OSError, HTTPException, ValueError):
        return None


def _page(url: str, path: str) -> str:
    """The page of a service whose address a user may have given without `http://`, or as a WebSocket's."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "http", url
    scheme = {"ws": "http", "wss": "https"}.get(scheme.lower(), scheme)
    return f"{scheme}://{rest.rstrip('/').removesuffix('/ws')}{path}"


def _date(headers: Message) -> float | None:
    try:
        return parsedate_to_datetime(headers.get("Date", "")).timestamp()
    except ValueError:
        return None


def way_on(url: str, code: str | int, data: Path, ambient: Ambient) -> str:
    """A sentence about a token that the service at `url` refused; "" if nothing is known.

    `code`: of the refusal, or of the close. The token is new. So the service takes it for one of the future,
    or for one that has expired, only if its clock differs from this machine's.
    """
    why = next((auth for auth, close in AUTH_CLOSES.items() if code in (auth, close)), None)
    if why not in (AuthCode.TOKEN_INVALID, AuthCode.TOKEN_EXPIRED):
        return ""
    there_s = time_of(url)
    ahead_ms = 0 if there_s is None else ambient.now_ms() - round(there_s * 1000)
    if (ahead_ms if why is AuthCode.TOKEN_INVALID else -ahead_ms) > SKEW_MS:
        which = "ahead of" if ahead_ms > 0 else "behind"
        return (
            f"The token was made by this machine's clock, which is {abs(ahead_ms) / 1000:.0f} s {which}"
            f" that of {url}: set the clocks by NTP, or give --token of `huahuo token` on that machine"
        )
    if why is AuthCode.TOKEN_EXPIRED:
        return ""
    return (
        f"It was signed with the key of {data}, or of HUAHUO_JWT_SECRET, and the service at {url} has another"
        " one: give --token, or --data of that service"
    )


PORT_WAIT_S: Final = 2.0
"""For how long a port may still be taken: workers of an owner that was killed die within this."""
_LOOK_S: Final = 0.05
_NOT_HERE: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
"""Of an address that a name has but this machine has not, such as `::1` without IPv6."""


async def bind_port(host: str, port: int, count: int) -> list[list[socket.socket]]:
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


def bind_again(addresses: Sequence[tuple[int, tuple[object, ...]]]) -> list[socket.socket]:
    """New sockets at the addresses of some that were closed. Raises OSError."""
    return [bound(family, address, shared=True) for family, address in addresses]


async def _until_free(addresses: Sequence[tuple[int, tuple[Any, ...]]]) -> None:
    """Wait until no process listens there. A shared port would be shared with any program of this user."""
    deadline_s = asyncio.get_running_loop().time() + PORT_WAIT_S
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


_HEAD_BYTES_MAX: Final = 8 << 10
_HEAD_S: Final = 5.0
_BACKLOG: Final = 128
_log = structlog.get_logger(__name__)


class WaitingRoom:
    """The port of a node that has nothing to serve yet: `/healthz` 200, and `/readyz` 503 with its progress.

    With port 0 its address could not be known, so it is not opened.
    """

    def __init__(self, host: str, port: int, processes: int = 1) -> None:
        """`processes`: how many take over the port, each with sockets of its own."""
        self.said = "starting"
        self._host = host
        self._port = port
        self._processes = processes
        self._sockets: list[list[socket.socket]] = []
        self._servers: list[asyncio.Server] = []
        self._asking: set[asyncio.StreamWriter] = set()
        self._logged = ""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Take the port, if that has not been done."""
        if not self._port or self._sockets:
            return
        with contextlib.suppress(OSError):  # the start itself says later that the port is taken
            self._sockets = await bind_port(self._host, self._port, self._processes)
            for sock in (sock for of_one in self._sockets for sock in of_one):
                serving = await asyncio.start_server(
                    self._serve, sock=sock.dup(), limit=_HEAD_BYTES_MAX, backlog=_BACKLOG
                )  # it closes its copy
                self._servers.append(serving)

    async def hand_over(self) -> list[list[socket.socket]]:
        """The sockets of each process, which go on listening; none if it was not opened. It ends."""
        sockets, self._sockets = self._sockets, []
        for server in self._servers:
            server.close()
        for one in self._asking:  # a silent client must not delay the listening
            one.transport.abort()
        for server in self._servers:
            await server.wait_closed()
        self._servers.clear()
        return sockets

    async def close(self) -> None:
        """Leave the port. Nothing if it was handed over."""
        for sock in (sock for of_one in await self.hand_over() for sock in of_one):
            sock.close()

    def tell(self, text: str) -> None:
        """This is how far it is. The log has each kind of sentence once."""
        self.said = text
        kind = re.sub(r"\d+", "", text)
        if kind != self._logged:
            self._logged = kind
            _log.info("joining", said=text)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._asking.add(writer)
        try:
            async with asyncio.timeout(_HEAD_S):
                head = await reader.readuntil(b"\r\n\r\n")
            alive = head.startswith((b"GET /healthz ", b"HEAD /healthz "))
            status = b"200 OK" if alive else b"503 Service Unavailable"
            body = (b"ok" if alive else self.said.encode()) + b"\n"
            writer.write(
                b"HTTP/1.1 %b\r\nContent-Type: text/plain; charset=utf-8\r\nCache-Control: no-store\r\n"
                b"Retry-After: 1\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b"
                % (status, len(body), b"" if head.startswith(b"HEAD ") else body)
            )
            await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            self._asking.discard(writer)
            writer.close()
