"""Centrifugo 6 with its memory engine: a group without history, a channel a user with history and recovery.

Clients sign in with a JWT over its WebSocket in JSON, connection and subscription in one frame. Events come
over its HTTP API (`centrifugo_publisher`). Written from its documentation (client protocol, server API,
options of version 6); used when a binary of that version is on PATH.
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jwt

from bench.clients.script import Client, Script, text, upgrade
from bench.harness.procs import Child, Server, free_port
from bench.servers.peers.base import Peer, Running
from bench.servers.source import GROUP

MAJOR = 6
SECRET = "bench-secret-that-is-long-enough-0000"
API_KEY = "bench-api-key"
HISTORY_SIZE = 300
"""As many as a client may recover at once by default."""
PATH = "/connection/websocket"
FEEDS, DELTAS = "user", "delta"
"""Namespaces: whole events that can be recovered, and differences to the event before."""
_GONE_EPOCH = "gone"
"""Of a history that died with its process: any that the new one has not drawn."""


def channel(user: int, namespace: str = FEEDS) -> str:
    """Where a user's events go; namespaces carry the options."""
    return "group:bench" if user == GROUP else f"{namespace}:{user}"


def config(port: int) -> dict[str, Any]:
    """The configuration file.

    Its pings are JSON messages that receivers would have to answer, so they are farther apart than a round
    is long; a client's queue may grow as far as NATS allows (1 MiB by default).
    """
    return {
        "http_server": {"address": "127.0.0.1", "port": port},
        "log": {"level": "error"},
        "client": {
            "token": {"hmac_secret_key": SECRET},
            "ping_interval": "24h",
            "pong_timeout": "12h",
            "queue_max_size": 64 << 20,
        },
        "channel": {
            "namespaces": [
                {"name": "group", "allow_subscribe_for_client": True},
                {
                    "name": FEEDS,
                    "allow_subscribe_for_client": True,
                    "history_size": HISTORY_SIZE,
                    "history_ttl": "600s",
                    "force_recovery": True,
                },
                {
                    "name": DELTAS,
                    "allow_subscribe_for_client": True,
                    "history_size": 1,
                    "history_ttl": "600s",
                    "force_positioning": True,
                    "allowed_delta_types": ["fossil"],
                    "delta_publish": True,
                },
            ]
        },
        "http_api": {"key": API_KEY},
        "usage_stats": {"disabled": True},
    }


def client(user: int, reads: str, *, seen: int | None = None, delta: bool = False) -> Client:
    """Connects as `user` and subscribes to channel `reads`, recovering from offset `seen` if given."""
    token = jwt.encode({"sub": str(user)}, SECRET, algorithm="HS256")
    subscription: dict[str, Any] = {"channel": reads} | ({"delta": "fossil"} if delta else {})
    if seen is not None:
        subscription |= {"recover": True, "offset": seen, "epoch": _GONE_EPOCH}
    commands = ({"id": 1, "connect": {"token": token}}, {"id": 2, "subscribe": subscription})
    hello = "\n".join(json.dumps(command) for command in commands)
    return Client([upgrade(PATH), (text(hello.encode()), b'"id":2,"subscribe":')], last=seen or 0)


def major(version: str) -> int:
    """Of what `centrifugo version` prints; 0 where it says nothing."""
    found = re.search(r"v?(\d+)\.\d+", version)
    return int(found.group(1)) if found else 0


class Centrifugo(Peer):
    """See the module."""

    name = "centrifugo"
    note = "memory engine, events over its batch API as they gather; the server may use every core"

    def missing(self) -> str:
        """See `Peer`."""
        if shutil.which("centrifugo") is None:
            return "not on PATH"
        found = self.version()
        return "" if major(found) == MAJOR else f"written for version {MAJOR}, and this is {found}"

    def version(self) -> str:
        """See `Peer`."""
        done = subprocess.run(["centrifugo", "version"], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def start(self, folder: Path) -> Running:
        """See `Peer`."""
        port = free_port()
        path = folder / "centrifugo.json"
        path.write_text(json.dumps(config(port)), encoding="utf-8")
        server = Server(["centrifugo", "-c", str(path)], port)
        try:
            control = Child([sys.executable, "-m", "bench.servers.peers.centrifugo_publisher", str(port)])
        except BaseException:
            server.stop()
            raise
        return Running(control, port, [server.pid], server=server)

    def group(self, running: Running, count: int) -> Script:
        """See `Peer`."""
        return Script(running.port, [client(1, channel(GROUP))] * count)

    def feeds(self, running: Running, count: int, *, cursors: Sequence[int] | None = None) -> Script:
        """Fresh connections, or ones that ask to recover what came after `cursors`."""
        seen = [None] * count if cursors is None else cursors
        clients = [client(user, channel(user), seen=last) for user, last in enumerate(seen, 1)]
        return Script(running.port, clients)
