"""A mail server that only logs in, opens an empty INBOX and idles, for more sessions than Dovecot takes.

It runs as a child; its first line says the port.
"""

import asyncio
import contextlib

from bench.harness.answers import answer

_CAPABILITIES = b"IMAP4rev1 IDLE"


async def _taken(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"* OK [CAPABILITY " + _CAPABILITIES + b"] ready\r\n")
    idle = b""
    while line := (await reader.readline()).rstrip():
        tag, _, command = line.partition(b" ")
        word = command.partition(b" ")[0]
        if line == b"DONE":
            writer.write(idle + b" OK done\r\n")
        elif word == b"IDLE":
            idle = tag
            writer.write(b"+ idling\r\n")
        elif word == b"EXAMINE":
            writer.write(b"* 0 EXISTS\r\n* OK [UIDVALIDITY 1] x\r\n" + tag + b" OK open\r\n")
        elif word == b"LOGIN":
            writer.write(tag + b" OK [CAPABILITY " + _CAPABILITIES + b"] in\r\n")
        else:
            writer.write(tag + b" OK\r\n")


async def _serve() -> None:
    server = await asyncio.start_server(_taken, "127.0.0.1", 0, backlog=4096, limit=4096)
    answer({"port": server.sockets[0].getsockname()[1]})
    await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve())
