"""What does one idle connection, and one mailbox, cost in memory?

Guess before the first run: 20 KiB a connection (14 KiB of it `websockets`), 1.5 KiB a mailbox: 400 B for
its row in the roster and 1 KiB for its resident entity.

    python -m bench.footprint [--quick]

The service runs as a child process; another child holds the client ends, so that only the server is
measured. Memory is the resident set of the service, before and after, divided.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import re
import resource
import subprocess
import sys
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path

from eventstore.ambient import SystemAmbient
from huahuo import config, tokens
from huahuo.wiring import App
from transport.client import Client

SECRET = "bench-secret-that-is-long-enough-0000"


def resident_bytes(pid: int) -> int:
    """The resident set of a process."""
    text = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", text)
    assert found
    return int(found.group(1)) * 1024


def files_max() -> None:
    """As many sockets as the machine lets us have."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def hold(port: int, token: str, count: int, pipe: Connection) -> None:
    """Open `count` authenticated sockets, say so, and keep them until told to stop."""
    request = (
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        b"Sec-WebSocket-Protocol: huahuo.v1\r\n\r\n"
    )
    payload = json.dumps({"action": "authenticate", "token": token}).encode()
    frame = b"\x81\xfe" + len(payload).to_bytes(2, "big") + bytes(4) + payload  # masked with zeros
    streams = []
    limit = asyncio.Semaphore(64)

    async def one(number: int) -> None:
        async with limit:
            # A pair of addresses has some 28,000 ports: take further loopback addresses as sources.
            source = (f"127.0.0.{2 + number // 10_000}", 0)
            reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=source)
            writer.write(request)
            await reader.readuntil(b"\r\n\r\n")
            writer.write(frame)
            await reader.readuntil(b'"type":"authentication_result","success":true')
            streams.append((reader, writer))

    await asyncio.gather(*(one(number) for number in range(count)))
    pipe.send(len(streams))
    await asyncio.get_running_loop().run_in_executor(None, pipe.recv)


def holder(port: int, token: str, count: int, pipe: Connection) -> None:
    """The child with the client ends."""
    files_max()
    asyncio.run(hold(port, token, count, pipe))


def connections(count: int) -> None:
    """Memory per idle authenticated connection."""
    with tempfile.TemporaryDirectory() as folder:
        environ = os.environ | {
            "HUAHUO_JWT_SECRET": SECRET,
            "HUAHUO_CONNECTIONS_PER_IP": "0",
            "HUAHUO_CONNECTIONS_PER_USER": "0",
            "HUAHUO_HEARTBEAT_S": "600",
        }
        server = subprocess.Popen(
            [sys.executable, "-m", "huahuo", "serve", "--data", folder, "--port", "0"],
            stdout=subprocess.PIPE,
            text=True,
            env=environ,
            preexec_fn=files_max,  # noqa: PLW1509  no threads yet
        )
        try:
            assert server.stdout
            port = int(server.stdout.readline().rsplit(":", 1)[1])
            settings = config.load(environ={"HUAHUO_JWT_SECRET": SECRET}, flags={"data": Path(folder)})
            token = tokens.mint(settings, SystemAmbient(), user_id=1, username="u")
            ours, theirs = multiprocessing.Pipe()
            context = multiprocessing.get_context("spawn")
            with_few = context.Process(target=holder, args=(port, token, 50, theirs))
            with_few.start()
            ours.recv()
            before = resident_bytes(server.pid)
            many_ours, many_theirs = multiprocessing.Pipe()
            with_many = context.Process(target=holder, args=(port, token, count, many_theirs))
            with_many.start()
            opened = many_ours.recv()
            after = resident_bytes(server.pid)
            per = (after - before) / opened / 1024
            print(f"{opened:>8,} idle connections   {per:6.1f} KiB each   {after >> 20} MiB in all")
            for pipe, child in ((ours, with_few), (many_ours, with_many)):
                pipe.send("stop")
                child.join()
        finally:
            server.terminate()
            server.wait()


async def mailboxes(count: int, folder: Path) -> None:
    """Memory per mailbox: as a row of its roster, then with its entity resident too."""
    settings = config.load(
        environ={"HUAHUO_JWT_SECRET": SECRET},
        flags={"data": folder, "port": 0, "entities_resident": count + 1000, "log_level": "error"},
    )
    app = App(settings, SystemAmbient())
    await app.start()
    try:
        token = tokens.mint(settings, SystemAmbient(), user_id=1, username="u")
        async with Client(app.url, token=token) as client:
            await client.send("get_all_emails")
            before = resident_bytes(os.getpid())
            lines = [f"user{n}@example.com----password-{n}" for n in range(count)]
            for start in range(0, count, 10_000):
                text = "\n".join(lines[start : start + 10_000])
                await client.send("import_emails", data=text, mail_type="imap")
        del lines
        rows = resident_bytes(os.getpid())
        print(f"{count:>8,} mailboxes          {(rows - before) / count:6.0f} B each as rows of one roster")
        limit = asyncio.Semaphore(256)

        async def report(email_id: int) -> None:
            async with limit:
                await app.mail.report_status(email_id, "processing", "")

        loop = asyncio.get_running_loop()
        began_s = loop.time()
        await asyncio.gather(*(report(n) for n in range(1, count + 1)))
        took_s = loop.time() - began_s
        resident = resident_bytes(os.getpid())
        each = (resident - rows) / count
        print(f"{count:>8,} resident entities  {each:6.0f} B each   {resident >> 20} MiB in all")
        print(f"         one durable report to each of them, 256 in flight: {count / took_s:,.0f} commands/s")
    finally:
        await app.stop()


def main() -> None:
    """Both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small numbers, to see that it runs")
    quick = parser.parse_args().quick
    files_max()
    connections(500 if quick else 10_000)
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(mailboxes(2_000 if quick else 100_000, Path(folder)))


if __name__ == "__main__":
    main()
