"""HTTP requests on connections that stay open: one for each thread, none shared with a forked child."""

import http.client
import os
import socket
import threading
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from huahuo.errors import ConfigError

NOBODY: Final = (ConnectionRefusedError, socket.gaierror)
"""No connection was made, so nothing can have been sent."""
_ANSWER_BYTES_MAX: Final = 32 << 20

type Answer = tuple[int, Mapping[str, str], bytes]


class _Kept:
    """A connection that is closed when its thread, or its publisher, is gone."""

    __slots__ = ("connection", "pid")

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        self.connection = connection
        self.pid = os.getpid()

    def __del__(self) -> None:
        self.connection.close()


class Exchange:
    """See the module. `url` is that of the service, with the path where it is mounted.

    Raises:
        ConfigError: it is no `http://…` or `https://…`.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ConfigError(f"url: {url!r} is no address of a service, such as http://127.0.0.1:8765")
        self.at = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
        """The address as it may be shown: without a password."""
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname, parts.port
        self._path = parts.path.rstrip("/")
        self._mine = threading.local()

    def post(self, path: str, headers: Mapping[str, str], body: bytes, timeout_s: float) -> Answer:
        """Send one request and read its answer.

        A connection that the service closed while it was idle is replaced once. Raises OSError or
        http.client.HTTPException: nobody knows what became of the request.
        """
        kept, lost = self._kept(), None
        if kept is not None:
            try:
                return self._on(kept, path, headers, body, timeout_s)
            except (ConnectionError, http.client.RemoteDisconnected, http.client.CannotSendRequest) as error:
                self.drop()
                lost = error
        try:
            return self._on(self._opened(timeout_s), path, headers, body, timeout_s)
        except NOBODY as error:
            if lost is None:
                raise
            raise lost from error  # the service may have been ended between the request and its answer

    def drop(self) -> None:
        """Close this thread's connection."""
        self._mine.kept = None

    def _kept(self) -> http.client.HTTPConnection | None:
        kept: _Kept | None = getattr(self._mine, "kept", None)
        if kept is None:
            return None
        if kept.pid != os.getpid():
            self._mine.kept = None  # the parent's: closing our copy of the socket leaves it open there
            return None
        return kept.connection

    def _opened(self, timeout_s: float) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        opened = kind(self._host, self._port, timeout=timeout_s)
        self._mine.kept = _Kept(opened)
        return opened

    def _on(
        self,
        connection: http.client.HTTPConnection,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        timeout_s: float,
    ) -> Answer:
        if connection.sock is not None:
            connection.sock.settimeout(timeout_s)
        try:
            connection.request("POST", self._path + path, body=body, headers=dict(headers))
            answer = connection.getresponse()
            said = answer.read(_ANSWER_BYTES_MAX)
        except BaseException:
            self.drop()
            raise
        if answer.will_close or answer.status == HTTPStatus.REQUEST_TIMEOUT:
            self.drop()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, said
