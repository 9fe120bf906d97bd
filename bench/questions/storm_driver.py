"""The users of `bench storms` that storm, in a process of their own with the least right to the processor.

Each connection asks as often as the default limits let it, and reads, or does not read, or leaves in the
middle and comes back. Run as a child: it prints a line when it is ready, a second one when all users of a
storm have signed in, storms after the next line, and answers with what it counted. It also plays the mail
server that the checks of its mailboxes meet.
"""

import asyncio
import contextlib
import json
import os
import sys
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import msgspec

from bench.processes import answer, raise_files_max
from bench.questions.storm_requests import (
    ADMIN_ONLY,
    HTTP_ADMIN_ONLY,
    HTTP_REQUESTS,
    REQUESTS,
    Sender,
    http_request,
    message,
    sign_in,
)
from bench.sockets import PlainHttp, RawSocket
from huahuo.app import process

PER_S = 90.0
"""Requests a second and connection: within the default limit of 100."""
IN_FLIGHT = 32
"""Where replies are read; a connection that does not read goes on until its socket is full."""
BURST = 64
"""What one that leaves asks for before it goes."""
LEAVE_S = 0.2
RETURN_S = 0.1
HTTP_LEAVE_S = 0.02
"""A client that leaves waits this long for its answer over plain HTTP."""
ENDLESS_S = 0.5
"""How long an answer without an end is read."""
_CONNECTING_MAX = 32
_RECEIVE_BYTES = 64 << 10
_ANSWER_TIMEOUT_S = 10.0
MIXED = "mixed"
"""A storm in which each connection asks for something else, over WebSocket and over plain HTTP."""
_IN_A_MIX = tuple(name for name in (*REQUESTS, *HTTP_REQUESTS) if name not in ADMIN_ONLY | HTTP_ADMIN_ONLY)
MAIL_HOSTS = tuple(f"127.0.2.{n}" for n in range(1, 33))


class _Events(msgspec.Struct):
    """What an ack needs of an `events` frame."""

    stream: str
    seq: int
    events: list[msgspec.Raw]


_decode_events = msgspec.json.Decoder(_Events).decode


@dataclass(frozen=True)
class Storm:
    """What the parent asks for."""

    port: int
    request: str
    variant: str
    seconds: float


class Stormer(ABC):
    """One connection of one user, over all its sockets. `refused_s`: how long it waits after a refusal."""

    refused_s: ClassVar[float] = RETURN_S

    def __init__(self, storm: Storm, sender: Sender, token: str, address: str) -> None:
        self.counts: Counter[str] = Counter()
        self._storm = storm
        self._sender = sender
        self._token = token
        self._address = address
        self._number = 0

    @abstractmethod
    async def connect(self, connecting: asyncio.Semaphore) -> None:
        """Sign in, before anybody storms."""

    async def run(self, until_s: float, connecting: asyncio.Semaphore) -> None:
        """Storm until then, and at least with one request."""
        while self._goes_on(until_s):
            pause_s = 0.0
            try:
                pause_s = await self._session(until_s, connecting)
            except (OSError, TimeoutError):
                self.counts["refused_connections"] += 1
                pause_s = self.refused_s
            finally:
                self._abort()
            await asyncio.sleep(pause_s)

    def _goes_on(self, until_s: float) -> bool:
        return asyncio.get_running_loop().time() < until_s or not self.counts["asked"]

    @abstractmethod
    async def _session(self, until_s: float, connecting: asyncio.Semaphore) -> float:
        """Storm over one socket; for how long it stays away then. Raises OSError, TimeoutError."""

    @abstractmethod
    def _abort(self) -> None:
        """Let go of the socket."""


class SocketStormer(Stormer):
    """It asks over a WebSocket."""

    def __init__(self, storm: Storm, sender: Sender, token: str, address: str) -> None:
        super().__init__(storm, sender, token, address)
        self._outstanding = 0
        self._signed_in = asyncio.Event()
        self._answered = asyncio.Event()
        self._socket: RawSocket | None = None

    async def connect(self, connecting: asyncio.Semaphore) -> None:
        """See `Stormer`."""
        async with connecting:
            await self._open()

    async def _session(self, until_s: float, connecting: asyncio.Semaphore) -> float:
        if self._socket is None or not self._socket.is_open:
            await self.connect(connecting)
        assert self._socket is not None, "it was opened"
        await self._ask(self._socket, until_s)
        return RETURN_S

    def _abort(self) -> None:
        if self._socket is not None:
            self._socket.abort()
        self._socket = None

    async def _open(self) -> None:
        deaf = self._storm.variant == "not reading"
        self._outstanding = 0
        self._signed_in.clear()
        self._socket = socket = await RawSocket.connect(
            self._storm.port,
            self._hear,
            self._lost,
            address=self._address,
            receive_bytes=_RECEIVE_BYTES if deaf else 0,
        )
        socket.send(sign_in(self._storm.request, self._sender, self._token))
        async with asyncio.timeout(_ANSWER_TIMEOUT_S):
            await self._signed_in.wait()
        if deaf:
            socket.stop_reading()

    async def _ask(self, socket: RawSocket, until_s: float) -> None:
        storm, loop = self._storm, asyncio.get_running_loop()
        reads, leaves = storm.variant == "reading", storm.variant == "leaving"
        due_s, burst = loop.time(), 0
        while socket.is_open and self._goes_on(until_s):
            if leaves and burst >= BURST:
                await asyncio.sleep(LEAVE_S)
                return
            if reads and self._outstanding >= IN_FLIGHT:
                self._answered.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.1):
                        await self._answered.wait()
                continue
            socket.send(message(storm.request, self._sender, self._number))
            self.counts["asked"] += 1
            self._number += 1
            self._outstanding += 1
            burst += 1
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, until_s - loop.time())):
                    await socket.room()
            due_s = max(due_s + 1 / PER_S, loop.time() - 1.0)
            if not leaves and due_s > loop.time():
                await asyncio.sleep(due_s - loop.time())

    def _hear(self, data: bytes) -> None:
        head = data[:64]
        if head.startswith(b'{"type":"events"'):
            events = _decode_events(data)
            last = events.seq + len(events.events) - 1
            assert self._socket is not None
            self._socket.send(b'{"action":"ack","cursors":{"%b":%d}}' % (events.stream.encode(), last))
        elif head.startswith(b'{"type":"authentication_result"'):
            self.counts["sign_ins"] += 1
            self._signed_in.set()
        elif head.startswith(b'{"type":"error"'):
            self.counts["refused"] += 1
            self._one_answered()
        elif head.startswith(b'{"type":"goaway"'):
            self.counts["sent_away"] += 1
        elif not head.startswith((b'{"type":"live"', b'{"type":"lag"', b'{"type":"snapshot"')):
            self.counts["answered"] += 1
            self._one_answered()

    def _one_answered(self) -> None:
        self._outstanding -= 1
        self._answered.set()

    def _lost(self) -> None:
        self._answered.set()


