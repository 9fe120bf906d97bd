"""`huahuo demo`: a mail server with sample accounts, the service, and a link. Everything on loopback.

The demo is a user like any other: it adds and checks its mailboxes through the Python client. The mail
server is a real IMAP server (pymap, from PyPI), a child process with a folder of its own. Mails arrive
through IMAP APPEND, as from any other program.
"""

import asyncio
import base64
import contextlib
import hashlib
import imaplib
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Self

import msgspec
from rich.console import Console
from rich.progress import Progress

from huahuo.app import config, credentials, logs
from huahuo.app.application import standard
from huahuo.app.config import Table
from huahuo.app.process import stop_on_signals
from huahuo.app.wiring import App
from huahuo.errors import ConfigError, HuahuoError
from huahuo.eventstore.ambient import Ambient, SystemAmbient
from huahuo.transport.client.client import Client
from huahuo.transport.client.model import CommandError


@contextlib.contextmanager
def held_port() -> Iterator[int]:
    """A free port that the system gives to nobody else meanwhile, be it for a connection to elsewhere.

    It is bound and does not listen. On Linux a server that sets `SO_REUSEADDR` can listen there, and
    connections are refused while that server is down. Elsewhere the port is free for everybody again at once.
    """
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
        if sys.platform != "linux":
            held.close()
        yield port


PASSWORD = "sample-only"  # noqa: S105  of accounts that exist on loopback while the demo runs
_START_TIMEOUT_S = 60
_HASH_ROUNDS = 1000


class Account(msgspec.Struct, frozen=True):
    """A sample account: its number of initial mails, and its correspondents."""

    address: str
    mails: int
    theme: str


ACCOUNTS = (
    Account("alice@demo.example", 24, "work"),
    Account("bob@demo.example", 8, "shop"),
    Account("chen@demo.example", 40, "cn"),
    Account("dora@demo.example", 3, "codes"),
    Account("erik@demo.example", 120, "lists"),
    Account("fatima@demo.example", 0, "work"),
)

_THEMES: dict[str, tuple[tuple[str, str], ...]] = {
    "work": (
        ("Grace Hopper <grace@navy.example>", "Minutes of the compiler meeting"),
        ("Build robot <ci@builds.example>", "main is green again"),
        ("Ada Lovelace <ada@engine.example>", "Note G, second draft"),
    ),
    "shop": (
        ("Bookshop <orders@books.example>", "Your parcel is on its way"),
        ("Garden Centre <hello@garden.example>", "Tulip bulbs are back"),
    ),
    "cn": (
        ("李雷 <lilei@pengyou.example>", "周末一起去看花火吗？"),
        ("韩梅梅 <hanmeimei@xuexiao.example>", "课程表更新"),
        ("银行通知 <notice@yinhang.example>", "您的十一月账单"),
    ),
    "codes": (("Login service <no-reply@login.example>", "Your code"),),
    "lists": (
        ("actors-dev <actors@lists.example>", "[actors] Ordering guarantees, again"),
        ("log-users <log@lists.example>", "[log] Re: fsync is not optional"),
    ),
}


