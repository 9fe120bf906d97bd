"""`huahuo demo --cluster`: three nodes, three NATS servers, sample mail, and buttons that break them.

All nodes are behind one address. A client that loses its node comes back there, to another one, and resumes.
"""

import asyncio
import contextlib
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final

from rich.console import Console

from huahuo.app import logs, tokens
from huahuo.app.config import Settings
from huahuo.app.signals import stop_on_signals
from huahuo.demo.balancer import Balancer
from huahuo.demo.children import Child
from huahuo.demo.demo import (
    TOKEN_TTL_S,
    USER_ID,
    USERNAME,
    add_mailboxes,
    fill,
    let_mail_arrive,
    until_stopped,
)
from huahuo.demo.nats_servers import nats_servers
from huahuo.demo.ports import held_port
from huahuo.demo.samplemail import PASSWORD, SampleMailServer
from huahuo.demo.switchboard import SOCKET, Switchboard
from huahuo.errors import HuahuoError
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.transport.client.client import Client

NODES: Final = ("node-a", "node-b", "node-c")
_START_S: Final = 90.0
_PAUSE_S: Final = 2.0
"""Seconds between two rounds of new mail."""


async def cluster(*, port: int | None, data: Path | None, console: Console) -> None:
    """Run until a signal stops it (`huahuo.app.signals`).

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
        token = tokens.mint(
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
