"""The systems that are measured, huahuo among them: how each is started, and what its clients say.

Each is a child process that obeys the commands of `source.obey`; NATS has a publisher beside it that does.
All listen on loopback.
"""

import contextlib
import json
import shutil
import subprocess
import sys
import sysconfig
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from bench.nats_publisher import HELLO, STREAM
from bench.processes import FLAGS, Child, Server, build, cpu_s, free_port
from bench.receivers import TOOLS, Client, Script
from bench.service import GROUP_STREAM
from bench.sheets import Options, Sheet
from bench.sockets import frame, upgrade
from bench.source import GROUP
from huahuo.actors.plugins.calls import Principal
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.transport.access.tokens import Authenticator

NODE_MODULES = Path(".tools/bench-node/node_modules").resolve()
SERVERS = Path(__file__).with_name("node")
WINDOW = 4096
ENVIRON = {"HUAHUO_JWT_SECRET": "bench-secret-that-is-long-enough-0000", "HUAHUO_MASTER_KEY": "5a" * 32}
_INSTALL = "not installed: python -m bench install"


@dataclass
class Running:
    """A started system: `control` obeys the commands of `source.obey`, `pids` are what it costs."""

    control: Child
    port: int
    pids: list[int]
    server: Server | None = None
    """The server, where `control` only publishes to it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.ExitStack() as stack:
            if self.server is not None:
                stack.callback(self.server.stop)
            stack.callback(self.control.stop)

    def cpu_s(self) -> float:
        """Processor seconds of the server so far."""
        return cpu_s(self.pids)

    def kill(self) -> None:
        """`kill -9` to the server, and to what publishes."""
        if self.server is not None:
            self.server.stop()
        self.control.kill()


class Peer(ABC):
    """One system. `name` is what tables and `--peers` say."""

    name: ClassVar[str]
    note: ClassVar[str] = ""
    """What a reader of the table must know about how it was run."""
    resumes: ClassVar[bool] = False
    """Whether a client that returns gets what it missed over a `kill -9` of the server."""
    ack_every: ClassVar[int] = 0
    engine_io: ClassVar[bool] = False
    environ: ClassVar[Mapping[str, str]] = {}

    def missing(self) -> str:
        """Why it cannot run here, "" if it can."""
        return ""

    @abstractmethod
    def version(self) -> str:
        """Which one was measured."""

    @abstractmethod
    def command(self, folder: Path) -> list[str]:
        """The child's command line, over what there is in `folder`."""

    def start(self, folder: Path) -> Running:
        """Start it over what there is in `folder`: nothing, or what a killed one left."""
        control = Child(self.command(folder), environ=dict(self.environ))
        return Running(control, control.hello["port"], [control.pid, *control.hello.get("workers", ())])

    @abstractmethod
    def client(self, running: Running, user: int, seen: int = 0, users: int = 0) -> Client:
        """A connection that reads a user's own stream, or the group (`GROUP`).

        `seen`: the number of the last event that it has, after which it resumes if the peer can. `users`: how
        many take turns.
        """

    def script(
        self, running: Running, users: Sequence[int], seen: Sequence[int] = (), goal: int = 0
    ) -> Script:
        """A connection for each of `users`. `seen`: they return to get what they missed, up to `goal`."""
        if seen and self.resumes:
            clients = [self.client(running, user, n, len(users)) for user, n in zip(users, seen, strict=True)]
        else:
            made = {user: self.client(running, user) for user in set(users)}
            clients, goal = [made[user] for user in users], 0
        return Script(running.port, clients, self.ack_every, self.engine_io, goal)

    def group(self, running: Running, count: int) -> Script:
        """`count` connections that all read one group."""
        return self.script(running, [GROUP] * count)

    def feeds(self, running: Running, count: int) -> Script:
        """A connection for each user 1 … `count`, each reading that user's own stream."""
        return self.script(running, range(1, count + 1))


