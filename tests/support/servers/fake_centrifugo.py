"""A stand-in for Centrifugo's server: the documented behaviour of the parts that the benchmark uses.

`python -m tests.support.servers.fake_centrifugo version`, or `-c CONFIG` to serve. It checks what it is asked
for (tokens, the API key, known namespaces) and answers with an error as the real one does.
"""

import asyncio
import base64
import hashlib
import json
import struct
import sys
from pathlib import Path
from typing import Any

import jwt

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Fake:
    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.namespaces = {space["name"] for space in config["channel"]["namespaces"]}
        self.subscribers: dict[str, list[asyncio.StreamWriter]] = {}
        self.offsets: dict[str, int] = {}

    async def serve(self) -> None:
        http = self.config["http_server"]
        server = await asyncio.start_server(self.connected, http["address"], http["port"], backlog=1000)
        await server.serve_forever()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                first, *lines = head.strip().split("\r\n")
                fields = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
                if first == "GET /connection/websocket HTTP/1.1":
                    await self.websocket(fields, reader, writer)
                elif first == "POST /api/batch HTTP/1.1":
                    asked = json.loads(await reader.readexactly(int(fields["content-length"])))
                    right = fields["x-api-key"] == self.config["http_api"]["key"]
                    answer = json.dumps(
                        {"replies": [self.publish(one["publish"]) for one in asked["commands"]]}
                    )
                    status = "200 OK" if right else "401 Unauthorized"
                    writer.write(
                        f"HTTP/1.1 {status}\r\nContent-Length: {len(answer)}\r\n\r\n{answer}".encode()
                    )
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def publish(self, asked: dict[str, Any]) -> dict[str, Any]:
        channel, data = asked["channel"], asked["data"]
        if channel.partition(":")[0] not in self.namespaces:
            return {"error": {"code": 102, "message": "unknown channel"}}
        self.offsets[channel] = offset = self.offsets.get(channel, 0) + 1
        push = {"push": {"channel": channel, "pub": {"data": data, "offset": offset}}}
        for writer in self.subscribers.get(channel, ()):
            send(writer, push)
        return {"publish": {"result": {"offset": offset, "epoch": "born"}}}

    async def websocket(
        self, fields: dict[str, str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        key = base64.b64encode(hashlib.sha1(fields["sec-websocket-key"].encode() + GUID).digest()).decode()
        writer.write(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {key}\r\n\r\n".encode()
        )
        while True:
            _, size = await reader.readexactly(2)
            size &= 127
            if size == 126:
                size = int.from_bytes(await reader.readexactly(2))
            mask = await reader.readexactly(4)
            payload = bytes(byte ^ mask[at % 4] for at, byte in enumerate(await reader.readexactly(size)))
            for line in payload.splitlines():
                command = json.loads(line)
                if "connect" in command:
                    secret = self.config["client"]["token"]["hmac_secret_key"]
                    jwt.decode(command["connect"]["token"], secret, algorithms=["HS256"])
                    send(writer, {"id": command["id"], "connect": {"client": "x", "ping": 86400}})
                else:
                    asked = command["subscribe"]
                    self.subscribers.setdefault(asked["channel"], []).append(writer)
                    send(writer, {"id": command["id"], "subscribe": {"epoch": "born", "recovered": False}})


def send(writer: asyncio.StreamWriter, message: dict[str, Any]) -> None:
    text = json.dumps(message, separators=(",", ":"), ensure_ascii=False).encode()
    size = struct.pack("!B", len(text)) if len(text) < 126 else struct.pack("!BH", 126, len(text))
    writer.write(b"\x81" + size + text)


if __name__ == "__main__":
    if sys.argv[1] == "version":
        print("Centrifugo v6.9.1 (Go version: go1.26)")
    else:
        asyncio.run(Fake(json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))).serve())
