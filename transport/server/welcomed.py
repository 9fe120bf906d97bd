"""The library's server protocol for a WebSocket that was opened without it.

The library's constructor draws a random id, which is a system call that lets other threads have the
interpreter, and looks up a logger by name: after a restart, for ten thousand clients in a row.
"""

import logging

from websockets.protocol import OPEN, SERVER
from websockets.server import ServerProtocol
from websockets.streams import StreamReader
from websockets.typing import Subprotocol

from huahuo.transport.server.last_words import LastWords

LOGGER = logging.getLogger("websockets.server")
"""The library's own. Each connection would have an adapter of it, which nothing here uses."""
_SAME_ID = ServerProtocol().id


class WelcomedProtocol(LastWords):
    """See the module. It sets what the library's constructors set; a test compares them."""

    def __init__(self, bytes_max: int, subprotocol: Subprotocol | None) -> None:
        self.id = _SAME_ID
        self.logger = LOGGER
        self.debug = False
        self.side = SERVER
        self.state = OPEN
        self.max_message_size, self.max_fragment_size = bytes_max, None
        self.current_size = None
        self.expect_continuation_frame = False
        self.origin = None
        self.extensions = []
        self.subprotocol = subprotocol
        self.close_rcvd = self.close_sent = self.close_rcvd_then_sent = None
        self.handshake_exc = None
        self.eof_sent = False
        self.reader = StreamReader()
        self.events = []
        self.writes = []
        self.parser = self.parse()
        next(self.parser)  # as the library begins it
        self.parser_exc = None
        self.origins = self.available_extensions = self.available_subprotocols = None
        self.accept_called = False
