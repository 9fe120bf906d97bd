"""The child processes of `python_servers`: each serves rooms and publishes as stdin says.

python -m bench.servers.peers.python_children python-socketio|websockets
"""

import asyncio
import json
import socket
import sys
from collections.abc import Sequence
from typing import Any

from websockets.asyncio.server import ServerConnection, broadcast, serve

from bench.servers.source import Event, Source, body, obey
from huahuo.app import loops


async def serve_websockets() -> None:
    """Rooms by path."""
    rooms: dict[int, set[ServerConnection]] = {}

    async def handle(connection: ServerConnection) -> None:
        assert connection.request is not None
        room = rooms.setdefault(int(connection.request.path[1:]), set())
        room.add(connection)
        await connection.send('{"type":"ready"}')
        await connection.wait_closed()
        room.discard(connection)

    async def publish(events: Sequence[Event]) -> None:
        for user, event in events:
            broadcast(rooms.get(user, ()), event.decode())
        await asyncio.sleep(0)

    listening = await serve(handle, "127.0.0.1", 0, compression=None, ping_interval=None, backlog=4096)
    port = next(iter(listening.sockets)).getsockname()[1]
    await obey(Source(publish, body), {"port": port})


async def serve_socketio() -> None:
    """Rooms by the query of the handshake."""
    import socketio
    import uvicorn

    sio = socketio.AsyncServer(
        async_mode="asgi", transports=["websocket"], ping_interval=300, ping_timeout=300
    )

    async def connect(sid: str, environ: dict[str, Any]) -> None:
        room = environ["QUERY_STRING"].rpartition("room=")[2]
        await sio.enter_room(sid, room)
        await sio.emit("ready", to=sid)

    sio.on("connect", connect)

    in_turn = asyncio.Lock()

    async def publish(events: Sequence[Event]) -> None:
        async with in_turn:  # two emits at a time may overtake each other
            for user, event in events:
                await sio.emit("event", json.loads(event), room=str(user))
        await asyncio.sleep(0)

    listening = socket.create_server(("127.0.0.1", 0), backlog=4096)
    config = uvicorn.Config(
        socketio.ASGIApp(sio),
        log_level="error",
        ws_per_message_deflate=False,
        ws_ping_interval=None,
        lifespan="off",
    )
    server = uvicorn.Server(config)
    serving = asyncio.ensure_future(server.serve([listening]))
    await obey(Source(publish, body), {"port": listening.getsockname()[1]})
    server.should_exit = True
    await serving


if __name__ == "__main__":
    loops.run(serve_websockets() if sys.argv[1] == "websockets" else serve_socketio())
