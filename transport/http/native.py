"""Plain HTTP on the service's own port: every socket but those that bring a usual request for a WebSocket."""

import asyncio
from collections import Counter
from typing import Final

from huahuo.transport.http.api import Api
from huahuo.transport.http.native_connection import HttpConnection
from huahuo.transport.server.server import Server

REQUESTS_PER_USER: Final = 512
"""So many requests of one user are read, answered and sent at a time. Each takes a socket and some KiB."""


class NativeHttp:
    """Implements `ports.PlainHttp`."""

    def __init__(self, server: Server, api: Api) -> None:
        self.server = server
        self.api = api
        self.open_timeout_s = server.wires.shared.settings.open_timeout_s
        """A client without a token must have read its answer within this."""
        self._open: dict[HttpConnection, None] = {}  # no set: a drain closes them in order
        self.running: Counter[str] = Counter()
        """How many requests of each user are not dealt with."""

    def __len__(self) -> int:
        """How many connections are open, without readers of server-sent events."""
        return len(self._open)

    def take_over(self, transport: asyncio.Transport, data: bytes, deadline_s: float) -> None:
        """See `ports.PlainHttp`."""
        connection = HttpConnection(self, transport, deadline_s)
        transport.set_protocol(connection)
        self._open[connection] = None
        self.server.connected(connection)
        connection.data_received(data)

    def begins(self, user: str) -> bool:
        """Count a request of `user`, until `ended`. False: there are too many."""
        if self.running[user] >= REQUESTS_PER_USER:
            return False
        self.running[user] += 1
        return True

    def ended(self, user: str) -> None:
        """A request that was counted is dealt with."""
        self.running[user] -= 1
        if not self.running[user]:
            del self.running[user]

    def drain(self) -> None:
        """Close what is idle; the rest closes after its answer."""
        for connection in tuple(self._open):
            connection.close_if_idle()

    def gone(self, connection: "HttpConnection") -> None:
        """A connection was lost, or handed its socket to an outlet."""
        self._open.pop(connection, None)
        self.server.disconnected(connection)
