"""A durable `EventStore` for the official MCP SDK: what a client missed is replayed, also after a restart.

store = HuahuoEventStore(app)
api = store.around(server.streamable_http_app(event_store=store))

The SDK does not tell a store for which of its sessions it stores, and each session counts its requests from
1. `around` tells sessions apart, so that none is replayed what is another's. Each has a stream `mcp/<id>` of
the log. An event id has 128 random bits and is told to one session only: a client that has it gets what
followed.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from contextvars import ContextVar
from typing import Any, Final

import msgspec
from mcp.server.streamable_http import EventCallback, EventId, EventMessage, EventStore, StreamId
from mcp.types import JSONRPCMessage, jsonrpc_message_adapter

from huahuo.embedding.huahuo import Huahuo
from huahuo.errors import HuahuoError

KIND: Final = "mcp"
_TYPE: Final = "mcp_message"
_SESSION: Final = b"mcp-session-id"
_PIECE_CHARS_MAX: Final = 50_000
"""Of a message's JSON in one event: four bytes each stay below the bound of 256 KiB."""
_SESSIONS_MAX: Final = 10_000
_PAGE: Final = 256

type _Scope = MutableMapping[str, Any]
type _Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
type _Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
type _Application = Callable[[_Scope, _Receive, _Send], Awaitable[None]]

session_stream: ContextVar[str] = ContextVar("stream of the session")
"""Set for each request. The task of a session is started by its first request, and keeps its value."""


class _Replay(msgspec.Struct):
    """A replay under way: what was sent, and how."""

    stream: str
    of: str
    seq: int
    send: EventCallback


_replay: ContextVar[_Replay | None] = ContextVar("the last replay of this task")


class HuahuoEventStore(EventStore):
    """See the module."""

    def __init__(self, app: Huahuo) -> None:
        self._app = app
        self._streams: OrderedDict[bytes, str] = OrderedDict()

    def around(self, application: _Application) -> _Application:
        """The SDK's ASGI application, with sessions told apart. The service starts and stops with it."""

        async def told_apart(scope: _Scope, receive: _Receive, send: _Send) -> None:
            if scope["type"] == "lifespan":
                await self._app.asgi.live_with(application, scope, receive, send)
                return
            if scope["type"] != "http":
                await application(scope, receive, send)
                return
            running = await self._app.asgi.running()
            session = _header(scope["headers"], _SESSION)
            stream = self._streams.get(session) if session else None
            stream = stream or f"{KIND}/{running.clock.token(16)}"
            token = session_stream.set(stream)

            async def noting(message: MutableMapping[str, Any]) -> None:
                if message["type"] == "http.response.start" and session is None:
                    self._note(_header(message.get("headers", ()), _SESSION), stream)
                await send(message)

            try:
                await application(scope, receive, noting)
            finally:
                session_stream.reset(token)

        return told_apart

    async def store_event(self, stream_id: StreamId, message: JSONRPCMessage | None) -> EventId:
        """See `EventStore`. It returns when the event is durable."""
        stream = session_stream.get(None)
        if stream is None:
            raise HuahuoError("write store.around(server.streamable_http_app(event_store=store))")
        text = "" if message is None else message.model_dump_json(by_alias=True, exclude_unset=True)
        pieces = [text[at : at + _PIECE_CHARS_MAX] for at in range(0, len(text), _PIECE_CHARS_MAX)] or [""]
        events = [
            (stream, _TYPE, {"of": str(stream_id), "piece": piece, "more": number < len(pieces)})
            for number, piece in enumerate(pieces, 1)
        ]
        at = await self._app.publish_many(events)
        replay = _replay.get(None)
        if message is None and replay is not None and (replay.stream, replay.of) == (stream, stream_id):
            # The SDK sends live after this event, whose id its client then has. What was stored since the end
            # of the replay would be lost to it.
            _replay.set(None)
            await self._send(replay, at.seq - 1)
        return f"{stream.partition('/')[2]}:{at.seq}"

    async def replay_events_after(
        self, last_event_id: EventId, send_callback: EventCallback
    ) -> StreamId | None:
        """See `EventStore`. What cannot be an id of ours is answered as one without events."""
        key, _, number = last_event_id.partition(":")
        if not (key.isascii() and key.isalnum() and number.isascii() and number.isdecimal()):
            return None
        stream, seq = f"{KIND}/{key}", int(number)
        log = self._app.running.log
        last = await log.read(stream, seq - 1, events_max=1) if 0 < seq <= log.head(stream).seq else []
        if not last:
            return None
        replay = _Replay(stream, msgspec.json.decode(last[0].body)["of"], seq, send_callback)
        await self._send(replay, log.head(stream).seq)
        _replay.set(replay)
        return replay.of

    async def _send(self, replay: "_Replay", last: int) -> None:
        """Send what is after the replay's place, up to this event."""
        log, pieces = self._app.running.log, ""
        while replay.seq < last:
            for event in await log.read(replay.stream, replay.seq, events_max=min(_PAGE, last - replay.seq)):
                replay.seq = event.seq
                said = msgspec.json.decode(event.body)
                if said["of"] != replay.of:
                    continue
                pieces += said["piece"]
                if said["more"] or not pieces:
                    continue
                message = jsonrpc_message_adapter.validate_json(pieces, by_name=False)
                key = replay.stream.partition("/")[2]
                await replay.send(EventMessage(message, f"{key}:{event.seq}"))
                pieces = ""

    def _note(self, session: bytes | None, stream: str) -> None:
        if session is None:
            return
        self._streams[session] = stream
        if len(self._streams) > _SESSIONS_MAX:
            self._streams.popitem(last=False)


def _header(headers: Any, name: bytes) -> bytes | None:
    return next((bytes(value) for known, value in headers if bytes(known).lower() == name), None)
