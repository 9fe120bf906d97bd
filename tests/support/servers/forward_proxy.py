"""A forward proxy on 127.0.0.1: HTTP CONNECT and SOCKS5, with or without a password.

It keeps what it was asked for.
"""

import contextlib
import select
import socket
import socketserver
import struct
import threading
from base64 import b64encode
from collections.abc import Iterator
from urllib.parse import quote


class ForwardProxy:
    """See the module. `asked`: (host, port) of each connection, as the client named it."""

    def __init__(self, user: str, password: str) -> None:
        self.user = user
        self.password = password
        self.asked: list[tuple[str, int]] = []
        self.port = 0

    def url(self, scheme: str) -> str:
        """Its address for a client."""
        sign_in = f"{self.user}:{quote(self.password, safe='')}@" if self.user else ""
        return f"{scheme}://{sign_in}127.0.0.1:{self.port}"

    def serve(self, client: socket.socket) -> None:
        first = client.recv(1, socket.MSG_PEEK)
        with contextlib.ExitStack() as dialled:
            target = (self._socks if first == b"\x05" else self._connect)(client, dialled)
            if target is not None:
                _join(client, target)

    def _connect(self, client: socket.socket, dialled: contextlib.ExitStack) -> socket.socket | None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(4096)
        sign_in = b"Basic " + b64encode(f"{self.user}:{self.password}".encode())
        if self.user and sign_in not in head:
            client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            return None
        host, _, port = head.split(b" ")[1].decode().rpartition(":")
        target = self._dial(host, int(port), dialled)
        client.sendall(b"HTTP/1.1 200 OK\r\n\r\n" if target else b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
        return target

    def _socks(self, client: socket.socket, dialled: contextlib.ExitStack) -> socket.socket | None:
        count = _exactly(client, 2)[1]
        _exactly(client, count)
        client.sendall(b"\x05\x02" if self.user else b"\x05\x00")
        if self.user:
            name = _exactly(client, _exactly(client, 2)[1]).decode()
            word = _exactly(client, _exactly(client, 1)[0]).decode()
            right = (name, word) == (self.user, self.password)
            client.sendall(b"\x01\x00" if right else b"\x01\x01")
            if not right:
                return None
        kind = _exactly(client, 4)[3]
        if kind == 1:
            host = socket.inet_ntoa(_exactly(client, 4))
        else:
            host = _exactly(client, _exactly(client, 1)[0]).decode()
        (port,) = struct.unpack("!H", _exactly(client, 2))
        target = self._dial(host, port, dialled)
        client.sendall(b"\x05" + (b"\x00" if target else b"\x05") + b"\x00\x01" + bytes(6))
        return target

    def _dial(self, host: str, port: int, dialled: contextlib.ExitStack) -> socket.socket | None:
        self.asked.append((host, port))
        # Names lead to this machine: the proxy knows what the local DNS does not.
        where = "127.0.0.1" if host.endswith(".example") else host, port
        with contextlib.suppress(OSError):
            return dialled.enter_context(socket.create_connection(where, 10))
        return None


def _exactly(client: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += client.recv(count - len(data)) or _ended()
    return data


def _ended() -> bytes:
    raise ConnectionError


def _join(one: socket.socket, other: socket.socket) -> None:
    while True:
        for ready in select.select([one, other], [], [])[0]:
            data = ready.recv(65536)
            if not data:
                return
            (other if ready is one else one).sendall(data)


@contextlib.contextmanager
def forward_proxy(user: str = "", password: str = "") -> Iterator[ForwardProxy]:
    """Start one on a free port, stop it at the end."""
    proxy = ForwardProxy(user, password)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                proxy.serve(self.request)

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    proxy.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
