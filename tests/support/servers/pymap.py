r"""A real pymap server as a process: a second, independent IMAP implementation, installed with the tests.

    with pymap() as server:
        server.add_mail(b"Subject: hello\r\n\r\nworld")
        ... connect to server.host, server.port as server.user with server.password

It keeps its mails in memory and knows one user.
"""

import contextlib
import imaplib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.support.patience import WITHIN_S
from tests.support.servers.imap_client import ImapClient
from tests.support.servers.ports import held_port


class Pymap:
    """A running server."""

    host = "127.0.0.1"
    user = "demo@example.com"
    password = "demo pass"

    def __init__(self, port: int) -> None:
        self.port = port

    def add_mail(self, *mails: bytes) -> None:
        """Append mails to INBOX, in order."""
        with self.client() as client:
            for mail in mails:
                answer, why = client.append("INBOX", "", "", mail)
                assert answer == "OK", why

    def client(self) -> imaplib.IMAP4:
        """An independent client, logged in."""
        client = ImapClient(self.host, self.port, timeout=WITHIN_S)
        try:
            client.login(self.user, self.password)
        except imaplib.IMAP4.error:
            client.shutdown()
            raise
        return client


@contextlib.contextmanager
def pymap() -> Iterator[Pymap]:
    """Start a server, wait until it greets, stop it."""
    with held_port() as port:
        yield from _serving(Pymap(port))


def _serving(server: Pymap) -> Iterator[Pymap]:
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "huahuo.demo.pymap_child"),
            *("--host", server.host, "--port", str(server.port), "--no-tls"),
            *("--no-service", "admin", "--no-service", "managesieve"),
            *("dict", "--demo-user", server.user, "--demo-password", server.password),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        _wait_for_greeting(process, server)
        yield server
    finally:
        process.terminate()
        try:
            process.communicate(timeout=WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def _wait_for_greeting(process: subprocess.Popen[bytes], server: Pymap) -> None:
    """Like Dovecot it shows only on its socket that it is ready."""
    deadline = time.monotonic() + WITHIN_S
    while True:
        with contextlib.suppress(OSError), socket.create_connection((server.host, server.port), 5) as link:
            if link.recv(4) == b"* OK":
                return
        if process.poll() is not None or time.monotonic() > deadline:
            output = process.communicate(timeout=5)[0] if process.poll() is not None else b""
            pytest.fail(f"pymap did not start: {output.decode(errors='replace')}")
        time.sleep(0.02)
