"""The protocol over plain HTTP, as the browser's client speaks it where no WebSocket can be opened.

To a client it looks like a WebSocket: what the client sends becomes requests, and what they answer becomes
messages of the protocol. Each stream is one answer of server-sent events (docs/http.md). Anything that goes
wrong ends the socket, and the client comes back with its cursors, as after any lost connection.
So the simulator drives the HTTP interface as `web/client/src/client/http_socket.ts` does.
"""

import asyncio
import contextlib
import json
import math
import ssl
from collections.abc import AsyncIterator, Coroutine, Mapping
from functools import cache
from typing import Any, Final
from urllib.parse import quote, urlsplit

import httpx
import msgspec
from websockets.exceptions import ConnectionClosedError
from websockets.frames import Close

from huahuo.transport.client.connection import SUBPROTOCOL
from huahuo.transport.protocol.codes import CloseCode, ErrorCode
from huahuo.transport.protocol.kinds import MOVING

type Json = dict[str, Any]

_SPANS: Final = tuple(sorted(MOVING - {"events", "snapshot"}))
"""The kinds that move the place and hold no events: a page has a list of each under its name."""
_PAGE_EVENTS: Final = 500
LATE_S: Final = 10.0
"""A connection counts as dead when a comment of the server is overdue by this."""
_PAGE_S: Final = 20.0
_COMMAND_S: Final = 60.0
"""A connection counts as dead when an answer has not begun after this. A command is sent again."""
_FORBIDDEN: Final = 403
_CLOSES: Final[Mapping[str, CloseCode]] = {
    "token_expired": CloseCode.TOKEN_EXPIRED,
    "token_invalid": CloseCode.TOKEN_INVALID,
    "token_revoked": CloseCode.REVOKED,
}


class Refused(Exception):  # noqa: N818  a refusal that the server explains
    """The server refused a request, and says why in a problem (RFC 9457)."""

    def __init__(self, status: int, problem: Json) -> None:
        super().__init__(str(problem.get("detail", status)))
        self.status = status
        self.problem = problem

    @property
    def code(self) -> str:
        """Which problem it is; "" if the answer had none."""
        return str(self.problem.get("code", ""))


class Asked(msgspec.Struct, frozen=True):
    """Where a reader wants to begin. A number counts in the log `log`."""

    stream: str
    after: int | str
    log: str | None


def place_of(asked: Asked, page: Json | None) -> Json:
    """How the server placed the reader, as `subscribed` says it. `page` None: it may not read the stream."""
    if page is None:
        return {"outcome": "denied", "after": 0, "first": 0, "head": 0}
    begin = page["next"]
    if isinstance(asked.after, int) and page["outcome"] == "resumed":
        begin = asked.after
    elif page["events"]:
        begin = page["events"][0]["seq"] - 1
    return {"outcome": page["outcome"], "after": begin, "first": 1, "head": page["next"]}


@cache
def _trusted() -> ssl.SSLContext:
    """Made once: reading the certificates holds up the loop for 20 ms and more, at each reconnect."""
    return httpx.create_ssl_context()


