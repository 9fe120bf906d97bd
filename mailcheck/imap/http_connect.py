"""The way through an HTTP proxy: `CONNECT`, and its answer, of which not one byte too many is read.

What comes behind the answer is the mail server's, and it may be in the same segment. A proxy may send its
answer in several segments, too.
"""

import asyncio
import re
import socket
from base64 import b64encode
from typing import Final

from huahuo.mailcheck.servers.faults import ProxyFailed
from huahuo.mailcheck.servers.proxies import Proxy

_HEAD_BYTES_MAX: Final = 4 * 1024
_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: ([ -~]{0,80}))?")
_OK: Final = 200


async def connect_through(sock: socket.socket, proxy: Proxy, host: str, port: int) -> None:
    """Let the proxy at the other end of `sock` connect to `host`. The caller bounds the time.

    Raises:
        ProxyFailed: it refuses, or its answer is no HTTP.
        OSError: the connection to the proxy broke.
    """
    loop = asyncio.get_running_loop()
    at = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    request = f"CONNECT {at} HTTP/1.1\r\nHost: {at}\r\n{_sign_in(proxy)}\r\n"
    await loop.sock_sendall(sock, request.encode())
    head = bytearray()
    while not head.endswith((b"\n\r\n", b"\n\n")):
        byte = await loop.sock_recv(sock, 1)
        if not byte or len(head) >= _HEAD_BYTES_MAX:
            raise ProxyFailed("the proxy gave no whole answer")
        head += byte
    status = _STATUS.match(head)
    if status is None:
        raise ProxyFailed("the proxy does not speak HTTP")
    if int(status[1]) // 100 != _OK // 100:
        raise ProxyFailed(f"{status[1].decode()} {(status[2] or b'').decode()}".strip())


def _sign_in(proxy: Proxy) -> str:
    if not proxy.user:
        return ""
    password = "" if proxy.password is None else proxy.password.reveal()
    both = b64encode(f"{proxy.user}:{password}".encode()).decode()
    return f"Proxy-Authorization: Basic {both}\r\n"
