"""The port of the service: opened, and told to who must know it."""

import errno
import resource
import socket

import structlog

from huahuo.app import service_file
from huahuo.app.config import Settings
from huahuo.app.fleet import Fleet
from huahuo.app.stopping import Parts
from huahuo.app.waiting_room import WaitingRoom
from huahuo.errors import ConfigError
from huahuo.transport.server.server import Server

_log = structlog.get_logger(__name__)


async def open_port(
    server: Server, settings: Settings, fleet: Fleet | None = None, room: WaitingRoom | None = None
) -> int:
    """Listen, and return the port. `fleet`: its workers listen. `room`: listens there until now.

    Raises:
        ConfigError: the address is not available.
        HuahuoError: a worker did not start.
    """
    try:
        return await _listen(server, settings, fleet, [] if room is None else await room.hand_over())
    except OSError as error:
        why = error.strerror or str(error)
        if error.errno == errno.EADDRINUSE:
            why = "another program listens there. Stop it, or choose another --port (0: any free one)"
        elif error.errno == errno.EMFILE:
            bound = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            why = f"this process may open {bound} files only. Raise that (`ulimit -n 65536`, LimitNOFILE=)"
        raise ConfigError(f"cannot listen on {settings.host}:{settings.port}: {why}") from None


async def _listen(
    server: Server, settings: Settings, fleet: Fleet | None, sockets: list[list[socket.socket]]
) -> int:
    if fleet is None and not sockets:
        return await server.start(settings.host, settings.port)
    server.begin()
    if fleet is not None:
        return await _start_workers(fleet, settings, sockets)
    for sock in sockets[0]:
        await server.serve_on(sock)
    return settings.port


async def _start_workers(fleet: Fleet, settings: Settings, sockets: list[list[socket.socket]]) -> int:
    try:
        return await fleet.start(settings.host, settings.port, sockets)
    except BaseException:
        await fleet.drain(0.0)
        raise


def tell_address(settings: Settings, url: str, parts: Parts | None) -> None:
    """Write the address into the data directory until `parts` stop (None: do not), and warn if it is open."""
    if parts is not None:
        service_file.write(settings.data, url)
        parts.add("service.json", lambda: service_file.remove(settings.data))
    if settings.host not in ("127.0.0.1", "::1", "localhost"):
        _log.warning("listening in the open without TLS: put a TLS proxy in front", host=settings.host)