class HttpSocket:
    """See the module. It has what `Client` uses of a WebSocket."""

    subprotocol = SUBPROTOCOL

    def __init__(self, url: str, *, timeout_s: float) -> None:
        """`url`: the WebSocket's address; the API is below its directory."""
        parts = urlsplit(url)
        scheme = "https" if parts.scheme == "wss" else "http"
        base = f"{scheme}://{parts.netloc}{parts.path.rpartition('/')[0]}/"
        # A machine that lost its power says nothing more on its connections, and the session's heartbeat may
        # be answered by its next life. So what reads has a limit of its own.
        timeout = httpx.Timeout(timeout_s, read=None, pool=None)
        self._page_limit = httpx.Timeout(timeout_s, read=_PAGE_S, pool=None)
        self._command_limit = httpx.Timeout(timeout_s, read=_COMMAND_S, pool=None)
        limits = httpx.Limits(max_connections=None)
        self._http = httpx.AsyncClient(base_url=base, timeout=timeout, limits=limits, verify=_trusted())
        self._inbox: asyncio.Queue[str | None] = asyncio.Queue()
        self._end: tuple[int | None, str] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._readers: dict[str, asyncio.Task[None]] = {}
        self._places: dict[str, int] = {}
        self._token = self._client = self._log = self._language = ""
        self._user: int | str = ""

    @property
    def transport(self) -> "HttpSocket":
        """What can be aborted."""
        return self

    @property
    def reason(self) -> str:
        """Why it ended; "": it has not, or nobody said."""
        return "" if self._end is None else self._end[1]

    async def recv(self) -> str:
        """The next message. Raises ConnectionClosedError: the socket has ended."""
        text = await self._inbox.get()
        if text is not None:
            return text
        self._inbox.put_nowait(None)  # for the next caller
        code, reason = self._end or (None, "")
        raise ConnectionClosedError(None if code is None else Close(code, reason), None)

    async def send(self, text: str | bytes) -> None:
        """Make a message a request; its answer comes by `recv`."""
        self._spawn(self._handle(msgspec.json.decode(text)))

    async def close(self) -> None:
        """End every request."""
        self.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._http.aclose()

    def abort(self) -> None:
        """End at once."""
        self._finish(None, "")
        for task in self._tasks:
            task.cancel()

    async def _handle(self, message: Json) -> None:
        match message["action"]:
            case "authenticate":
                await self._authenticate(message)
            case "subscribe":
                await self._subscribe(message)
            case "unsubscribe":
                self._leave(message["stream"])
                self._say(type="unsubscribed", stream=message["stream"], id=message.get("id"))
            case "ack":
                await self._ask("acks", {"client": self._client, "cursors": message["cursors"]})
            case "heartbeat":
                await self._ask("healthz")
                self._say(type="heartbeat_response")
            case _:
                await self._command(message)

    async def _authenticate(self, message: Json) -> None:
        self._language = message.get("language", self._language)
        before, self._token = self._token, message["token"]
        said = await self._ask("who")
        user: Json = said["user"]
        places: list[tuple[str, Json, Json | None]]
        if not before:
            self._client, self._user = message.get("client", ""), user["user_id"]
            places = await self._begin(message.get("resume") or {}, user)
        elif user["user_id"] != self._user:
            self._token = before
            self._say(type="error", code=ErrorCode.USER_MISMATCH, message="")
            return
        else:
            places = [
                (stream, {"outcome": "resumed", "after": seq, "first": 1, "head": seq}, None)
                for stream, seq in self._places.items()
            ]
        self._say(
            type="authentication_result", success=True, message="", code="", session="http", log=self._log,
            user=user, expires_at=said["expires_at"], heartbeat_s=said["heartbeat_s"],
            window=message.get("window", 512),
            streams={stream: place for stream, place, _page in places},
        )  # fmt: skip
        for stream, _place, page in places:
            if page is not None:
                self._follow(stream, page)

    async def _begin(self, resume: Json, user: Json) -> list[tuple[str, Json, Json | None]]:
        cursors: Mapping[str, int] = resume.get("cursors") or {}
        names = dict.fromkeys([f"user/{user['user_id']}", "system", *cursors])
        asked = [Asked(name, cursors.get(name, "head"), resume.get("log")) for name in names]
        pages = await asyncio.gather(*map(self._page, asked))
        return [(one.stream, place_of(one, page), page) for one, page in zip(asked, pages, strict=True)]

    async def _subscribe(self, message: Json) -> None:
        asked = Asked(message["stream"], message.get("after", "head"), message.get("log"))
        self._leave(asked.stream)
        page = await self._page(asked)
        place = place_of(asked, page)
        self._say(type="subscribed", id=message.get("id"), stream=asked.stream, log=self._log, **place)
        if page is not None:
            self._follow(asked.stream, page)

    async def _command(self, message: Json) -> None:
        fields = {name: value for name, value in message.items() if name not in ("action", "id")}
        headers = {"Idempotency-Key": str(message["id"]), "Huahuo-Client": self._client}
        try:
            reply = await self._ask(f"commands/{message['action']}", fields, headers)
        except Refused as refused:
            if refused.code in _CLOSES:
                raise
            kept: Json = {
                name: refused.problem[name]
                for name in ("retry_s", "duplicate", "details")
                if name in refused.problem
            }
            reply = {
                "type": "error",
                "code": refused.code,
                "message": refused.problem.get("detail", ""),
                **kept,
            }
        self._say(**{**reply, "id": message["id"]})

    async def _page(self, asked: Asked) -> Json | None:
        """The first page behind a place. None: the stream is not this user's to read."""
        after = asked.after if isinstance(asked.after, str) else f"{asked.log or self._log}:{asked.after}"
        query = f"after={quote(after, safe=':')}&limit={_PAGE_EVENTS}"
        try:
            page = await self._ask(f"streams/{quote(asked.stream)}?{query}")
        except Refused as refused:
            if refused.status == _FORBIDDEN:
                return None
            raise
        self._log = page["log"]
        return page

    def _follow(self, stream: str, page: Json) -> None:
        """Say what the page holds, then follow the stream behind it."""
        self._places[stream] = page["next"]
        if snapshot := page.get("snapshot"):
            self._say(**{**snapshot, "stream": stream})
        for name in _SPANS:
            for span in page.get(name, ()):
                self._say(**{**span, "type": name, "stream": stream})
        for event in page["events"]:
            self._event(stream, event)
        self._readers[stream] = self._spawn(self._read(stream, page["next"]))

    def _leave(self, stream: str) -> None:
        self._places.pop(stream, None)
        if (reader := self._readers.pop(stream, None)) is not None:
            reader.cancel()

    async def _read(self, stream: str, after: int) -> None:
        url = f"streams/{quote(stream)}?after={quote(f'{self._log}:{after}', safe=':')}"
        headers = self._headers(Accept="text/event-stream")
        async with (
            asyncio.timeout(_PAGE_S) as limit,
            self._http.stream("GET", url, headers=headers) as answer,
        ):
            if not answer.is_success:
                await answer.aread()
                raise _refusal(answer)
            told_s = answer.headers.get("Huahuo-Heartbeat")  # a version before it does not say when it is due
            silence_s = math.inf if told_s is None else float(told_s) + LATE_S
            async for name, data in events(lines(answer.aiter_text(), limit, silence_s)):
                self._said(stream, name, data)
        raise OSError("the answer ended")

    def _said(self, stream: str, name: str, data: Json) -> None:
        match name:
            case "":
                self._event(stream, data)
            case "live":
                self._say(type="live", stream=stream, seq=self._places.get(stream, 0))
            case _ if name in _SPANS:
                self._places[stream] = data["to"]
                self._say(**{**data, "type": name, "stream": stream})
            case "unsubscribed":
                self._readers.pop(stream, None)
                self._say(**{**data, "type": name, "stream": stream})
            case "token_expiring":
                self._say(**{**data, "type": name})
            case "goaway":
                self._say(**{**data, "type": name})
                self._finish(int(data["code"]), str(data.get("reason", "")))
            case "reset" | "gap":  # come back: the place is then found anew
                self._finish(None, name)

    def _event(self, stream: str, event: Json) -> None:
        seq = self._places[stream] = event["seq"]
        body = {name: value for name, value in event.items() if name not in ("stream", "seq")}
        self._say(type="events", stream=stream, seq=seq, events=[body])

    async def _ask(self, path: str, body: object = None, headers: Mapping[str, str] | None = None) -> Json:
        method = "GET" if body is None else "POST"
        limit = self._page_limit if body is None else self._command_limit
        answer = await self._http.request(
            method, path, json=body, headers=self._headers(**(headers or {})), timeout=limit
        )
        if not answer.is_success:
            raise _refusal(answer)
        return json_object(answer.content)

    def _headers(self, **more: str) -> dict[str, str]:
        spoken = {"Accept-Language": self._language} if self._language else {}
        return {"Authorization": f"Bearer {self._token}", **spoken, **more}

    def _say(self, **message: Any) -> None:
        if self._end is None:
            self._inbox.put_nowait(json.dumps(message))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(self._guarded(work))
        self._tasks.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            work.close()  # the task may have been cancelled before it began

        task.add_done_callback(ended)
        return task

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Refused as refused:
            code = _CLOSES.get(refused.code)
            if code is not None:
                self._say(type="authentication_result", success=False, code=refused.code, message="")
            self._finish(code, str(refused))
        except Exception as error:  # noqa: BLE001  whatever goes wrong ends the socket
            self._finish(None, f"{type(error).__name__}: {error}")

    def _finish(self, code: int | None, reason: str) -> None:
        if self._end is None:
            self._end = code, reason
            self._inbox.put_nowait(None)


def _refusal(answer: httpx.Response) -> Refused:
    return Refused(answer.status_code, json_object(answer.content))


def json_object(content: bytes) -> Json:
    """The object in a body; an empty one if the body holds something else."""
    with contextlib.suppress(ValueError, RecursionError):
        found = msgspec.json.decode(content)
        if isinstance(found, dict):
            return found
    return {}


async def lines(parts: AsyncIterator[str], limit: asyncio.Timeout, silence_s: float) -> AsyncIterator[str]:
    """The lines. Each part of them, also of a comment, moves the limit on."""
    loop, line = asyncio.get_running_loop(), list[str]()
    async for part in parts:
        limit.reschedule(None if silence_s == math.inf else loop.time() + silence_s)
        first, *more = part.split("\n")
        line.append(first)
        for begun in more:
            yield "".join(line)
            line = [begun]


async def events(of: AsyncIterator[str]) -> AsyncIterator[tuple[str, Json]]:
    """The server-sent events of an answer: name and data."""
    name = data = ""
    async for line in of:
        if line.startswith("event: "):
            name = line[7:]
        elif line.startswith("data: "):
            data = line[6:]
        elif not line:
            if data:
                yield name, json_object(data.encode())
            name = data = ""
