"""Answers to plain HTTP, through the real server and a raw socket."""

import asyncio
import errno
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
from structlog.testing import capture_logs
from websockets.asyncio.server import ServerConnection, serve

from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.memory import MemoryLog, ModelDisk
from huahuo.transport.load.metrics import Metrics
from huahuo.transport.wire.site import CACHE_FOR_EVER, Asset, Phase, Site

PAGE = b"<!doctype html><title>huahuo</title>" + b"<p>\xe8\x8a\xb1\xe7\x81\xab</p>" * 50
DICTIONARY = bytes(range(256)) * 4
REQUESTS_PER_S = 5
FRAME_CSP = "default-src 'none'; frame-ancestors 'self'"


class Answer(msgspec.Struct):
    status: int
    headers: dict[str, str]
    body: bytes


class World:
    """A site behind a real server on a free port."""

    def __init__(self, log: MemoryLog, disk: ModelDisk, ambient: FakeAmbient) -> None:
        self.log = log
        self.disk = disk
        self.ambient = ambient
        self.metrics = Metrics()
        self.assets = {
            "/": Asset.of("text/html; charset=utf-8", PAGE),
            "/dictionary/7": Asset.of("application/octet-stream", DICTIONARY, CACHE_FOR_EVER),
            "/mail-frame": Asset.of("text/html; charset=utf-8", b"<p>", csp=FRAME_CSP),
        }
        self.site = Site(log, ambient, self.metrics, self.assets, requests_per_s=REQUESTS_PER_S)
        self.address = "192.0.2.7"
        self.site.phase = Phase.READY
        self.port = 0

    async def ask(self, path: str, method: str = "GET", **headers: str) -> Answer:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        await writer.wait_closed()
        status, *rest = head.decode().split("\r\n")
        pairs = (line.partition(": ") for line in rest)
        return Answer(int(status.split()[1]), {name.lower(): value for name, _, value in pairs}, body)


@asynccontextmanager
async def served() -> AsyncIterator[World]:
    disk, ambient = ModelDisk(), FakeAmbient()
    log = await MemoryLog.open(disk, ambient=ambient, master_key=bytes(32), build="t")
    world = World(log, disk, ambient)

    async def handler(connection: ServerConnection) -> None:
        await connection.wait_closed()

    async def process_request(_: ServerConnection, request: object) -> object:
        return await world.site.respond(request, world.address)  # type: ignore[arg-type]

    async with serve(handler, "127.0.0.1", 0, process_request=process_request) as server:  # type: ignore[arg-type]
        world.port = server.sockets[0].getsockname()[1]
        yield world
    await log.close()


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.DRAINING])
async def test_readyz_is_not_ready_before_the_start_and_in_a_drain(phase: Phase) -> None:
    async with served() as w:
        w.site.phase = phase
        answer = await w.ask("/readyz")
        assert (answer.status, answer.body) == (503, f"{phase.value}\n".encode())


async def test_readyz_says_why_the_log_takes_no_write_and_is_ready_again_after() -> None:
    async with served() as w:
        w.disk.fail_writes.append(errno.ENOSPC)
        with capture_logs():
            answer = await w.ask("/readyz")
        assert answer.status == 503
        assert len(answer.body) > 10
        w.ambient.advance(2)
        assert (await w.ask("/readyz")).status == 200


@pytest.mark.parametrize("accepts", ["gzip", "br, gzip", "br,GZIP;q=0.5"])
async def test_a_client_that_accepts_gzip_gets_the_compressed_file(accepts: str) -> None:
    async with served() as w:
        answer = await w.ask("/", Accept_Encoding=accepts)
        assert answer.headers["content-encoding"] == "gzip"
        assert answer.headers["vary"] == "Accept-Encoding"
        assert gzip.decompress(answer.body) == PAGE
        assert int(answer.headers["content-length"]) == len(answer.body) < len(PAGE)


@pytest.mark.parametrize("accepts", ["", "br", "gzip;q=0", "gzip; q=0.0", "gzippy"])
async def test_a_client_that_does_not_accept_gzip_gets_the_plain_file(accepts: str) -> None:
    async with served() as w:
        answer = await w.ask("/", Accept_Encoding=accepts)
        assert "content-encoding" not in answer.headers
        assert answer.body == PAGE


async def test_a_file_that_is_known_already_is_not_sent_again() -> None:
    async with served() as w:
        etag = (await w.ask("/")).headers["etag"]
        answer = await w.ask("/", If_None_Match=f'"other", {etag}')
        assert (answer.status, answer.body) == (304, b"")
        assert answer.headers["etag"] == etag
        assert "content-length" not in answer.headers
        assert (await w.ask("/", If_None_Match='"other"')).status == 200


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/metrics", "/nothing"])
async def test_head_is_get_without_the_body(path: str) -> None:
    async with served() as w:
        got, head = await w.ask(path), await w.ask(path, "HEAD")
        assert head.body == b""
        assert head.status == got.status
        assert head.headers == got.headers
        assert int(head.headers["content-length"]) == len(got.body)


async def test_a_path_over_the_bound_is_refused() -> None:
    async with served() as w:
        assert (await w.ask("/" + "x" * 2047)).status == 404
        assert (await w.ask("/" + "x" * 2048)).status == 414


def test_compressing_the_same_file_twice_gives_the_same_bytes() -> None:
    assert Asset.of("text/css", PAGE) == Asset.of("text/css", PAGE)


# Too many requests


async def test_an_address_that_asks_too_often_is_told_when_to_come_back() -> None:
    async with served() as w:
        burst = [(await w.ask("/")).status for _ in range(4 * REQUESTS_PER_S)]
        refused = await w.ask("/")
        assert set(burst) == {200}
        assert (refused.status, refused.headers["retry-after"]) == (429, "1")
        assert refused.headers["connection"] == "close"
        assert w.site.limit.refused_count == 1
        w.ambient.advance(1)
        assert [(await w.ask("/")).status for _ in range(REQUESTS_PER_S + 1)] == [200] * REQUESTS_PER_S + [
            429
        ]


async def test_an_address_does_not_use_up_what_another_may_ask() -> None:
    async with served() as w:
        while (await w.ask("/")).status != 429:
            pass
        w.address = "192.0.2.8"
        assert (await w.ask("/")).status == 200


async def test_every_kind_of_request_counts_but_probes_from_the_same_machine() -> None:
    async with served() as w:
        paths = ("/healthz", "/readyz", "/metrics", "/nothing")
        while (await w.ask("/healthz")).status != 429:
            pass
        assert {(await w.ask(path)).status for path in paths} == {429}
        for address in ("127.0.0.1", "::/64"):
            w.address = address
            for _ in range(5 * REQUESTS_PER_S):
                assert (await w.ask("/healthz")).status == 200
            assert (await w.ask("/readyz")).status == 200
            while (await w.ask("/metrics")).status != 429:
                pass
            assert (await w.ask("/healthz")).status == 200
