"""What the site answers: health, metrics, files, and how often an address may ask."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.memory import MemoryLog, ModelDisk
from huahuo.transport.http.messages import Answer, Request
from huahuo.transport.http.site import CACHE_FOR_EVER, Asset, Phase, Site
from huahuo.transport.load.metrics import Metrics

PAGE = b"<!doctype html><title>huahuo</title>" + b"<p>\xe8\x8a\xb1\xe7\x81\xab</p>" * 50
DICTIONARY = bytes(range(256)) * 4
REQUESTS_PER_S = 5
FRAME_CSP = "default-src 'none'; frame-ancestors 'self'"


class World:
    """A site, and the address that asks."""

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

    async def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
        raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        answer: Answer = await self.site.respond(Request.of(method, path, raw, ""), self.address)
        assert answer.ends
        return answer.status.value, {name.lower(): value for name, value in answer.headers}, answer.body


@asynccontextmanager
async def served() -> AsyncIterator[World]:
    disk, ambient = ModelDisk(), FakeAmbient()
    log = await MemoryLog.open(disk, ambient=ambient, master_key=bytes(32), build="t")
    yield World(log, disk, ambient)
    await log.close()


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.DRAINING])
async def test_readyz_is_not_ready_before_the_start_and_in_a_drain(phase: Phase) -> None:
    async with served() as w:
        w.site.phase = phase
        assert (await w.ask("/readyz"))[::2] == (503, f"{phase.value}\n".encode())


async def test_a_file_that_is_known_already_is_not_sent_again() -> None:
    async with served() as w:
        etag = (await w.ask("/"))[1]["etag"]
        status, headers, body = await w.ask("/", If_None_Match=f'"other", {etag}')
        assert (status, body, headers["etag"]) == (304, b"", etag)
        assert (await w.ask("/", If_None_Match='"other"'))[0] == 200


async def test_an_address_that_asks_too_often_is_told_when_to_come_back() -> None:
    async with served() as w:
        assert {(await w.ask("/"))[0] for _ in range(4 * REQUESTS_PER_S)} == {200}
        status, headers, _ = await w.ask("/")
        assert (status, headers["retry-after"], w.site.limit.refused_count) == (429, "1", 1)
        w.ambient.advance(1)
        later = [(await w.ask("/"))[0] for _ in range(REQUESTS_PER_S + 1)]
        assert later == [200] * REQUESTS_PER_S + [429]
        w.address = "192.0.2.8"
        assert (await w.ask("/"))[0] == 200, "another one's requests do not count"
