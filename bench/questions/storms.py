"""How long do others wait while users send the most expensive requests, and is the memory given back?

The guess before the first run: one user that asks for lists or snapshots of 20,000 mailboxes on 30
connections delays others a hundredfold and more at the median, because every answer is made on the loop;
imports and deletes by whole commits (50 ms); everything else by less than 8 times. A hundred users with
200 mailboxes each are milder than one with 20,000: their answers are small. Memory comes back after storms
that are read, and does not after those that are not.

In the storm `mixed` each connection asks for something else, over WebSocket and over plain HTTP.

`huahuo serve` with default limits over a log on the disk. Each case is a process of its own over a copy of
the same directory: two bystanders publish and read 50 events a second, first alone (calm), then while the
users storm. Memory is measured before, during, and a minute after.
"""

import asyncio
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench import peers
from bench.processes import (
    Child,
    Server,
    answer,
    await_end,
    children,
    free_port,
    memory_cgroup,
    resident_bytes,
)
from bench.questions.bystanders import Bystanders, Measured
from bench.questions.storm_driver import MAIL_HOSTS, MIXED, Storm
from bench.questions.storm_requests import ADMIN_ONLY, HTTP_ADMIN_ONLY, HTTP_REQUESTS, REQUESTS
from bench.sheets import Metric, Options, Sheet, quantile
from huahuo import Huahuo
from huahuo.app.application import with_mail
from huahuo.app.config import PREFIX
from huahuo.transport.client.client import Client

VARIANTS = ("reading", "not reading", "leaving")
PER_S = 50.0
_MAKE_TIMEOUT_S = 600.0
_SAMPLE_S = 0.02
_UNDER_WAY = 60
"""Commands of the setup: what a connection may have outstanding, less a few."""
_PUBLISHER, _READER = 900_001, 900_002
_MIB = 1 << 20
METRICS = (
    Metric("calm", "ms, publish to receive p50", higher_is_better=False),
    Metric("calm_p99", "ms", higher_is_better=False),
    Metric("p50", "ms", higher_is_better=False),
    Metric("times", "calm", higher_is_better=False),
    Metric("p99", "ms", higher_is_better=False),
    Metric("max", "ms", higher_is_better=False),
    Metric("before", "MiB", higher_is_better=False),
    Metric("top", "MiB", higher_is_better=False),
    Metric("after", "MiB", higher_is_better=False),
    Metric("disk", "MiB on the disk that the storm added", higher_is_better=False),
    Metric("asked", "1/s"),
    Metric("answered", "1/s"),
    Metric("refused", "1/s", higher_is_better=False),
    Metric("cut_off", "connections", higher_is_better=False),
    Metric("lost", "of the bystanders' events", higher_is_better=False),
)


def run(options: Options) -> list[Sheet]:
    """See the module."""
    quick = options.quick
    options = replace(
        options,
        connections=options.connections or (2 if quick else 30,),
        mailboxes=options.mailboxes or (60 if quick else 20_000),
        seconds=options.seconds or (0.3 if quick else 8.0),
        after_s=min(options.after_s, 0.1) if quick else options.after_s,
    )
    connections = options.connections[0]
    sheets = []
    for shift, users in enumerate(options.users or ((1, 3) if quick else (1, 100))):
        title = f"{users} user{'s' if users > 1 else ''} with {connections} connections each, "
        sheet = Sheet(f"{title}{options.mailboxes:,} mailboxes in all, {options.seconds:g} s", METRICS)
        with memory_cgroup(1 << 50) as cgroup:
            how = "in a cgroup" if cgroup else "said by a setting alone, since no cgroup can be made"
        sheet.note(f"{options.memory_mib or 'all'} MiB of memory, {how}; workers: {options.workers}")
        sheet.note("one round; times: by how much the bystanders' p50 grew")
        with TemporaryDirectory(dir=options.folder) as folder:
            scene = Scene.make(Path(folder), users, options)
            for request, variant in _cases(options, shift):
                case = f"{request}, {variant}"
                print(f"   {users} users: {case}{' ' * 20}", end="\r", file=sys.stderr, flush=True)
                try:
                    scene.play(sheet, request, variant)
                except (TimeoutError, OSError, AssertionError) as error:
                    sheet.miss(case, f"{type(error).__name__}: {error}")
        sheets.append(sheet)
    return sheets


