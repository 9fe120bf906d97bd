"""How fast does a command come back, from the socket to the disk and back, and how many at once?

Guess before the first run: one at a time within 2× of a bare SQLite commit of the same size on the same
disk; with 256 in flight some 6,000 a second, bound by Python, not by the disk.

    python -m bench.commands [--quick]

`publish` through the real service over a loopback WebSocket; the bare commit is one INSERT with
`synchronous=FULL` in WAL mode, in turns with the commands in the same run.
"""

import argparse
import asyncio
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from eventstore.ambient import SystemAmbient
from huahuo import config, tokens
from transport.client import Client

SECRET = "bench-secret-that-is-long-enough-0000"
BODY = "x" * 200


def bare_commit(connection: sqlite3.Connection) -> float:
    """Seconds of one durable INSERT."""
    began_s = time.perf_counter()
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO event (body) VALUES (?)", (BODY.encode(),))
    connection.execute("COMMIT")
    return time.perf_counter() - began_s


async def measure(url: str, token: str, folder: Path, rounds: int, in_flight: int, total: int) -> None:
    """Print both figures."""
    database = sqlite3.connect(folder / "bare.db", isolation_level=None)
    for pragma in ("page_size=8192", "journal_mode=WAL", "synchronous=FULL"):
        database.execute(f"PRAGMA {pragma}")
    database.execute("CREATE TABLE event (position INTEGER PRIMARY KEY, body BLOB) STRICT")
    bare, commands = [], []
    async with Client(url, token=token, messages_per_s=0) as client:
        await client.send("publish", stream="group/bench", type="tick", body=BODY)
        for _ in range(rounds):
            bare.append(bare_commit(database))
            began_s = time.perf_counter()
            await client.send("publish", stream="group/bench", type="tick", body=BODY)
            commands.append(time.perf_counter() - began_s)
        limit = asyncio.Semaphore(in_flight)

        async def one() -> None:
            async with limit:
                await client.send("publish", stream="group/bench", type="tick", body=BODY)

        began_s = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(total)))
        took_s = time.perf_counter() - began_s
    database.close()
    b, c = statistics.median(bare) * 1000, statistics.median(commands) * 1000
    print(f"bare commit, p50           {b:7.2f} ms")
    print(f"one command, p50           {c:7.2f} ms   {c / b:.1f}x a bare commit (goal: within 3x)")
    print(f"commands, {in_flight} in flight   {total / took_s:7,.0f} /s over one connection, each durable")


def main() -> None:
    """Run the service as a child and measure it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few rounds, to see that it runs")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environ = os.environ | {"HUAHUO_JWT_SECRET": SECRET, "HUAHUO_MESSAGES_PER_S": "0"}
        server = subprocess.Popen(
            [sys.executable, "-m", "huahuo", "serve", "--data", str(folder / "data"), "--port", "0"],
            stdout=subprocess.PIPE,
            text=True,
            env=environ,
        )
        try:
            assert server.stdout
            url = server.stdout.readline().split()[-1]
            settings = config.load(environ={"HUAHUO_JWT_SECRET": SECRET}, flags={"data": folder / "data"})
            token = tokens.mint(settings, SystemAmbient(), user_id=1, username="u", admin=True)
            rounds, total = (30, 300) if quick else (500, 10_000)
            asyncio.run(measure(url, token, folder, rounds, 256, total))
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
