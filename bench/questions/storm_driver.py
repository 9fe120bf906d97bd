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
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import msgspec

from bench.clients.raw_socket import RawSocket
from bench.harness.answers import answer
from bench.harness.procs import raise_files_max
from bench.questions.storm_http import HTTP_ADMIN_ONLY, HTTP_REQUESTS
from bench.questions.storm_http_driver import HttpStormer
from bench.questions.storm_requests import ADMIN_ONLY, REQUESTS, Sender, message, sign_in
from huahuo.app import loops

PER_S = 90.0
"""Requests a second and connection: within the default limit of 100."""
IN_FLIGHT = 32
"""Where replies are read; a connection that does not read goes on until its socket is full."""
BURST = 64
"""What one that leaves asks for before it goes."""
LEAVE_S = 0.2
RETURN_S = 0.1
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


class Stormer:
    """One connection of one user, over all its sockets."""

    def __init__(self, storm: Storm, sender: Sender, token: str, address: str) -> None:
        self.counts: Counter[str] = Counter()
        self.answered_at_s: list[float] = []
        """Begins with the time of the first request."""
        self._storm = storm
        self._sender = sender
        self._token = token
        self._address = address
        self._number = 0
        self._outstanding = 0
        self._signed_in = asyncio.Event()
        self._answered = asyncio.Event()
        self._socket: RawSocket | None = None

    async def connect(self, connecting: asyncio.Semaphore) -> None:
        """Sign in, before anybody storms."""
        async with connecting:
            await self._open()

    async def run(self, until_s: float, connecting: asyncio.Semaphore) -> None:
        """Storm until then, and at least with one request."""
        loop = asyncio.get_running_loop()
        while loop.time() < until_s or not self.counts["asked"]:
            try:
                if self._socket is None or not self._socket.is_open:
                    await self.connect(connecting)
                assert self._socket is not None, "it was opened"
                await self._ask(self._socket, until_s)
            except (OSError, TimeoutError):
                self.counts["refused_connections"] += 1
            finally:
                if self._socket is not None:
                    self._socket.abort()
                self._socket = None
            await asyncio.sleep(RETURN_S)

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
        while socket.is_open and (loop.time() < until_s or not self.counts["asked"]):
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
            self.answered_at_s = self.answered_at_s or [loop.time()]
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
        self.answered_at_s.append(asyncio.get_running_loop().time())
        self._outstanding -= 1
        self._answered.set()

    def _lost(self) -> None:
        self._answered.set()


def stormer(storm: Storm, sender: Sender, user: dict[str, Any]) -> Stormer | HttpStormer:
    """A connection that sends the wanted request."""
    if storm.request == MIXED:
        storm = replace(storm, request=_IN_A_MIX[(sender.user + sender.connection) % len(_IN_A_MIX)])
    token, address = user["token"], user["address"]
    if storm.request in HTTP_REQUESTS:
        return HttpStormer(storm.port, storm.request, storm.variant, sender, token, address)
    return Stormer(storm, sender, token, address)


async def play(
    storm: Storm,
    users: list[dict[str, Any]],
    connections: int,
    log: str,
    connected: Callable[[], Awaitable[None]],
) -> dict[str, float]:
    """Let all users storm, once all have signed in and `connected` returned. Returns their counts.

    Also: as `least` and `most` the answers, without refusals, to the users with the fewest and the most, as
    `longest` the longest time in ms that any user was without an answer or refusal since its first request.
    """
    connecting = asyncio.Semaphore(_CONNECTING_MAX)
    stormers: dict[int, list[Stormer | HttpStormer]] = {}
    for user in users:
        stormers[user["user"]] = [
            stormer(storm, Sender(user["user"], user["first_id"], user["mailboxes"], number, log), user)
            for number in range(connections)
        ]
    everybody = [one for ours in stormers.values() for one in ours]
    await asyncio.gather(*(one.connect(connecting) for one in everybody))
    await connected()
    began_s = asyncio.get_running_loop().time()
    until_s = began_s + storm.seconds
    await asyncio.gather(*(one.run(until_s, connecting) for one in everybody))
    total: Counter[str] = Counter()
    answers: list[int] = []
    longest_s = 0.0
    for ours in stormers.values():
        of_user: Counter[str] = Counter()
        for one in ours:
            of_user.update(one.counts)
        answers.append(of_user["answered"])
        times_s = sorted(at_s for one in ours for at_s in one.answered_at_s if at_s < until_s)
        gaps_s = (later - sooner for sooner, later in pairwise([*(times_s or [began_s]), until_s]))
        longest_s = max(longest_s, *gaps_s)
        total.update(of_user)
    return dict(total) | {"least": min(answers), "most": max(answers), "longest": longest_s * 1_000}


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
    loops.run(serve(int(sys.argv[1])))


if __name__ == "__main__":
    main()
