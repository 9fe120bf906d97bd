"""The floors: a WebSocket server in C that only sends (`floor/floor.c`)."""

from pathlib import Path

from bench.clients.script import Client, Script, upgrade
from bench.harness import compiled
from bench.harness.procs import Child
from bench.servers.peers.base import Peer, Running

TOOLS = Path(".tools/bench").resolve()
SOURCE = Path(__file__).with_name("floor") / "floor.c"


class Floor(Peer):
    """A `send` for each connection and event, and nothing else."""

    name = "floor"
    note = "C, a send for each connection; nothing is kept, checked or answered; its timer is exact"

    def missing(self) -> str:
        """See `Peer`."""
        return "no C compiler for Linux" if _program() is None else ""

    def version(self) -> str:
        """See `Peer`."""
        return f"built with {' '.join(compiled.FLAGS)}"

    def start(self, folder: Path) -> Running:
        """See `Peer`."""
        del folder
        control = Child([str(_program())])
        return Running(control, control.hello["port"], [control.pid])

    def group(self, running: Running, count: int) -> Script:
        """See `Peer`."""
        return Script(running.port, [path_client(0)] * count)

    def feeds(self, running: Running, count: int) -> Script:
        """See `Peer`."""
        return Script(running.port, [path_client(user) for user in range(1, count + 1)])


def path_client(room: int) -> Client:
    """A client that names its room by its path and is told when it is in."""
    return Client([upgrade(f"/{room}"), (b"", b'"ready"')])


def _program() -> Path | None:
    return compiled.build(SOURCE, TOOLS)
