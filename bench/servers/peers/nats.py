"""NATS over WebSocket: core (at most once, in memory) and JetStream (a file, synced always or by default)."""

import json
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import ClassVar

from bench.clients.script import Client, Script, binary, upgrade
from bench.harness.procs import Child, Server, free_port
from bench.servers.peers.base import Peer, Running
from bench.servers.source import GROUP

STREAM = "EV"
HELLO = b'CONNECT {"verbose":false,"pedantic":false}\r\n'


def server_path() -> str | None:
    """The server's binary: next to this interpreter or on PATH."""
    return shutil.which("nats-server", path=sysconfig.get_path("scripts")) or shutil.which("nats-server")


class Nats(Peer):
    """Core NATS: subjects, no history."""

    name = "nats"
    note = "core NATS over WebSocket, no history; the server may use every core"
    publisher: ClassVar[str] = "core"
    jetstream: ClassVar[str] = ""

    def missing(self) -> str:
        """See `Peer`."""
        return "" if server_path() else "not installed: python -m bench install"

    def version(self) -> str:
        """See `Peer`."""
        path = server_path()
        assert path is not None
        found = subprocess.run([path, "--version"], capture_output=True, text=True, check=True)
        return found.stdout.strip()

    def serve(self, folder: Path) -> tuple[Server, int]:
        """The server alone, and its port for publishers."""
        server, port, _ws_port = self._serve(folder)
        return server, port

    def start(self, folder: Path) -> Running:
        """See `Peer`."""
        server, port, ws_port = self._serve(folder)
        try:
            control = Child(
                [sys.executable, "-m", "bench.servers.peers.nats_publisher", str(port), self.publisher]
            )
        except BaseException:
            server.stop()
            raise
        return Running(control, ws_port, [server.pid], server=server)

    def _serve(self, folder: Path) -> tuple[Server, int, int]:
        port, ws_port = free_port(), free_port()
        config = folder / "nats.conf"
        config.write_text(
            f'host: "127.0.0.1"\nport: {port}\nping_interval: "10m"\nmax_connections: 200000\n'
            f'websocket {{ host: "127.0.0.1", port: {ws_port}, no_tls: true, compression: false }}\n'
            + (f'jetstream {{ store_dir: "{folder / "js"}"{self.jetstream} }}\n' if self.jetstream else ""),
            encoding="utf-8",
        )
        log = str(folder / "nats.log")
        return Server([str(server_path()), "-c", str(config), "-l", log], port), port, ws_port

    def group(self, running: Running, count: int) -> Script:
        """See `Peer`."""
        return Script(running.port, [self._client(GROUP)] * count)

    def feeds(self, running: Running, count: int) -> Script:
        """See `Peer`."""
        return Script(running.port, [self._client(user) for user in range(1, count + 1)])

    def _client(self, user: int) -> Client:
        return Client([upgrade(), (binary(HELLO + b"SUB u.%d 1\r\nPING\r\n" % user), b"PONG\r\n")])


class JetStream(Nats):
    """One stream, one push consumer a client, each message synced before its acknowledgement."""

    name = "jetstream"
    note = "one file stream, sync always, a push consumer per client; the server may use every core"
    publisher = "jetstream"
    jetstream = ", sync_interval: always"

    def _client(self, user: int) -> Client:
        return self.consumer(user, 1)

    def consumer(self, user: int, start: int, last: int = 0) -> Client:
        """A client whose consumer begins at stream sequence `start`; it has seen number `last`."""
        config = {
            "stream_name": STREAM,
            "config": {
                "deliver_subject": f"d.{user}",
                "filter_subject": f"u.{user}",
                "ack_policy": "none",
                "deliver_policy": "by_start_sequence",
                "opt_start_seq": start,
                "mem_storage": True,
                "num_replicas": 1,
            },
        }
        asked = json.dumps(config).encode()
        create = b"PUB $JS.API.CONSUMER.CREATE.EV r.%d %d\r\n%b\r\n" % (user, len(asked), asked)
        hello = HELLO + b"SUB d.%d 1\r\nSUB r.%d 2\r\n" % (user, user) + create
        return Client([upgrade(), (binary(hello), b'"deliver_subject"')], last=last)


class JetStreamDefault(JetStream):
    """The same with the server's default: synced every two minutes."""

    name = "jetstream-default"
    note = "as shipped: synced every two minutes, so a power cut loses what was acknowledged"
    jetstream = " "
