"""What does one idle connection, and one mailbox, cost in memory?

The guess before the first run: 20 KiB a connection (14 KiB of it `websockets`), 1.5 KiB a mailbox: 400 B for
its row in the roster and 1 KiB for its resident entity; Socket.IO a little more a connection.

Memory is the resident set of the server's process, before and after, divided. The client ends are in
another process. A passivated mailbox is its row in its roster, a resident one has its entity besides.
"""

import asyncio
import os
import sys
import time
from dataclasses import replace
from itertools import batched
from pathlib import Path

from bench import peers
from bench.processes import Child, answer, raise_files_max, resident_bytes
from bench.receivers import Receivers
from bench.rounds import compare
from bench.sheets import OURS, Metric, Options, Sheet, interleaved
from huahuo import Huahuo
from huahuo.app import logs
from huahuo.app.application import with_mail
from huahuo.transport.client.client import Client

PEERS = (OURS, "socket.io", "ws")
CONNECTIONS = (
    Metric("each", "KiB", higher_is_better=False, compare=True),
    Metric("in_all", "MiB", higher_is_better=False),
    Metric("connects", "1/s"),
    Metric("cpu", "server µs/connection", higher_is_better=False),
)
MAILBOXES = (
    Metric("passivated", "bytes each", higher_is_better=False),
    Metric("resident", "bytes each besides", higher_is_better=False),
    Metric("in_all", "MiB", higher_is_better=False),
    Metric("imports", "mailboxes/s"),
    Metric("reports", "durable commands/s, each to another mailbox"),
)
_FEW = 50


def run(options: Options) -> list[Sheet]:
    """See the module."""
    count = 200 if options.quick else 10_000
    idle = Sheet(f"{count:,} idle connections", CONNECTIONS)
    compare(idle, PEERS, options, lambda case, folder: connections(case, idle, count, folder, options))
    many = 500 if options.quick else 100_000
    boxes = Sheet(f"{many:,} mailboxes of one user", MAILBOXES)

    def held(case: str, folder: Path) -> None:
        command = [sys.executable, "-m", "bench.questions.footprint", str(many), str(folder)]
        with Child(command, start_timeout_s=600) as child:
            boxes.add(case, **child.hello)

    interleaved([OURS], options, held, [boxes])
    return [idle, boxes]


def connections(case: str, sheet: Sheet, count: int, folder: Path, options: Options) -> None:
    """One round of one server: memory between few and many connections."""
    peer = peers.ALL[case]()
    with peer.start(folder) as running:
        script = peer.feeds(running, count)
        few = replace(script, clients=script.clients[:_FEW])
        rest = replace(script, clients=script.clients[_FEW:])
        with Receivers(few, folder, options.receiver) as first:
            first.ready()
            before, cpu_s = resident_bytes(running.pids[0]), running.cpu_s()
            with Receivers(rest, folder, options.receiver) as others:
                began_s = time.monotonic()
                others.ready(120)
                took_s, cpu_s = time.monotonic() - began_s, running.cpu_s() - cpu_s
                after = resident_bytes(running.pids[0])
    sheet.add(
        case,
        each=(after - before) / others.size / 1024,
        in_all=after / (1 << 20),
        connects=others.size / took_s,
        cpu=cpu_s / others.size * 1e6,
    )


async def mailboxes(count: int, folder: Path) -> dict[str, float]:
    """Memory per mailbox: as a row of its roster, then with its entity resident too."""
    loop = asyncio.get_running_loop()
    app = Huahuo(plugins=with_mail(), data=folder, port=0, entities_resident=count + 1000, log_level="error")
    async with app:
        async with Client(app.url, token=app.token(1)) as client:
            await client.send("get_all_emails")
            before, began_s = resident_bytes(os.getpid()), loop.time()
            lines = [f"user{n}@example.com----password-{n}" for n in range(count)]
            for some in batched(lines, 10_000):
                await client.send("import_emails", data="\n".join(some), mail_type="imap")
            import_s = loop.time() - began_s
        del lines, some
        rows = resident_bytes(os.getpid())
        limit = asyncio.Semaphore(256)

        async def report(email_id: int) -> None:
            async with limit:
                await app.running.api("mail").report_status(email_id, "processing", "")

        began_s = loop.time()
        await asyncio.gather(*(report(n) for n in range(1, count + 1)))
        took_s = loop.time() - began_s
        resident = resident_bytes(os.getpid())
    return {
        "passivated": (rows - before) / count,
        "resident": (resident - rows) / count,
        "in_all": resident / (1 << 20),
        "imports": count / import_s,
        "reports": count / took_s,
    }


def main() -> None:
    """The child that holds the mailboxes: its figures as a line of JSON."""
    raise_files_max()
    logs.configure("error", as_json=False)
    answer(asyncio.run(mailboxes(int(sys.argv[1]), Path(sys.argv[2]))))


if __name__ == "__main__":
    main()
