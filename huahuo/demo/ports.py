"""Ports of 127.0.0.1 for servers that are started later, or stopped and started again."""

import contextlib
import socket
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def held_port() -> Iterator[int]:
    """A free port that the system gives to nobody else meanwhile, be it for a connection to elsewhere.

    It is bound and does not listen. On Linux a server that sets `SO_REUSEADDR` can listen there, and
    connections are refused while that server is down. Elsewhere the port is free for everybody again at once.
    """
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
        if sys.platform != "linux":
            held.close()
        yield port
