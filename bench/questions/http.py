"""What do server-sent events cost, compared with `sse-starlette` and our WebSockets; and `Publisher`?

The guess before the first run: an idle reader 8 KiB on our own port, 25 KiB inside uvicorn, 40 KiB with
`sse-starlette`; deliveries as fast as our WebSockets on our own port, half of that inside uvicorn, a fifth
with `sse-starlette`; a `Publisher` 500 durable events a second one by one, and 20,000 in lists of 100.

One process serves, this one reads with plain sockets and counts. What `sse-starlette` is sent is not durable:
its endpoint puts each event into the queues of its readers.
"""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.harness.harness import OURS, Metric, Options, Sheet
from bench.harness.procs import cpu_s, raise_files_max, resident_bytes
from huahuo import Publisher
from huahuo.app import tokens
from huahuo.eventstore.ambient import SystemAmbient

INSIDE, PEER = "inside uvicorn", "sse-starlette"
CASES = (OURS, INSIDE, PEER)
READERS = (
    Metric("idle", "KiB each", higher_is_better=False, compare=True),
    Metric("deliveries", "events/s to all readers", compare=True),
    Metric("cpu", "server µs/delivery", higher_is_better=False),
    Metric("cpu_low", "server µs/delivery, one event every 20 ms", higher_is_better=False),
    Metric("lost", "events", higher_is_better=False),
)
PUBLISHED = (Metric("singly", "durable events/s"), Metric("in_lists", "durable events/s, lists of 100"))
SECRET = "bench-secret-that-is-long-enough-0000"
STREAM = "group/bench"
_FEW = 20
_A_COMMIT = 50
_LOW_EVENTS, _LOW_EVERY_S = 100, 0.02
_MARK = b"\ndata:"
ROOT = Path(__file__).resolve().parents[2]

_ASGI = "from huahuo import Huahuo\napp = Huahuo(data='data', http_calls_per_s=0)\nserved = app.asgi\n"
_PEER = """
import asyncio, json
from sse_starlette.sse import EventSourceResponse
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

queues = set()

async def publish(request):
    for event in await request.json():
        for queue in queues:
            queue.put_nowait({"data": json.dumps(event["fields"])})
    return Response("ok")

async def read(request):
    queue = asyncio.Queue()
    queues.add(queue)
    async def events():
        while True:
            yield await queue.get()
    return EventSourceResponse(events())

served = Starlette(routes=[Route("/publish", publish, methods=["POST"]), Route("/streams/group/bench", read)])
"""


def run(options: Options) -> list[Sheet]:
    """See the module."""
    readers, commits = (60, 4) if options.quick else (500, 10)
    raise_files_max()
    sheet = Sheet(f"{readers:,} readers of one stream, {commits * _A_COMMIT:,} events", READERS)
    publishing = Sheet("Publisher", PUBLISHED)
    for number in range(options.rounds):
        for case in CASES:
            folder = options.folder / f"{case}-{number}"
            folder.mkdir()
            with served(case, folder) as (url, pid):
                figures = asyncio.run(read(url, pid, readers, commits))
                sheet.add(case, **figures)
                if case == OURS:
                    publishing.add(OURS, **published(url, 20 if options.quick else 500))
    return [sheet, publishing]