class SampleMailServer:
    """pymap as a child process. Use it as an async context manager. Leaving the context ends the process.

    `fill` and `deliver` block on the network: call them on the executor.
    """

    def __init__(self, folder: Path, ambient: Ambient) -> None:
        self.folder = folder
        self.port = 0
        self._held = contextlib.ExitStack()
        self._ambient = ambient
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write_accounts()
        if find_spec("pymap") is None:
            raise HuahuoError("the demo needs pymap: pip install 'huahuo[demo]' (or run `make demo`)")
        self.port = self._held.enter_context(held_port())
        command = (
            *(sys.executable, "-m", "huahuo.demo.pymap_child", "--host", "127.0.0.1"),
            *("--port", str(self.port), "--no-tls", "--no-service", "admin"),
            *("--no-service", "managesieve", "maildir", str(self.folder)),
        )
        self._process = await asyncio.create_subprocess_exec(
            *command,
            stdin=subprocess.PIPE,  # it ends when this process does, even by a kill
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C ends the demo first, then the demo ends the server
        )
        try:
            await self._wait_until_it_listens()
        except BaseException:
            self._held.close()
            raise
        return self

    async def __aexit__(self, *_exc: object) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                async with asyncio.timeout(3):
                    await self._process.wait()
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
        self._held.close()

    def fill(self) -> Iterator[Account]:
        """Give each empty account its first mails, and yield each account afterwards."""
        for account in ACCOUNTS:
            with _login(self.port, account.address) as imap:
                _status, counts = imap.select("INBOX")
                if counts == [b"0"]:
                    for _ in range(account.mails):
                        self._append(imap, account)
            yield account

    def deliver(self, account: Account) -> None:
        """Deliver one more mail to this account."""
        with _login(self.port, account.address) as imap:
            self._append(imap, account)

    def _append(self, imap: imaplib.IMAP4, account: Account) -> None:
        sender, subject = _pick(self._ambient, _THEMES[account.theme])
        mail = EmailMessage()
        mail["From"], mail["To"], mail["Subject"] = sender, account.address, subject
        now_s = self._ambient.now_ms() / 1000
        mail["Date"] = format_datetime(datetime.fromtimestamp(now_s, UTC))
        code = f"{int(self._ambient.random() * 1_000_000):06}"
        mail.set_content(f"{subject}\n\n{code}\n\nThis mail was made for the demo of huahuo.\n")
        if self._ambient.random() < 0.2:  # noqa: PLR2004  one in five
            mail.add_attachment(code.encode(), maintype="application", subtype="pdf", filename="invoice.pdf")
        imap.append("INBOX", "", imaplib.Time2Internaldate(now_s), mail.as_bytes())

    def _write_accounts(self) -> None:
        """Write the two files in which pymap's maildir backend keeps its users."""
        salt = b"only-on-loopback"
        digest = hashlib.pbkdf2_hmac("sha256", PASSWORD.encode(), salt, _HASH_ROUNDS)
        coded = (base64.b64encode(part).decode() for part in (salt, digest))
        hashed = "$".join(("", "pbkdf2-sha256", str(_HASH_ROUNDS), *coded))
        users = "".join(f"{a.address}:x::::{a.address.partition('@')[0]}:\r\n" for a in ACCOUNTS)
        shadow = "".join(f"{a.address}:{hashed}:::::::\r\n" for a in ACCOUNTS)
        (self.folder / "pymap-etc-passwd").write_text(users, newline="")
        (self.folder / "pymap-etc-shadow").write_text(shadow, newline="")

    async def _wait_until_it_listens(self) -> None:
        deadline_s = self._ambient.monotonic_s() + _START_TIMEOUT_S
        while True:
            try:
                _reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                ended = self._process is not None and self._process.returncode is not None
                if ended or self._ambient.monotonic_s() > deadline_s:
                    raise HuahuoError("the demo's mail server (pymap) did not start") from None
                await asyncio.sleep(0.1)
            else:
                writer.close()
                return


def _login(port: int, address: str) -> imaplib.IMAP4:
    """A connection that is logged out when the block ends."""
    imap = imaplib.IMAP4("127.0.0.1", port, timeout=10)
    imap.login(address, PASSWORD)
    return imap


def _pick[T](ambient: Ambient, choices: tuple[T, ...]) -> T:
    return choices[int(ambient.random() * len(choices))]


USER_ID = 1
USERNAME = "demo"
TOKEN_TTL_S = 12 * 3600
_PAUSE_S = 4.0
"""Seconds between two rounds of new mail."""


async def demo(*, port: int | None, data: Path | None, console: Console) -> None:
    """Run until a signal stops it (`huahuo.app.process`).

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
        token = credentials.mint(
            credentials.read_jwt_secret(settings),
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
        account = _pick(ambient, ACCOUNTS)
        for _ in range(1 + int(ambient.random() * 5)):
            await loop.run_in_executor(None, server.deliver, account)
        with contextlib.suppress(CommandError):  # nothing could be written just then
            await client.send("check_emails", email_ids=[ids[account.address]])
