"""python-socketio and `websockets.broadcast`, as a Python team would use them."""

import importlib.metadata
import importlib.util
import sys
from pathlib import Path
from typing import ClassVar

from bench.clients.script import Client, Script, upgrade
from bench.harness.procs import Child
from bench.servers.peers.base import Peer, Running
from bench.servers.peers.node_servers import socketio_client


class PythonPeer(Peer):
    """A server of this module that needs `distributions`."""

    distributions: ClassVar[tuple[str, ...]]

    def missing(self) -> str:
        """See `Peer`."""
        for name in self.distributions:
            if importlib.util.find_spec(name.replace("python-", "")) is None:
                return "not installed: python -m bench install"
        return ""

    def version(self) -> str:
        """See `Peer`."""
        return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in self.distributions)

    def start(self, folder: Path) -> Running:
        """See `Peer`."""
        del folder
        control = Child([sys.executable, "-m", "bench.servers.peers.python_children", self.name])
        return Running(control, control.hello["port"], [control.pid])


class WebsocketsBroadcast(PythonPeer):
    """The library's own broadcast."""

    name = "websockets"
    note = "websockets.broadcast, compression off, no history"
    distributions = ("websockets",)

    def group(self, running: Running, count: int) -> Script:
        """See `Peer`."""
        return Script(running.port, [_client(0)] * count)

    def feeds(self, running: Running, count: int) -> Script:
        """See `Peer`."""
        return Script(running.port, [_client(user) for user in range(1, count + 1)])


class PythonSocketIO(PythonPeer):
    """Rooms of python-socketio under uvicorn."""

    name = "python-socketio"
    note = "under uvicorn, WebSocket only, no history"
    distributions = ("python-socketio", "uvicorn")

    def group(self, running: Running, count: int) -> Script:
        """See `Peer`."""
        return Script(running.port, [socketio_client(0)] * count, engine_io=True)

    def feeds(self, running: Running, count: int) -> Script:
        """See `Peer`."""
        clients = [socketio_client(user) for user in range(1, count + 1)]
        return Script(running.port, clients, engine_io=True)


def _client(room: int) -> Client:
    return Client([upgrade(f"/{room}"), (b"", b'"ready"')])
