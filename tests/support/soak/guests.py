"""Clients that come and go: some say goodbye, others do not, some never sign in, and some never read."""

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import Callable
from random import Random
from urllib.parse import quote, urlsplit

from bench.sockets import RawSocket
from huahuo.transport.client.client import Client
from huahuo.transport.client.model import ClientError, CommandError
from huahuo.transport.protocol.codes import ErrorCode
from tests.support.models.model_imap import ModelImap

USERS = 50
CIRCLES = ("circle-0", "circle-1", "circle-2", "circle-3")
"""The groups of the members, before the base line and behind it."""
SLOW_BYTES = 4096
"""What the kernel holds for a guest that does not read."""

MAIL_PASSWORD = "mail-password"

type Token = Callable[[int], str]


class AnyonesImap(ModelImap):
    """One mailbox, under any address."""

    def accepts(self, user: str, password: str) -> bool:
        """As `ModelImap`."""
        return password == MAIL_PASSWORD


class Guests:
    """`visit` plays one guest after the other. `came`: how many of each kind; `faults`: of the service."""

    def __init__(self, url: str, token: Token, mail_port: int, seed: int) -> None:
        self._url = url
        self._port = urlsplit(url).port or 0
        self._token = token
        self._mail_port = mail_port
        self._chance = Random(f"guests {seed}")
        self._crates: dict[int, int] = {}
        self._mailboxes: dict[int, int] = {}
        self.came: Counter[str] = Counter()
        self.faults: list[str] = []
        self._kinds = {
            "says goodbye": self._polite, "is cut off": self._cut, "never signs in": self._silent,
            "never reads": self._slow, "server-sent events": self._events, "a page that waits": self._page,
            "checks mail": self._mail,
        }  # fmt: skip

    async def visit(self, over: asyncio.Event) -> None:
        """One guest after the other until it is over."""
        while not over.is_set():
            kind = self._chance.choice(list(self._kinds))
            try:
                with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
                    async with asyncio.timeout(30):
                        await self._kinds[kind](1 + self._chance.randrange(USERS))
            except ClientError as error:
                if isinstance(error, CommandError) and error.code == ErrorCode.INTERNAL:
                    self.faults.append(f"a guest that {kind}: {error}")
            self.came[kind] += 1
            await asyncio.sleep(self._chance.uniform(0.05, 0.5))

    def _group(self) -> str:
        return f"group/{self._chance.choice(CIRCLES)}"

    async def _polite(self, user: int) -> None:
        async with Client(self._url, token=self._token(user)) as client:
            crate = self._crates.get(user)
            if crate is None:
                self._crates[user] = (await client.request("open_crate", {}))["crate_id"]
            else:
                await client.request("touch_crate", {"crate_id": crate})
            async with client.events(self._group(), after="head") as events:
                await events.ready()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(anext(aiter(events)), self._chance.uniform(0.2, 2.0))

    async def _cut(self, user: int) -> None:
        socket = await self._raw(user)
        await asyncio.sleep(self._chance.uniform(0.0, 1.0))
        socket.abort()

    async def _silent(self, user: int) -> None:
        socket = await RawSocket.connect(self._port, lambda _: None, lambda: None)
        await asyncio.sleep(self._chance.uniform(0.0, 3.0))
        socket.abort()

    async def _slow(self, user: int) -> None:
        socket = await self._raw(user, receive_bytes=SLOW_BYTES)
        socket.stop_reading()
        await asyncio.sleep(self._chance.uniform(1.0, 6.0))
        socket.abort()

    async def _raw(self, user: int, receive_bytes: int = 0) -> RawSocket:
        socket = await RawSocket.connect(
            self._port, lambda _: None, lambda: None, receive_bytes=receive_bytes
        )
        socket.send(json.dumps({"action": "authenticate", "token": self._token(user)}).encode())
        stream = {"action": "subscribe", "stream": self._group(), "after": "start"}
        socket.send(json.dumps(stream).encode())
        return socket

    async def _events(self, user: int) -> None:
        await self._get(user, "after=start", "text/event-stream")

    async def _page(self, user: int) -> None:
        await self._get(user, "after=head&wait=5", "application/json")

    async def _get(self, user: int, query: str, accept: str) -> None:
        """Ask, read a part of the answer, and go."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            lines = (
                f"GET /streams/{quote(self._group(), safe='')}?{query} HTTP/1.1",
                f"Host: 127.0.0.1:{self._port}",
                f"Authorization: Bearer {self._token(user)}",
                f"Accept: {accept}",
                "",
                "",
            )
            writer.write("\r\n".join(lines).encode())
            await reader.read(4096)
            await asyncio.sleep(self._chance.uniform(0.0, 1.0))
        finally:
            writer.transport.abort()

    async def _mail(self, user: int) -> None:
        async with Client(self._url, token=self._token(user)) as client:
            if user not in self._mailboxes:
                added = await client.request(
                    "add_email",
                    {
                        "email": f"u{user}@example.com", "password": MAIL_PASSWORD, "mail_type": "imap",
                        "server": "127.0.0.1", "port": self._mail_port, "use_ssl": False,
                    },
                )  # fmt: skip
                self._mailboxes[user] = added["email_id"]
            await client.request("check_emails", {"email_ids": [self._mailboxes[user]]})
