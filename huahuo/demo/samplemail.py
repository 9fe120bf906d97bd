"""The demo's mail: a real IMAP server (pymap, from PyPI) on loopback with sample accounts.

The server is a child process with a folder of its own. Mails arrive through IMAP APPEND, as from any other
program. Only `huahuo demo` uses it.
"""

import asyncio
import base64
import contextlib
import hashlib
import imaplib
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Self

import msgspec

from huahuo.demo.ports import held_port
from huahuo.errors import HuahuoError
from huahuo.eventstore.ambient import Ambient

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
        command = [
            sys.executable,
            "-m",
            "huahuo.demo.pymap_child",
            "--host",
            "127.0.0.1",
            "--port",
            str(self.port),
        ]
        command += [
            "--port",
            str(self.port),
            "--no-tls",
            "--no-service",
            "admin",
            "--no-service",
            "managesieve",
        ]
        command += ["maildir", str(self.folder)]
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
        sender, subject = self._pick(_THEMES[account.theme])
        mail = EmailMessage()
        mail["From"], mail["To"], mail["Subject"] = sender, account.address, subject
        now_s = self._ambient.now_ms() / 1000
        mail["Date"] = format_datetime(datetime.fromtimestamp(now_s, UTC))
        code = f"{int(self._ambient.random() * 1_000_000):06}"
        mail.set_content(f"{subject}\n\n{code}\n\nThis mail was made for the demo of huahuo.\n")
        if self._ambient.random() < 0.2:  # noqa: PLR2004  one in five
            mail.add_attachment(code.encode(), maintype="application", subtype="pdf", filename="invoice.pdf")
        imap.append("INBOX", "", imaplib.Time2Internaldate(now_s), mail.as_bytes())

    def _pick[T](self, choices: tuple[T, ...]) -> T:
        return choices[int(self._ambient.random() * len(choices))]

    def _write_accounts(self) -> None:
        """Write the two files in which pymap's maildir backend keeps its users."""
        salt = b"only-on-loopback"
        digest = hashlib.pbkdf2_hmac("sha256", PASSWORD.encode(), salt, _HASH_ROUNDS)
        hashed = "$".join(
            (
                "",
                "pbkdf2-sha256",
                str(_HASH_ROUNDS),
                base64.b64encode(salt).decode(),
                base64.b64encode(digest).decode(),
            )
        )
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


class _login:  # noqa: N801  reads as a verb where it is used
    """An IMAP connection that is logged out even when the block fails."""

    def __init__(self, port: int, address: str) -> None:
        self._imap = imaplib.IMAP4("127.0.0.1", port, timeout=10)
        self._imap.login(address, PASSWORD)

    def __enter__(self) -> imaplib.IMAP4:
        return self._imap

    def __exit__(self, *_exc: object) -> None:
        self._imap.logout()