class Huahuo(Peer):
    """The real service in a child, clients with a window of 4096 that ack half a window."""

    name = "huahuo"
    note = "events fsynced and hash-chained before they are sent; acks on, window 4096"
    resumes = True
    ack_every = WINDOW // 2
    environ = ENVIRON
    workers: ClassVar[int] = 1

    def version(self) -> str:
        """The commit is in the head of the results."""
        return "this commit"

    def command(self, folder: Path) -> list[str]:
        """See `Peer`."""
        return [sys.executable, "-m", "bench.service", str(folder / "data"), str(self.workers)]

    def client(self, running: Running, user: int, seen: int = 0, users: int = 0) -> Client:
        """See `Peer`. Those of the group are one user, who subscribes to it."""
        del users
        stream = f"user/{user}" if user else GROUP_STREAM
        token = self.token(user) if user else self.token(1, groups=("bench",))
        log, cursors = (running.control.hello["log"], {stream: seen}) if seen else (None, {})
        resume = {"log": log, "cursors": cursors}
        message = {"action": "authenticate", "token": token, "window": WINDOW, "resume": resume}
        hello = frame(json.dumps(message).encode())
        signed_in = b'"type":"authentication_result","success":true'
        live = b'"type":"live","stream":"%b"' % stream.encode()
        steps = [upgrade(subprotocol="huahuo.v1"), (hello, live if user and not seen else signed_in)]
        if not user:
            subscribe = {"action": "subscribe", "stream": stream}
            steps.append((frame(json.dumps(subscribe).encode()), live))
        return Client(steps, b'{"action":"ack","cursors":{"%b":' % stream.encode(), seen)

    def token(self, user_id: int, *, groups: tuple[str, ...] = (), admin: bool = False) -> str:
        """A sign-in token of the child."""
        who = Principal(user_id, "u", is_admin=admin, groups=groups)
        ambient = SystemAmbient()
        authenticator = Authenticator(ENVIRON["HUAHUO_JWT_SECRET"].encode())
        return authenticator.mint(who, now_ms=ambient.now_ms(), ttl_s=3600, jti=ambient.token())


class HuahuoWorkers(Huahuo):
    """Two workers serve the connections; the process with the log publishes."""

    name = "huahuo-workers"
    note = "as huahuo, with `--workers 2`"
    workers = 2


class Floor(Peer):
    """The floor: a WebSocket server in C, a `send` for each connection and event, and nothing else."""

    name = "floor"
    note = "C, a send for each connection; nothing is kept, checked or answered; its timer is exact"

    def missing(self) -> str:
        """See `Peer`."""
        return "" if self._program() else "no C compiler for Linux"

    def version(self) -> str:
        """See `Peer`."""
        return f"built with {' '.join(FLAGS)}"

    def command(self, folder: Path) -> list[str]:
        """See `Peer`."""
        del folder
        return [str(self._program())]

    def client(self, running: Running, user: int, seen: int = 0, users: int = 0) -> Client:
        """A client that names its room by its path and is told when it is in."""
        del running, seen, users
        return Client([upgrade(f"/{user}"), (b"", b'"ready"')])

    def _program(self) -> Path | None:
        return build(Path(__file__).with_name("floor.c"), TOOLS)


class Ws(Floor):
    """The bare WebSocket server of Node: no order, no resume, no log. Its `package` is from npm."""

    name = "ws"
    note = "a send per client, no history"
    package: ClassVar[str] = "ws"
    server: ClassVar[str] = "ws.cjs"
    environ: ClassVar[Mapping[str, str]] = {"NODE_PATH": str(NODE_MODULES)}

    def missing(self) -> str:
        """See `Peer`."""
        if shutil.which("node") is None:
            return "node is not on PATH"
        return "" if (NODE_MODULES / self.package).is_dir() else _INSTALL

    def version(self) -> str:
        """See `Peer`."""
        manifest = json.loads((NODE_MODULES / self.package / "package.json").read_text(encoding="utf-8"))
        return f"{self.package} {manifest['version']}"

    def command(self, folder: Path) -> list[str]:
        """See `Peer`."""
        del folder
        return ["node", str(SERVERS / self.server)]


class Bun(Ws):
    """The WebSocket server inside Bun, with its native `publish`."""

    name = "bun"
    note = "native publish to a topic, no history; a client may be 64 MiB behind"
    package = "@oven/bun-linux-x64"
    program = NODE_MODULES / package / "bin/bun"

    def missing(self) -> str:
        """See `Peer`."""
        if not self.program.is_file():
            return f"{_INSTALL} (64-bit Linux on x86 only)"
        found = subprocess.run([str(self.program), "--version"], capture_output=True, check=False)
        return f"it ends with {found.returncode} here" if found.returncode else ""

    def command(self, folder: Path) -> list[str]:
        """See `Peer`."""
        del folder
        return [str(self.program), str(SERVERS / "bun.cjs")]