class HttpStormer(Stormer):
    """It asks over plain HTTP, one request at a time, and each request signs in."""

    refused_s = HTTP_LEAVE_S
    _socket: PlainHttp | None = None

    async def connect(self, connecting: asyncio.Semaphore) -> None:
        """Nothing: see the class."""

    async def _session(self, until_s: float, connecting: asyncio.Semaphore) -> float:
        storm = self._storm
        async with connecting:
            self._socket = await PlainHttp.connect(storm.port, self._hear, address=self._address)
        while self._socket.is_open and self._goes_on(until_s):
            await self._ask(self._socket, until_s)
        return 0.0

    def _abort(self) -> None:
        if self._socket is not None:
            self._socket.abort()

    async def _ask(self, socket: PlainHttp, until_s: float) -> None:
        storm, loop = self._storm, asyncio.get_running_loop()
        began_s = loop.time()
        socket.send(http_request(storm.request, self._sender, self._number, self._token))
        self._number += 1
        self.counts["asked"] += 1
        if storm.variant == "not reading":
            socket.stop_reading()
        wait_s = HTTP_LEAVE_S if storm.variant == "leaving" else until_s - began_s
        if storm.request == "event streams":
            wait_s = min(wait_s, ENDLESS_S)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, wait_s)):
                await socket.answered()
                if storm.variant == "reading":
                    await asyncio.sleep(began_s + 1 / PER_S - loop.time())
                    return
        socket.abort()

    def _hear(self, status: int) -> None:
        self.counts["answered" if status < 300 else "refused"] += 1


def stormer(storm: Storm, sender: Sender, user: dict[str, Any]) -> Stormer:
    """A connection that sends the wanted request."""
    if storm.request == MIXED:
        storm = replace(storm, request=_IN_A_MIX[(sender.user + sender.connection) % len(_IN_A_MIX)])
    kind = HttpStormer if storm.request in HTTP_REQUESTS else SocketStormer
    return kind(storm, sender, user["token"], user["address"])


async def play(
    storm: Storm,
    users: list[dict[str, Any]],
    connections: int,
    log: str,
    connected: Callable[[], Awaitable[None]],
) -> dict[str, int]:
    """Let all users storm, once all have signed in and `connected` returned. Returns their counts."""
    connecting = asyncio.Semaphore(_CONNECTING_MAX)
    everybody = [
        stormer(storm, Sender(user["user"], user["first_id"], user["mailboxes"], number, log), user)
        for user in users
        for number in range(connections)
    ]
    await asyncio.gather(*(one.connect(connecting) for one in everybody))
    await connected()
    until_s = asyncio.get_running_loop().time() + storm.seconds
    await asyncio.gather(*(one.run(until_s, connecting) for one in everybody))
    total: Counter[str] = Counter()
    for one in everybody:
        total.update(one.counts)
    return dict(total)


async def refuse_logins(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A mail server without users: each check of a mailbox is short, and ends in the log."""
    with contextlib.suppress(OSError):
        writer.write(b"* OK ready\r\n")
        while line := await reader.readline():
            tag, _, rest = line.partition(b" ")
            command = rest.strip().upper()
            if command.startswith(b"CAPABILITY"):
                writer.write(b"* CAPABILITY IMAP4rev1\r\n" + tag + b" OK\r\n")
            elif command.startswith(b"LOGOUT"):
                writer.write(b"* BYE\r\n" + tag + b" OK\r\n")
                break
            else:
                writer.write(tag + b" NO [AUTHENTICATIONFAILED] no\r\n")
    writer.close()


async def serve(mail_port: int) -> None:
    """Do what the lines on stdin say, one storm a line."""
    async with await asyncio.start_server(refuse_logins, MAIL_HOSTS, mail_port):
        answer({})
        while line := await asyncio.to_thread(sys.stdin.readline):
            asked = json.loads(line)
            storm = Storm(**asked["storm"])
            answer(await play(storm, asked["users"], asked["connections"], asked["log"], _wait_for_parent))


async def _wait_for_parent() -> None:
    answer({})
    await asyncio.to_thread(sys.stdin.readline)


def main() -> None:
    """Command line of the child."""
    os.nice(10)
    raise_files_max()
    process.run(serve(int(sys.argv[1])))


if __name__ == "__main__":
    main()
