"""Other systems that accept events durably, started for the question `commands`, and what they cost."""

import contextlib
import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from bench.harness.procs import Server, cpu_s, free_port
from bench.servers.peers.nats import JetStream
from tests.support.servers.postgres import postgres, program


class Accepting(NamedTuple):
    """A started system. `pids`: of all its processes at this moment."""

    port: int
    pids: Callable[[], list[int]]

    def cpu_s(self) -> float:
        """Processor seconds of its processes so far."""
        return cpu_s(self.pids())


@contextlib.contextmanager
def _jetstream(folder: Path) -> Iterator[Accepting]:
    server, port = JetStream().serve(folder)
    with contextlib.closing(_Stopped(server)):
        yield Accepting(port, lambda: [server.pid])


@contextlib.contextmanager
def _redis(folder: Path) -> Iterator[Accepting]:
    port = free_port()
    said = ["--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder), "--save", ""]
    server = Server(["redis-server", *said, "--appendonly", "yes", "--appendfsync", "always"], port)
    with contextlib.closing(_Stopped(server)):
        yield Accepting(port, lambda: [server.pid])


@contextlib.contextmanager
def _fastapi(_folder: Path) -> Iterator[Accepting]:
    port = free_port()
    with postgres() as database:
        command = [sys.executable, "-m", "uvicorn", "bench.servers.fastapi_insert:app", "--port", str(port)]
        environ = os.environ | {"BENCH_DSN": database.url}
        server = Server([*command, "--log-level", "warning", "--no-access-log"], port, environ=environ)
        with contextlib.closing(_Stopped(server)):
            first = (database.root / "data" / "postmaster.pid").read_text(encoding="utf-8").split()[0]
            yield Accepting(port, lambda: [server.pid, *_family(int(first))])


class _Stopped:
    """Ends a server where `closing` asks for it."""

    def __init__(self, server: Server) -> None:
        self.close = server.stop


def _family(pid: int) -> list[int]:
    """A process and its children: PostgreSQL has one for each connection."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8")
    return [pid, *map(int, children.split())]


class System(NamedTuple):
    """`missing`: why it cannot run here, "" if it can. `note`: how it is run."""

    start: Callable[[Path], contextlib.AbstractContextManager[Accepting]]
    missing: Callable[[], str]
    note: str


def _no_redis() -> str:
    return "" if shutil.which("redis-server") else "redis-server is not on PATH"


def _no_fastapi() -> str:
    wanted = [name for name in ("fastapi", "uvicorn", "asyncpg") if importlib.util.find_spec(name) is None]
    if wanted:
        return f"{', '.join(wanted)}: python -m bench install"
    return "" if program("initdb") else "PostgreSQL is not installed"


ALL: Final = {
    "jetstream": System(_jetstream, JetStream().missing, "one file stream, sync always; no ids"),
    "redis": System(_redis, _no_redis, "one stream by XADD, `appendfsync always`; no ids"),
    "fastapi": System(
        _fastapi, _no_fastapi, "uvicorn, asyncpg and PostgreSQL: one INSERT a request, with its id"
    ),
}
