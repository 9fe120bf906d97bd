"""How long does a list of 100,000 mailboxes take, and how long do others wait meanwhile?

The guess before the first run: 0.6 s in pages of 2,000, most of it JSON on both sides; the whole state
in parts the same; sorted by address 0.2 s more, once; no other user waits longer than 30 ms for it.

One user's mailboxes are listed by pages, by pages in another order, in parts, and after a reset, over the
real client. Another user, in a process of its own, asks for an empty list all the time: `others` is the
longest wait for it. Memory is the most by which the server's process grew, without the mailboxes.
"""

import asyncio
import os
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from bench.harness.answers import answer
from bench.harness.harness import OURS, Metric, Options, Sheet
from bench.harness.procs import Child, peak_bytes, resident_bytes
from huahuo.app import tokens
from huahuo.app.plugins import standard
from huahuo.app.table import Table
from huahuo.app.wiring import App
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.transport.client.client import Client
from huahuo.transport.client.model import Cursor, Event

SECRET = "bench-secret-that-is-long-enough-0000"
LIMIT = 2_000
METRICS = (
    Metric("took", "s", higher_is_better=False),
    Metric("cpu", "server s", higher_is_better=False),
    Metric("others", "ms, the longest wait of another user", higher_is_better=False),
    Metric("memory", "MiB that the server grew by", higher_is_better=False),
    Metric("lost", higher_is_better=False),
    Metric("doubled", higher_is_better=False),
)


def run(options: Options) -> list[Sheet]:
    """See the module."""
    count = 1_000 if options.quick else 100_000
    sheet = Sheet(f"{count:,} mailboxes listed", METRICS)
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            command = [sys.executable, "-m", "bench.questions.lists", "serve", folder]
            with Child(command, start_timeout_s=60) as server:
                asyncio.run(_fill(server.hello, count))
            # A new process: what it has resident is what it needs, not what imports left free.
            with Child(command, start_timeout_s=60) as server:
                asyncio.run(_measure(sheet, server, count))
    return [sheet]


async def _fill(hello: dict[str, Any], count: int) -> None:
    async with Client(hello["url"], token=hello["owner"], client="bench") as client:
        lines = [f"user{n * 7919 % count}@example.com----password-{n}" for n in range(count)]
        for start in range(0, count, 10_000):
            text = "\n".join(lines[start : start + 10_000])
            await client.send("import_emails", data=text, mail_type="imap")


async def _measure(sheet: Sheet, server: Child, count: int) -> None:
    hello: dict[str, Any] = server.hello
    loop = asyncio.get_running_loop()
    async with Client(hello["url"], token=hello["owner"], client="bench") as client:
        await client.send("get_all_emails", limit=1, sort="status")  # the roster is loaded

        async def by_pages(sort: str) -> list[int]:
            pages = client.pages("get_all_emails", limit=LIMIT, sort=sort)
            return [row["id"] async for page in pages for row in page["data"]]

        async def in_parts() -> list[int]:
            return [row["id"] for row in (await client.send("get_all_emails"))["data"]]

        async def after_reset() -> list[int]:
            with_cursor = _Cursors({f"user/{hello['user']}": Cursor("another-log", 7)})
            async with (
                Client(hello["url"], token=hello["owner"], client="back", cursors=with_cursor) as back,
                back.events(f"user/{hello['user']}") as events,
            ):
                event: Event = await anext(events)
                return [row["id"] for row in event.data["state"]["emails"]]

        ways: dict[str, Callable[[], Awaitable[list[int]]]] = {
            "by pages": lambda: by_pages("id"),
            "by pages, by address": lambda: by_pages("email"),
            "in parts": in_parts,
            "a snapshot after a reset": after_reset,
        }
        for case, way in ways.items():
            _forget_peak(server.pid)
            before = resident_bytes(server.pid)
            with Child(
                [sys.executable, "-m", "bench.questions.lists", "wait", hello["url"], hello["other"]]
            ) as other:
                cpu_s, began_s = _cpu_s(server.pid), loop.time()
                ids = await way()
                took_s, cpu_s = loop.time() - began_s, _cpu_s(server.pid) - cpu_s
                other.send(cmd="stop")
                longest_s = other.receive(10)["longest_s"]
            sheet.add(
                f"{OURS}: {case}",
                took=took_s,
                cpu=cpu_s,
                others=longest_s * 1e3,
                memory=max(0, peak_bytes(server.pid) - before) / (1 << 20),
                lost=count - len(set(ids)),
                doubled=len(ids) - len(set(ids)),
            )


class _Cursors:
    """Where a client stood that comes back from another log."""

    def __init__(self, cursors: dict[str, Cursor]) -> None:
        self._cursors = cursors

    def load(self) -> dict[str, Cursor]:
        return self._cursors

    def save(self, cursors: Mapping[str, Cursor]) -> None:
        self._cursors.update(cursors)


def _forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _serve(folder: Path) -> None:
    settings = Table(standard()).load(
        environ={"HUAHUO_JWT_SECRET": SECRET}, flags={"data": folder, "port": 0, "log_level": "error"}
    )
    app = App(settings, SystemAmbient(), plugins=standard())
    await app.start()
    tokens_of = {
        name: tokens.mint(SECRET.encode(), SystemAmbient(), user_id=number, username=name)
        for name, number in (("owner", 1), ("other", 2))
    }
    answer({"url": app.url, "user": 1} | tokens_of)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await app.stop()


async def _wait(url: str, token: str) -> None:
    loop = asyncio.get_running_loop()
    async with Client(url, token=token) as client:
        await client.send("get_all_emails")
        stop = loop.run_in_executor(None, sys.stdin.readline)
        answer({})
        longest_s = 0.0
        while not stop.done():
            began_s = loop.time()
            await client.send("get_all_emails")
            longest_s = max(longest_s, loop.time() - began_s)
            await asyncio.sleep(0.02)
    answer({"longest_s": longest_s})


def main() -> None:
    """The children."""
    if sys.argv[1] == "serve":
        asyncio.run(_serve(Path(sys.argv[2])))
    else:
        asyncio.run(_wait(sys.argv[2], sys.argv[3]))


if __name__ == "__main__":
    main()
