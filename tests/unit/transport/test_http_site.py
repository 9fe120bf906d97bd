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
from huahuo.transport.wire.site import CACHE_FOR_EVER, CSP, Asset, Phase, Site

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


async def test_healthz_says_that_the_process_is_up_in_every_phase() -> None:
    async with served() as w:
        for phase in Phase:
            w.site.phase = phase
            answer = await w.ask("/healthz")
            assert (answer.status, answer.body) == (200, b"ok\n")


async def test_readyz_is_ready_when_the_log_takes_a_write() -> None:
    async with served() as w:
        syncs = w.disk.syncs
        assert (await w.ask("/readyz")).status == 200
        assert w.disk.syncs > syncs


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


async def test_readyz_of_a_closed_log_is_not_ready() -> None:
    async with served() as w:
        await w.log.close()
        assert (await w.ask("/readyz")).status == 503


async def test_metrics_are_in_prometheus_text() -> None:
    async with served() as w:
        w.metrics.delivered(3, 700)
        answer = await w.ask("/metrics")
        assert answer.status == 200
        assert answer.headers["content-type"].startswith("text/plain; version=")
        assert b"huahuo_events_delivered_total 3.0" in answer.body


@pytest.mark.parametrize("path", ["/", "/?token=x", "/healthz", "/metrics", "/nothing", "/dictionary/7"])
async def test_every_answer_has_the_strict_headers_and_closes(path: str) -> None:
    async with served() as w:
        headers = (await w.ask(path)).headers
        assert headers["content-security-policy"] == CSP
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["connection"] == "close"
        assert headers["date"] == "Mon, 21 Sep 2026 14:13:20 GMT"


def test_the_policy_runs_no_foreign_and_no_inline_script_and_lets_nobody_frame_us() -> None:
    policy = dict(part.split(" ", 1) for part in CSP.split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self' 'wasm-unsafe-eval'"
    assert policy["frame-ancestors"] == "'none'"
    assert "unsafe-inline" not in CSP


async def test_a_file_may_bring_a_policy_of_its_own() -> None:
    async with served() as w:
        assert (await w.ask("/mail-frame")).headers["content-security-policy"] == FRAME_CSP


async def test_a_file_is_served_with_its_type_and_cache_rule() -> None:
    async with served() as w:
        page = await w.ask("/")
        assert (page.status, page.body) == (200, PAGE)
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert page.headers["cache-control"] == "no-cache"
        dictionary = await w.ask("/dictionary/7")
        assert dictionary.body == DICTIONARY
        assert dictionary.headers["cache-control"] == CACHE_FOR_EVER


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


async def test_what_does_not_compress_is_never_sent_compressed() -> None:
    async with served() as w:
        answer = await w.ask("/dictionary/7", Accept_Encoding="gzip")
        assert "content-encoding" not in answer.headers
        assert answer.body == DICTIONARY


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


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "get"])
@pytest.mark.parametrize("path", ["/", "/nothing"])
async def test_any_other_method_is_told_which_are_allowed(method: str, path: str) -> None:
    async with served() as w:
        answer = await w.ask(path, method)
        assert answer.status == 405
        assert answer.headers["allow"] == "GET, HEAD"


async def test_an_upgrade_by_another_method_is_no_upgrade() -> None:
    async with served() as w:
        answer = await w.ask("/ws", "POST", Upgrade="websocket", Connection="Upgrade")
        assert answer.status == 405


@pytest.mark.parametrize(
    "path", ["/nothing", "/../etc/passwd", "/healthz/", "//", "/%2e%2e/", "/client", "*", "x"]
)
async def test_what_is_not_there_is_not_found(path: str) -> None:
    async with served() as w:
        answer = await w.ask(path)
        assert answer.status == 404
        assert path.encode() not in answer.body or path == "x"


async def test_a_path_over_the_bound_is_refused() -> None:
    async with served() as w:
        assert (await w.ask("/" + "x" * 2047)).status == 404
        assert (await w.ask("/" + "x" * 2048)).status == 414


async def test_a_file_added_while_serving_is_served() -> None:
    async with served() as w:
        w.assets["/dictionary/8"] = Asset.of("application/octet-stream", b"new", CACHE_FOR_EVER)
        assert (await w.ask("/dictionary/8")).body == b"new"


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
