"""A reader of server-sent events without a library, over HTTP/1.1 as it speaks it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from random import Random
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import msgspec

from tests.support.checkers.history import Applied, Door, Follower, History
from tests.support.simulator.device import Habits, Kept, digest_of, nonce_of
from tests.support.simulator.node import HOST, PORT, Node


class Broken(Exception):  # noqa: N818  the way to the server, or what came by it
    """The answer ended where it may not end."""


class Answer(NamedTuple):
    """The head of an answer; `parts` gives its body as it comes."""

    status: int
    headers: Mapping[str, str]
    parts: AsyncIterator[bytes]


@contextlib.asynccontextmanager
async def asked(target: str, headers: Mapping[str, str], *, within_s: float) -> AsyncIterator[Answer]:
    """Send a GET. Raises OSError, TimeoutError or Broken; so do the parts of the body."""
    async with asyncio.timeout(within_s):
        reader, writer = await asyncio.open_connection(HOST, PORT)
    if writer.is_closing():  # it was reset before anything was asked, and simloop raises for such a write
        raise Broken("the connection was reset")
    try:
        lines = [f"GET {target} HTTP/1.1", f"Host: {HOST}:{PORT}", *(f"{k}: {v}" for k, v in headers.items())]
        writer.write("".join(f"{line}\r\n" for line in (*lines, "")).encode())
        async with asyncio.timeout(within_s):
            status, found = await _head(reader)
        yield Answer(status, found, _body(reader, found))
    finally:
        writer.transport.abort()


async def _head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        raise Broken("no head came") from None
    first, *rest = raw.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in rest if line)
    return int(first.split(" ")[1]), {name.lower(): value.strip() for name, _, value in pairs}


async def _body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> AsyncIterator[bytes]:
    try:
        if headers.get("transfer-encoding", "").lower() != "chunked":
            yield await reader.readexactly(int(headers.get("content-length", "0")))
            return
        while size := int(await reader.readuntil(b"\r\n"), 16):
            yield await reader.readexactly(size)
            await reader.readexactly(2)
    except (asyncio.IncompleteReadError, ValueError):
        raise Broken("the answer was cut off") from None


ANSWER_S: Final = 10.0
WAIT_S: Final = 6
"""How long a page waits for the next event."""
LATE_S: Final = 6.0
"""A connection of which a comment is this late counts as dead."""
TOKEN_S: Final = 10_000_000.0
_OK: Final = 200


class BareReader:
    """See the module. `over_pages`: it asks for pages that wait, and for no server-sent events."""

    def __init__(
        self, node: Node, history: History, number: int, user: int, stream: str, *, over_pages: bool
    ) -> None:
        self.node, self.user, self.stream, self.over_pages = node, user, stream, over_pages
        self.name = f"reader-{number}"
        self.kept, self.habits = Kept(), Habits()
        self.chance = Random(f"{self.name} {node.loop.seed}")
        self.online = False
        self._history = history
        self._host = node.loop.net.host(self.name)
        self._follower = self.kept.followers[stream] = Follower(self.name, user, stream)
        history.followers.append(self._follower)
        self._log, self._seq = "", 0
        self._visits, self._minted_s = 0, 0.0
        self._door: Door | None = None

    def switch_on(self) -> None:
        """Begin a life."""
        self._host.create_task(self._live())

    def restart(self) -> None:
        """Lose everything but its place, without a word to the service."""
        self.online = False
        self.node.loop.crash(self.name)
        self._host.restart()
        self.switch_on()

    def cut(self) -> None:
        """Reset its connection."""
        streams = self.node.loop.net._streams  # noqa: SLF001  as the network does
        for key in sorted(key for key in streams if key[1] == self.name):
            streams[key].abort()

    def revoked(self, began_s: float) -> None:
        """Tokens that were made until `began_s` are worth nothing from now on."""
        if self._door is not None and self._minted_s <= began_s:
            self._door.until_s = min(self._door.until_s, self.node.loop.time())

    async def _live(self) -> None:
        read = self._page if self.over_pages else self._events
        while True:
            with contextlib.suppress(OSError, TimeoutError, Broken):
                await read()
            self.online = self.over_pages and self.online
            await asyncio.sleep(self.chance.uniform(0.2, 2.0))

    def _headers(self, **more: str) -> dict[str, str]:
        """Each request is a connection of its own, with a token of its own."""
        self._visits += 1
        self._minted_s = self.node.loop.time()
        self._door = Door(self.name, self._minted_s + TOKEN_S)
        self._history.doors.append(self._door)
        jti = f"{self.name}-{self._visits}"
        token = self.node.token(self.user, admin=False, groups=(), ttl_s=TOKEN_S, jti=jti)
        return {"Authorization": f"Bearer {token}", **more}

    # -- server-sent events

    async def _events(self) -> None:
        place = {"Last-Event-ID": f"{self._log}:{self._seq}"} if self._log else {}
        target = f"/streams/{quote(self.stream)}?after=start"
        headers = self._headers(Accept="text/event-stream", **place)
        async with asked(target, headers, within_s=ANSWER_S) as answer:
            if answer.status != _OK:
                return
            self._came_back()
            silence_s = float(answer.headers["huahuo-heartbeat"]) + LATE_S
            async for fields in _messages(answer.parts, silence_s):
                self._said(fields)

    def _said(self, fields: dict[str, str]) -> None:
        """One message of the answer. Raises Broken: it was the last one."""
        name, log, seq = fields.get("event", ""), *_place(fields.get("id", ""))
        body = msgspec.json.decode(fields["data"]) if "data" in fields else {}
        match name:
            case "" if body:
                self._apply(body, log)
                if seq != body["seq"]:
                    raise AssertionError(f"the id of event {body['seq']} is {fields.get('id')}")
            case "reset" | "gap" | "snapshot":
                self._moved(log, body["seq"], name)
            case "skipped":
                self._moved(self._log, body["to"], name)
            case "goaway" | "unsubscribed":
                raise Broken(name)

    # -- pages that wait

    async def _page(self) -> None:
        after = f"{self._log}:{self._seq}" if self._log else "start"
        target = f"/streams/{quote(self.stream)}?after={quote(after, safe=':')}&wait={WAIT_S}&limit=50"
        async with asked(target, self._headers(), within_s=ANSWER_S + WAIT_S) as answer:
            async with asyncio.timeout(ANSWER_S + WAIT_S):
                raw = b"".join([part async for part in answer.parts])
            if answer.status != _OK:
                return
        self._came_back()
        page = msgspec.json.decode(raw)
        if (snapshot := page.get("snapshot")) is not None:
            self._moved(page["log"], snapshot["seq"], page["outcome"])
        for span in page.get("skipped", ()):
            self._moved(page["log"], span["to"], "skipped")
        for event in page["events"]:
            self._apply(event, page["log"])
        self._log, self._seq = page["log"], page["next"]
        self.node.marks.sometimes("long poll answered by an event", page["events"])

    # -- what came

    def _came_back(self) -> None:
        resumes = bool(self._log)
        self._history.counts["reconnect"] += resumes and not self.online
        self.node.marks.sometimes("resumed by Last-Event-ID", resumes and not self.over_pages)
        self.online = True
        if resumes:
            self._follower.applied.append(Applied(self.stream, self._seq, "place"))

    def _moved(self, log: str, seq: int, kind: str) -> None:
        self._follower.applied.append(Applied(self.stream, seq, "snapshot" if kind == "gap" else kind))
        self._log, self._seq = log, seq

    def _apply(self, event: dict[str, Any], log: str) -> None:
        data = {name: value for name, value in event.items() if name not in {"stream", "seq"}}
        digest, seq, way = digest_of(data), event["seq"], "page" if self.over_pages else "sse"
        nonce, at_s = nonce_of(data, digest), self.node.loop.time()
        self._follower.applied.append(
            Applied(event["stream"], seq, "event", data["type"], nonce, at_s, log, digest, way)
        )
        self._log, self._seq = log, seq
        self._history.counts["delivery"] += 1
        assert self._door is not None, "it asked"
        self._door.got.append((event["stream"], seq))


def _place(text: str) -> tuple[str, int]:
    log, _, seq = text.rpartition(":")
    return log, int(seq or 0)


async def _messages(parts: AsyncIterator[bytes], silence_s: float) -> AsyncIterator[dict[str, str]]:
    """The messages of an answer of server-sent events: each its fields by name."""
    rest, fields = b"", dict[str, str]()
    while True:
        async with asyncio.timeout(silence_s):
            part = await anext(parts, None)
        if part is None:
            return
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            name, _, value = line.decode().partition(": ")
            if name and not line.startswith(b":"):
                fields[name] = value
            elif not line and fields:
                yield fields
                fields = {}