def _cases(options: Options, shift: int) -> Iterator[tuple[str, str]]:
    """Every request in every variant; the short form takes one variant of each, in turns."""
    requests = options.requests or (*REQUESTS, *HTTP_REQUESTS, MIXED)
    if options.quick and not options.variants:
        yield from ((request, VARIANTS[n % len(VARIANTS)]) for n, request in enumerate(requests, shift))
    else:
        yield from product(requests, options.variants or VARIANTS)


@dataclass(frozen=True)
class Scene:
    """A directory with users and their mailboxes, of which each case gets a copy."""

    folder: Path
    first_ids: list[int]
    options: Options
    mail_port: int

    @classmethod
    def make(cls, folder: Path, users: int, options: Options) -> "Scene":
        """Fill a directory through the service's own commands, in a process of its own."""
        mail_port = free_port()
        each = max(1, options.mailboxes // users)
        given = map(str, (folder / "made", users, each, mail_port))
        command = [sys.executable, "-m", "bench.questions.storms", *given]
        with Child(command, environ=peers.ENVIRON, start_timeout_s=_MAKE_TIMEOUT_S) as child:
            return cls(folder, child.hello["first_ids"], options, mail_port)

    def play(self, sheet: Sheet, request: str, variant: str) -> None:
        """One storm against a service of its own."""
        options, port = self.options, free_port()
        data = self.folder / "data"
        shutil.copytree(self.folder / "made", data)
        serve = [sys.executable, "-m", "huahuo", "serve", "--data", str(data), "--port", str(port)]
        driver = [sys.executable, "-m", "bench.questions.storm_driver", str(self.mail_port)]
        try:
            with memory_cgroup((options.memory_mib << 20) or 1 << 50) as cgroup, Child(driver) as child:
                server = Server(serve, port, environ=_environ(options), cgroup=cgroup)
                try:
                    case = Case(server.pid, port, data, child, options)
                    figures = asyncio.run(case.run(request, variant, self._users(request)))
                finally:
                    workers = children(server.pid)
                    server.stop()
                    await_end(workers)
        finally:
            shutil.rmtree(data)
        sheet.add(f"{request}, {variant}", **figures)

    def _users(self, request: str) -> list[dict[str, Any]]:
        each = max(1, self.options.mailboxes // len(self.first_ids))
        peer = peers.Huahuo()
        return [
            {
                "user": user,
                "first_id": first_id,
                "mailboxes": each,
                "token": peer.token(user, admin=request in ADMIN_ONLY | HTTP_ADMIN_ONLY),
                "address": f"127.0.3.{user}",
            }
            for user, first_id in enumerate(self.first_ids, start=1)
        ]


@dataclass(frozen=True)
class Case:
    """A running service, and the process that is about to storm."""

    pid: int
    port: int
    data: Path
    child: Child
    options: Options

    async def run(self, request: str, variant: str, users: list[dict[str, Any]]) -> dict[str, float]:
        """Its figures."""
        options, peer = self.options, peers.Huahuo()
        seconds, calm_s = options.seconds, 0.2 if options.quick else 4.0
        storm = Storm(self.port, request, variant, seconds)
        publisher = peer.token(_PUBLISHER, admin=True)
        reader = peer.token(_READER, groups=("bystanders",))
        async with Bystanders(self.port, publisher, reader) as bystanders:
            await bystanders.measure(PER_S, calm_s / 4)  # what is needed only once is made
            calm = await bystanders.measure(PER_S, calm_s)
            before = top = self._resident()
            disk = _size(self.data)
            ask = partial(asyncio.to_thread, self.child.ask, seconds + _MAKE_TIMEOUT_S)
            connections = options.connections[0]
            await ask(storm=asdict(storm), users=users, connections=connections, log=bystanders.log)
            told = asyncio.create_task(ask(go=True))
            measuring = asyncio.create_task(bystanders.measure(PER_S, seconds))
            while not (told.done() and measuring.done()):
                await asyncio.sleep(_SAMPLE_S)
                top = max(top, self._resident())
            counts, measured = await told, await measuring
            loop = asyncio.get_running_loop()
            until_s = loop.time() + options.after_s
            while loop.time() < until_s:
                await asyncio.sleep(_SAMPLE_S)
                top = max(top, self._resident())
            after = self._resident()
        return self._figures(calm, measured, counts) | {
            "before": before / _MIB,
            "top": top / _MIB,
            "after": after / _MIB,
            "disk": (_size(self.data) - disk) / _MIB,
        }

    def _resident(self) -> int:
        """Of the service and its workers."""
        return sum(map(resident_bytes, (self.pid, *children(self.pid))))

    def _figures(self, calm: Measured, measured: Measured, counts: dict[str, float]) -> dict[str, float]:
        assert measured.receipts, "no event of the bystanders arrived"
        assert counts.get("asked"), "nobody stormed"
        seconds = self.options.seconds
        calm_ms, p50_ms = quantile(calm.receipts, 0.5), quantile(measured.receipts, 0.5)
        return {
            "calm": calm_ms,
            "calm_p99": quantile(calm.receipts, 0.99),
            "p50": p50_ms,
            "times": p50_ms / calm_ms,
            "p99": quantile(measured.receipts, 0.99),
            "max": max(measured.receipts),
            "asked": counts.get("asked", 0) / seconds,
            "answered": counts.get("answered", 0) / seconds,
            "refused": counts.get("refused", 0) / seconds,
            "cut_off": counts.get("sent_away", 0) + counts.get("refused_connections", 0),
            "lost": measured.lost,
        }


def _size(data: Path) -> int:
    return sum(file.stat().st_size for file in data.rglob("*") if file.is_file())


def _environ(options: Options) -> dict[str, str]:
    """Default limits whatever the environment says; checks may reach the mail server of the driver."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(PREFIX)},
        **peers.ENVIRON,
        "HUAHUO_MAIL_ALLOW_PRIVATE": "1",
        "HUAHUO_LOG_LEVEL": "error",
        "HUAHUO_WORKERS": str(options.workers),
        "HUAHUO_MEMORY_BYTES_MAX": str(options.memory_mib << 20),
    }


async def make(data: Path, users: int, each: int, mail_port: int) -> list[int]:
    """Add the mailboxes; the first id of each user's, which follow each other."""
    app = Huahuo(
        plugins=with_mail(), data=data, port=0, messages_per_s=0, mail_allow_private=True, log_level="error"
    )
    first_ids = []
    async with app:
        for user in range(1, users + 1):
            async with Client(app.url, token=app.token(user), messages_per_s=0) as client:
                ids = sorted(await _add(client, user, each, mail_port))
            assert ids[-1] - ids[0] == each - 1, "the ids of a user follow each other"
            first_ids.append(ids[0])
    return first_ids


async def _add(client: Client, user: int, count: int, mail_port: int) -> list[int]:
    limit = asyncio.Semaphore(_UNDER_WAY)

    async def one(number: int) -> int:
        async with limit:
            reply = await client.send(
                "add_email",
                email=f"user{number}@u{user}.example.com",
                password="password",
                mail_type="imap",
                server=MAIL_HOSTS[number % len(MAIL_HOSTS)],
                port=mail_port,
                use_ssl=False,
            )
        found: int = reply["email_id"]
        return found

    return await asyncio.gather(*(one(number) for number in range(count)))


def main() -> None:
    """The child that fills a directory."""
    data, users, each, mail_port = Path(sys.argv[1]), *(int(text) for text in sys.argv[2:5])
    first_ids = asyncio.run(make(data, users, each, mail_port))
    answer({"first_ids": first_ids})


if __name__ == "__main__":
    main()
