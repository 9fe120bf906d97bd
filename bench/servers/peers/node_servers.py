"""Socket.IO, `ws` and Bun, those that a team of JavaScript would take."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import ClassVar

from bench.clients.script import Client, Script, text, upgrade
from bench.harness.procs import Child
from bench.servers.peers.base import Peer, Running
from bench.servers.peers.floors import path_client

NODE_MODULES = Path(".tools/bench-node/node_modules").resolve()
BUN = NODE_MODULES / "@oven/bun-linux-x64/bin/bun"
SERVERS = Path(__file__).with_name("node")


class NodePeer(Peer):
    """A server in `node/` that needs `package` from npm."""

    package: ClassVar[str]
    server: ClassVar[str]

    def missing(self) -> str:
        """See `Peer`."""
        if shutil.which("node") is None:
            return "node is not on PATH"
        if not (NODE_MODULES / self.package).is_dir():
            return "not installed: python -m bench install"
        return ""

    def version(self) -> str:
        """See `Peer`."""
        manifest = json.loads((NODE_MODULES / self.package / "package.json").read_text(encoding="utf-8"))
        return f"{self.package} {manifest['version']}"

    def start(self, folder: Path) -> Running:
        """See `Peer`."""
        del folder
        control = Child(["node", str(SERVERS / self.server)], environ={"NODE_PATH": str(NODE_MODULES)})
        return Running(control, control.hello["port"], [control.pid])


class Ws(NodePeer):
    """The bare WebSocket server: no order, no resume, no log."""

    name = "ws"
    note = "a send per client, no history"
    package = "ws"
    server = "ws.cjs"

    def group(self, running: Running, count: int) -> Script:
        """See `Peer`."""
        return Script(running.port, [path_client(0)] * count)

    def feeds(self, running: Running, count: int) -> Script:
        """See `Peer`."""
        return Script(running.port, [path_client(user) for user in range(1, count + 1)])


class Bun(Ws):
    """The WebSocket server inside Bun, with its native `publish`."""

    name = "bun"
    note = "native publish to a topic, no history; a client may be 64 MiB behind"
    package = "@oven/bun-linux-x64"
    server = "bun.cjs"

    def missing(self) -> str:
        """See `Peer`."""
        if not BUN.is_file():
            return "not installed: python -m bench install (64-bit Linux on x86 only)"
        found = subprocess.run([str(BUN), "--version"], capture_output=True, check=False)
        return f"it ends with {found.returncode} here" if found.returncode else ""

    def start(self, folder: Path) -> Running:
        """See `Peer`."""
        del folder
        control = Child([str(BUN), str(SERVERS / self.server)])
        return Running(control, control.hello["port"], [control.pid])


class SocketIO(NodePeer):
    """Rooms of Socket.IO with connection state recovery."""

    name = "socket.io"
    note = "in memory, with connection state recovery"
    package = "socket.io"
    server = "socketio.cjs"

    def group(self, running: Running, count: int) -> Script:
        """See `Peer`."""
        return Script(running.port, [socketio_client(0)] * count, engine_io=True)

    def feeds(self, running: Running, count: int) -> Script:
        """See `Peer`."""
        clients = [socketio_client(user) for user in range(1, count + 1)]
        return Script(running.port, clients, engine_io=True)


def socketio_client(room: int) -> Client:
    """Engine.IO's `0{…}` on opening, `40` to join the namespace, then the server says ready."""
    path = f"/socket.io/?EIO=4&transport=websocket&room={room}"
    return Client([upgrade(path), (b"", b'0{"sid"'), (text(b"40"), b'"ready"')])