class SocketIO(Ws):
    """Rooms of Socket.IO with connection state recovery."""

    name = "socket.io"
    note = "in memory, with connection state recovery"
    package = "socket.io"
    server = "socketio.cjs"
    engine_io = True

    def client(self, running: Running, user: int, seen: int = 0, users: int = 0) -> Client:
        """Engine.IO's `0{…}` on opening, `40` to join the namespace, then the server says ready."""
        del running, seen, users
        path = f"/socket.io/?EIO=4&transport=websocket&room={user}"
        return Client([upgrade(path), (b"", b'0{"sid"'), (frame(b"40"), b'"ready"')])


class Nats(Peer):
    """Core NATS over WebSocket: subjects, no history."""

    name = "nats"
    note = "core NATS over WebSocket, no history; the server may use every core"
    publisher: ClassVar[str] = "core"
    jetstream: ClassVar[str] = ""
    program = shutil.which("nats-server", path=sysconfig.get_path("scripts")) or shutil.which("nats-server")

    def missing(self) -> str:
        """See `Peer`."""
        return "" if self.program else _INSTALL

    def version(self) -> str:
        """See `Peer`."""
        found = subprocess.run([str(self.program), "--version"], capture_output=True, text=True, check=True)
        return found.stdout.strip()

    def command(self, folder: Path) -> list[str]:
        """See `Peer`."""
        return [str(self.program), "-c", str(folder / "nats.conf"), "-l", str(folder / "nats.log")]

    def start(self, folder: Path) -> Running:
        """See `Peer`."""
        port, ws_port = free_port(), free_port()
        (folder / "nats.conf").write_text(
            f'host: "127.0.0.1"\nport: {port}\nping_interval: "10m"\nmax_connections: 200000\n'
            f'websocket {{ host: "127.0.0.1", port: {ws_port}, no_tls: true, compression: false }}\n'
            + (f'jetstream {{ store_dir: "{folder / "js"}"{self.jetstream} }}\n' if self.jetstream else ""),
            encoding="utf-8",
        )
        server = Server(self.command(folder), port)
        try:
            control = Child([sys.executable, "-m", "bench.nats_publisher", str(port), self.publisher])
        except BaseException:
            server.stop()
            raise
        return Running(control, ws_port, [server.pid], server)

    def client(self, running: Running, user: int, seen: int = 0, users: int = 0) -> Client:
        """See `Peer`."""
        del running, seen, users
        return self._says(b"SUB u.%d 1\r\nPING\r\n" % user, b"PONG\r\n")

    def _says(self, hello: bytes, answer: bytes, seen: int = 0) -> Client:
        return Client([upgrade(), (frame(HELLO + hello, binary=True), answer)], last=seen)


class JetStream(Nats):
    """One stream, one push consumer a client, each message synced before its acknowledgement."""

    name = "jetstream"
    note = "one file stream, sync always, a push consumer per client; the server may use every core"
    resumes = True
    publisher = "jetstream"
    jetstream = ", sync_interval: always"

    def client(self, running: Running, user: int, seen: int = 0, users: int = 0) -> Client:
        """`fill` went round the users, so a user's event n has the stream sequence (n - 1) * users + user."""
        del running
        config = {
            "stream_name": STREAM,
            "config": {
                "deliver_subject": f"d.{user}",
                "filter_subject": f"u.{user}",
                "ack_policy": "none",
                "deliver_policy": "by_start_sequence",
                "opt_start_seq": (seen - 1) * users + user + 1 if seen else 1,
                "mem_storage": True,
                "num_replicas": 1,
            },
        }
        asked = json.dumps(config).encode()
        create = b"PUB $JS.API.CONSUMER.CREATE.EV r.%d %d\r\n%b\r\n" % (user, len(asked), asked)
        return self._says(b"SUB d.%d 1\r\nSUB r.%d 2\r\n" % (user, user) + create, b'"deliver_subject"', seen)


class JetStreamDefault(JetStream):
    """The same with the server's default: synced every two minutes."""

    name = "jetstream-default"
    note = "as shipped: synced every two minutes, so a power cut loses what was acknowledged"
    jetstream = " "


ALL: dict[str, type[Peer]] = {
    peer.name: peer
    for peer in (Huahuo, HuahuoWorkers, SocketIO, Ws, Bun, Nats, JetStream, JetStreamDefault, Floor)
}


def wanted(names: Sequence[str], options: Options, sheet: Sheet) -> list[str]:
    """Those of `names` that were asked for and are installed; the sheet tells of the others."""
    found = []
    for name in filter(options.wants, names):
        peer = ALL[name]()
        if why := peer.missing():
            sheet.miss(name, why)
        else:
            found.append(name)
            sheet.note(f"{name}: {peer.version()}{'; ' + peer.note if peer.note else ''}")
    return found
