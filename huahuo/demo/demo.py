"""`huahuo demo`: a mail server with sample accounts, the service, and a link. Everything on loopback.

The demo is a user like any other: it adds and checks its mailboxes through the Python client.
"""

import asyncio
import contextlib
import tempfile
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from huahuo.app import config, keys, logs, tokens
from huahuo.app.plugins import standard
from huahuo.app.signals import stop_on_signals
from huahuo.app.table import Table
from huahuo.app.wiring import App
from huahuo.demo.samplemail import ACCOUNTS, PASSWORD, SampleMailServer
from huahuo.errors import ConfigError
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.transport.client.client import Client
from huahuo.transport.client.model import CommandError

USER_ID = 1
USERNAME = "demo"
TOKEN_TTL_S = 12 * 3600
_PAUSE_S = 4.0
"""Seconds between two rounds of new mail."""


async def demo(*, port: int | None, data: Path | None, console: Console) -> None:
    """Run until a signal stops it (`huahuo.app.signals`).

    Raises:
        HuahuoError: the mail server or the service could not start.
    """
    logs.configure("warning", as_json=False)
    logs.quiet_libraries()
    stopping = asyncio.Event()
    stop_on_signals(stopping.set)
    with tempfile.TemporaryDirectory(prefix="huahuo-demo-") as temporary:
        folder = data or Path(temporary)
        ambient = SystemAmbient()
        async with SampleMailServer(folder / "mail", ambient) as server:
            work = asyncio.create_task(_run(server, folder / "log", port, ambient, console))
            await until_stopped(work, stopping, console)


async def until_stopped(work: asyncio.Task[None], stopping: asyncio.Event, console: Console) -> None:
    """Wait for the end of `work`, which raises what it raised, or end it when `stopping` is set."""
    waiter = asyncio.create_task(stopping.wait())
    await asyncio.wait({work, waiter}, return_when=asyncio.FIRST_COMPLETED)
    waiter.cancel()
    if not work.done():
        console.print("\nstopping …")
        work.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await work


async def _run(
    server: SampleMailServer, data: Path, port: int | None, ambient: SystemAmbient, console: Console
) -> None:
    app, settings = await _start(data, port, ambient)
    try:
        await fill(server, console)
        token = tokens.mint(
            keys.read_jwt_secret(settings),
            ambient,
            user_id=USER_ID,
            username=USERNAME,
            admin=True,
            groups=("ops",),
            ttl_s=TOKEN_TTL_S,
        )
        async with Client(app.url, token=token, client="demo-script") as client:
            ids = await add_mailboxes(client, server.port)
            console.print(f"\n[bold]Open[/bold]  {app.url}/#token={token}\n", soft_wrap=True)
            console.print(f"mail server   127.0.0.1:{server.port} (pymap), password {PASSWORD!r}")
            console.print(f"data          {data}")
            console.print("New mail arrives every few seconds. Ctrl-C ends the demo.\n")
            await client.send("check_emails", email_ids=list(ids.values()))
            await let_mail_arrive(client, server, ids, ambient, _PAUSE_S)
    finally:
        await app.stop()


async def fill(server: SampleMailServer, console: Console) -> None:
    """Put sample mail into accounts that have none."""
    loop = asyncio.get_running_loop()
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("filling the sample mailboxes", total=len(ACCOUNTS))
        accounts = server.fill()
        while await loop.run_in_executor(None, next, accounts, None) is not None:
            progress.advance(task)


async def _start(data: Path, port: int | None, ambient: SystemAmbient) -> tuple[App, config.Settings]:
    """The service. If no port is given and the default one is taken, it uses a free one."""
    for attempt in (port if port is not None else config.Settings().port, 0):
        settings = Table(standard()).load(
            environ={},
            flags={
                "data": data,
                "port": attempt,
                "mail_allow_private": True,
                "connections_per_ip": 0,
                "unauthenticated_per_ip": 0,
            },
        )
        app = App(settings, ambient, plugins=standard())
        try:
            await app.start()
        except ConfigError:
            if port is not None or attempt == 0:
                raise
        else:
            return app, settings
    raise AssertionError("the second attempt returns or raises")


async def add_mailboxes(client: Client, mail_port: int) -> dict[str, int]:
    """Address -> id. Mailboxes of an earlier run are updated to the port of this run's mail server."""
    rows = (await client.send("get_all_emails"))["data"]
    ids = {row["email"]: row["id"] for row in rows}
    where = {"server": "127.0.0.1", "port": mail_port, "use_ssl": False}
    for account in ACCOUNTS:
        if account.address in ids:
            await client.send("update_email", email_id=ids[account.address], **where)
        else:
            added = await client.send(
                "add_email", email=account.address, password=PASSWORD, mail_type="imap", **where
            )
            ids[account.address] = added["email_id"]
    # Two that fail: one with a wrong password, one with a port on which no server listens.
    for address, fields in (
        ("wrong-password@demo.example", {**where, "password": "no"}),
        ("unreachable@demo.example", {**where, "port": 9, "password": PASSWORD}),
    ):
        if address not in ids:
            added = await client.send("add_email", email=address, mail_type="imap", **fields)
            ids[address] = added["email_id"]
    return ids


async def let_mail_arrive(
    client: Client, server: SampleMailServer, ids: dict[str, int], ambient: SystemAmbient, pause_s: float
) -> None:
    """Without end: deliver a few mails to some account and check it, whatever is broken at the moment."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(pause_s)
        account = ACCOUNTS[int(ambient.random() * len(ACCOUNTS))]
        for _ in range(1 + int(ambient.random() * 5)):
            await loop.run_in_executor(None, server.deliver, account)
        with contextlib.suppress(CommandError):  # nothing could be written just then
            await client.send("check_emails", email_ids=[ids[account.address]])
