"""A TCP server for protocol attacks that no real IMAP server performs. For everything else use Dovecot.

A script is a coroutine that gets a `Peer`; it starts from `until` helpers that play an honest server up
to the point where the attack begins. The server holds one connection after the other and ends with its block.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

type Script = Callable[["Peer"], Awaitable[None]]

CAPABILITIES = b"IMAP4rev1 ID"


class Peer:
    """The server's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.heard: list[bytes] = []
        self.tag = b""

    async def say(self, *lines: bytes) -> None:
        """Send lines."""
        for line in lines:
            self.writer.write(line + b"\r\n")
        await self.writer.drain()

    async def raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()

    async def hear(self, word: bytes) -> bytes:
        """Wait for a command that begins with `word` and remember its tag."""
        line = (await self.reader.readline()).rstrip(b"\r\n")
        self.heard.append(line)
        self.tag, _, command = line.partition(b" ")
        assert command.upper().startswith(word), f"expected {word!r}, got {line!r}"
        return command

    async def ok(self, text: bytes = b"done") -> None:
        """Complete the last command."""
        await self.say(self.tag + b" OK " + text)

    async def greet(self) -> None:
        """An honest greeting."""
        await self.say(b"* OK [CAPABILITY " + CAPABILITIES + b"] ready")

    async def until_login(self) -> None:
        """Honest up to the LOGIN command."""
        await self.greet()
        await self.hear(b"LOGIN")

    async def until_examine(self) -> None:
        """Honest up to the EXAMINE command."""
        await self.until_login()
        await self.ok(b"[CAPABILITY " + CAPABILITIES + b"] in")
        await self.hear(b"ID")
        await self.ok()
        await self.hear(b"EXAMINE")

    async def until_search(self, exists: int = 2) -> None:
        """Honest up to the search."""
        await self.opened(exists)
        await self.hear(b"UID SEARCH")

    async def opened(self, exists: int, uidnext: bytes = b"") -> None:
        """Honest through the EXAMINE command."""
        await self.until_examine()
        await self.say(b"* %d EXISTS" % exists, b"* OK [UIDVALIDITY 7] x")
        if uidnext:
            await self.say(b"* OK [UIDNEXT " + uidnext + b"] x")
        await self.ok(b"[READ-ONLY] open")

    async def until_sizes(self, *uids: int) -> None:
        """Honest up to the FETCH of sizes."""
        await self.until_search(len(uids))
        await self.say(b"* SEARCH " + b" ".join(b"%d" % uid for uid in uids))
        await self.ok()
        await self.hear(b"UID FETCH")

    async def until_bodies(self, *uids: int, size: int = 30) -> None:
        """Honest up to the FETCH of bodies."""
        await self.until_sizes(*uids)
        for number, uid in enumerate(uids, 1):
            await self.say(
                b'* %d FETCH (UID %d RFC822.SIZE %d INTERNALDATE "01-Jul-2025 10:00:00 +0000")'
                % (number, uid, size)
            )
        await self.ok()
        await self.hear(b"UID FETCH")

    async def silent(self) -> None:
        """Say nothing more until the other side goes."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass


class EvilServer:
    """The address of the server, and the data that its peers received."""

    def __init__(self) -> None:
        self.port = 0
        self.peers: list[Peer] = []


@contextlib.asynccontextmanager
async def evil(script: Script) -> AsyncIterator[EvilServer]:
    """Serve `script` to each connection; an assertion in it fails the test when the block ends."""
    state = EvilServer()
    failures: list[BaseException] = []
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        peer = Peer(reader, writer)
        state.peers.append(peer)
        try:
            await script(peer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        except Exception as error:  # noqa: BLE001  reported below
            failures.append(error)
        finally:
            writer.transport.abort()
            tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    state.port = server.sockets[0].getsockname()[1]
    try:
        yield state
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if failures:
        raise failures[0]
