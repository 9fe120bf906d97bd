"""What the command line asks of a running service goes straight to it."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from huahuo.app.ask import get


class Answering(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.path.encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


def test_a_proxy_of_the_environment_is_not_asked_for_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with HTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        assert get(f"http://127.0.0.1:{server.server_port}", "/readyz", 5) == "/readyz"
        thread.join()
