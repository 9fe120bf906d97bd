"""A receiver of webhooks on loopback, which keeps what comes."""

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.patience import WITHIN_S


class Receiver:
    """Answers every request with `status`, and keeps what came."""

    def __init__(self) -> None:
        self.status = 204
        self.came: queue.Queue[tuple[dict[str, str], bytes]] = queue.Queue()
        self.port = 0

    def next(self) -> tuple[dict[str, str], bytes]:
        return self.came.get(timeout=WITHIN_S)


@contextmanager
def receiver() -> Iterator[Receiver]:
    made = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            made.came.put(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(made.status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the library's name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
            thread.join()