@contextlib.contextmanager
def served(case: str, folder: Path) -> Iterator[tuple[str, int]]:
    """The server of one case: its address and its process."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    unbounded = ("CONNECTIONS_PER_USER", "CONNECTIONS_PER_IP", "HTTP_CALLS_PER_S", "HTTP_REQUESTS_PER_S")
    env = os.environ | {f"HUAHUO_{name}": "0" for name in unbounded}
    env |= {"HUAHUO_JWT_SECRET": SECRET, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
    env |= {"HUAHUO_LOG_LEVEL": "error"}
    command = [sys.executable, "-m", "huahuo", "serve", "--data", "data", "--port", port]
    if case != OURS:
        (folder / "bench_site.py").write_text(_ASGI if case == INSIDE else _PEER)
        command = [sys.executable, "-m", "uvicorn", "bench_site:served", "--port", port, "--no-access-log"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log)
        try:
            until_s = time.monotonic() + 60
            while not _is_open(int(port)):
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < until_s, "it does not listen"
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port}", process.pid
        finally:
            process.kill()
            process.wait()


def _is_open(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def _token() -> str:
    return tokens.mint(SECRET.encode(), SystemAmbient(), user_id=1, username="bench", admin=True)


class Counter(asyncio.Protocol):
    """One reader: counts events."""

    def __init__(self, head: bytes, counted: Callable[[int], None]) -> None:
        self._head = head
        self._counted = counted
        self._tail = b""
        self.began = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TCP is connected."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._head)

    def data_received(self, data: bytes) -> None:
        """Bytes came; a mark may be cut in two."""
        if not self.began.done():
            assert b" 200 " in data[:20], data[:200]
            self.began.set_result(None)
        whole = self._tail + data
        self._counted(whole.count(_MARK))
        cut = whole.rfind(b"\n")
        self._tail = whole[cut:] if cut >= 0 and len(whole) - cut < len(_MARK) else b""


async def read(url: str, pid: int, readers: int, commits: int) -> dict[str, float]:
    """Memory of idle readers, the rate at which all of them get events, and what a few events cost."""
    loop, port = asyncio.get_running_loop(), int(url.rpartition(":")[2])
    got, expected = 0, readers * commits * _A_COMMIT
    all_came = asyncio.Event()
    listening = False

    def counted(events: int) -> None:
        nonlocal got
        if listening:
            got += events
            if got >= expected:
                all_came.set()

    token = _token()
    head = (
        f"GET /streams/{STREAM} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n"
        f"Authorization: Bearer {token}\r\n\r\n"
    ).encode()
    made: list[Counter] = []

    async def connect(count: int) -> None:
        for _ in range(count):
            _, reader = await loop.create_connection(lambda: Counter(head, counted), "127.0.0.1", port)
            made.append(reader)
            await reader.began
        await asyncio.sleep(1)

    await connect(_FEW)
    before = resident_bytes(pid)
    await connect(readers - _FEW)
    idle = (resident_bytes(pid) - before) / (readers - _FEW) / 1024
    listening = True
    began_s, used_s = loop.time(), cpu_s([pid])
    await asyncio.to_thread(_publish, url, token, commits)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(120):
            await all_came.wait()
    took_s, used_s = loop.time() - began_s, cpu_s([pid]) - used_s
    burst, got, expected = got, 0, readers * _LOW_EVENTS
    all_came.clear()
    low_s = cpu_s([pid])
    await asyncio.to_thread(_publish, url, token, _LOW_EVENTS, 1, _LOW_EVERY_S)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(60):
            await all_came.wait()
    low_s = cpu_s([pid]) - low_s
    for reader in made:
        reader._transport.abort()  # noqa: SLF001  its own
    return {
        "idle": idle,
        "deliveries": burst / took_s,
        "cpu": used_s / max(1, burst) * 1e6,
        "cpu_low": low_s / max(1, got) * 1e6,
        "lost": readers * commits * _A_COMMIT - burst + expected - got,
    }


def _publish(url: str, token: str, commits: int, events_each: int = _A_COMMIT, pause_s: float = 0) -> None:
    for number in range(commits):
        time.sleep(pause_s)
        events = [
            {"stream": STREAM, "type": "tick", "fields": {"n": number * events_each + n, "text": "x" * 100}}
            for n in range(events_each)
        ]
        request = urllib.request.Request(
            f"{url}/publish", json.dumps(events).encode(), {"Authorization": f"Bearer {token}"}
        )
        urllib.request.urlopen(request, timeout=60).read()


def published(url: str, count: int) -> dict[str, float]:
    """What one thread with a Publisher gets through."""
    publisher = Publisher(url, _token())
    began_s = time.monotonic()
    for number in range(count):
        publisher.publish("group/other", "tick", {"n": number})
    singly = count / (time.monotonic() - began_s)
    hundred = [("group/other", "tick", {"n": n}) for n in range(100)]
    began_s = time.monotonic()
    for _ in range(count // 10):
        publisher.publish_many(hundred)
    in_lists = count // 10 * 100 / (time.monotonic() - began_s)
    publisher.close()
    return {"singly": singly, "in_lists": in_lists}
