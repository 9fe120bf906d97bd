"""A client of the API over HTTP, and a reader of server-sent events that shows each field."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

import httpx
import msgspec

from tests.support.patience import WITHIN_S


def client(url: str, token: str | None = None, **options: Any) -> httpx.AsyncClient:
    """A client of the service at `url`, with this token in each request."""
    headers = {**options.pop("headers", {})}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    return httpx.AsyncClient(base_url=url, headers=headers, trust_env=False, timeout=WITHIN_S, **options)


@cache
def _trusted() -> ssl.SSLContext:
    """Made once: reading the certificates takes 20 ms and more."""
    return httpx.create_ssl_context()


def ask(url: str, token: str = "", **options: Any) -> httpx.Response:
    """The answer to a GET, or to a POST where there is something to send (`json` or `content`)."""
    method = "POST" if options.keys() & {"json", "content"} else "GET"
    headers = {**options.pop("headers", {}), **({"Authorization": f"Bearer {token}"} if token else {})}
    return httpx.request(
        method, url, headers=headers, trust_env=False, timeout=WITHIN_S, verify=_trusted(), **options
    )


class Said(msgspec.Struct, frozen=True):
    """One event or place, as the fields of its block have it. `data` None: there is none."""

    event: str = "message"
    id: str | None = None
    retry: int | None = None
    data: Any = None

    @property
    def seq(self) -> int:
        assert self.id is not None
        return int(self.id.rpartition(":")[2])


class Reader:
    """What comes on one answer. `comments` counts heartbeats."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self.comments = 0
        self.seen: list[Said] = []
        self._lines = answer.aiter_lines()

    async def next(self) -> Said | None:
        """The next block that is no comment; None at the end."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(WITHIN_S):
            async for line in self._lines:
                if line.startswith(":"):
                    self.comments += 1
                elif line:
                    name, _, value = line.partition(": ")
                    fields[name] = value
                elif fields:
                    break
            else:
                return None
        retry = fields.get("retry")
        data = fields.get("data")
        said = Said(
            fields.get("event", "message"),
            fields.get("id"),
            None if retry is None else int(retry),
            None if data is None else msgspec.json.decode(data),
        )
        self.seen.append(said)
        return said

    async def until(self, event: str, **fields: Any) -> Said:
        """The next event of this name, with these members in its data."""
        while True:
            said = await self.next()
            assert said is not None, f"the answer ended: {self.seen}"
            if said.event == event and said.data is not None and fields.items() <= said.data.items():
                return said

    async def texts(self, count: int) -> list[str]:
        """The texts of the next events of the stream."""
        return [(await self.until("message")).data["text"] for _ in range(count)]


@asynccontextmanager
async def reader(http: httpx.AsyncClient, stream: str, last: str = "", **query: Any) -> AsyncIterator[Reader]:
    """Read a stream as server-sent events. `last`: the `Last-Event-ID`."""
    headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last} if last else {})
    async with http.stream("GET", f"/streams/{stream}", params=query, headers=headers) as answer:
        yield Reader(answer)
