"""huahuo itself: the real service in a child, clients with a window of 4096 that ack half a window."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from bench.clients.script import Client, Script, text, upgrade
from bench.harness.procs import Child
from bench.servers.peers.base import Peer, Running
from bench.servers.server_under_test import GROUP_STREAM
from huahuo.actors.plugins.principal import Principal
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.transport.access.tokens import Authenticator

WINDOW = 4096
_READY = b'"type":"live"'
ENVIRON = {"HUAHUO_JWT_SECRET": "bench-secret-that-is-long-enough-0000", "HUAHUO_MASTER_KEY": "5a" * 32}


class Huahuo(Peer):
    """See the module."""

    name = "huahuo"
    note = "events fsynced and hash-chained before they are sent; acks on, window 4096"
    sends: ClassVar[str | None] = None
    """How frames are written. None: as the service does by default."""
    workers: ClassVar[int] = 1

    def version(self) -> str:
        """The commit is in the head of the results."""
        return "this commit"

    def start(self, folder: Path, *, port: int = 0) -> Running:
        """Start over `folder`, empty or not."""
        command = [sys.executable, "-m", "bench.servers.server_under_test", "--data", str(folder / "data")]
        command += [] if self.sends is None else ["--sends", self.sends]
        command += ["--workers", str(self.workers)]
        control = Child([*command, "--port", str(port)], environ=ENVIRON)
        return Running(control, control.hello["port"], [control.pid, *control.hello["workers"]])

    def group(self, running: Running, count: int) -> Script:
        """One user with a connection for each client, all in one group."""
        token = self.token(1, groups=("bench",))
        steps = [
            upgrade(subprotocol="huahuo.v1"),
            (self.authenticate(token), b'"type":"authentication_result","success":true'),
            (
                text(json.dumps({"action": "subscribe", "stream": GROUP_STREAM}).encode()),
                _READY + _of(GROUP_STREAM),
            ),
        ]
        client = Client(steps, _ack(GROUP_STREAM))
        return Script(running.port, [client] * count, ack_every=WINDOW // 2)

    def feeds(
        self,
        running: Running,
        count: int,
        *,
        cursors: Sequence[int] | None = None,
        goal: int = 0,
    ) -> Script:
        """Fresh connections, or ones that resume at `cursors`."""
        clients = []
        for user in range(1, count + 1):
            stream = f"user/{user}"
            resume = {stream: cursors[user - 1]} if cursors is not None else None
            hello = self.authenticate(self.token(user), log=running.control.hello["log"], cursors=resume)
            answer = b'"type":"authentication_result","success":true' if resume else _READY + _of(stream)
            clients.append(
                Client(
                    [upgrade(subprotocol="huahuo.v1"), (hello, answer)],
                    _ack(stream),
                    0 if cursors is None else cursors[user - 1],
                )
            )
        return Script(running.port, clients, ack_every=WINDOW // 2, goal=goal)

    def token(self, user_id: int, *, groups: tuple[str, ...] = (), admin: bool = False) -> str:
        """A sign-in token of the child."""
        who = Principal(user_id, "u", is_admin=admin, groups=groups)
        ambient = SystemAmbient()
        authenticator = Authenticator(ENVIRON["HUAHUO_JWT_SECRET"].encode())
        return authenticator.mint(who, now_ms=ambient.now_ms(), ttl_s=3600, jti=ambient.token())

    def authenticate(
        self, token: str, *, log: str | None = None, cursors: Mapping[str, int] | None = None
    ) -> bytes:
        """The frame that signs in and perhaps resumes."""
        resume = {"log": log, "cursors": cursors} if cursors else {"log": None, "cursors": {}}
        message = {"action": "authenticate", "token": token, "window": WINDOW, "resume": resume}
        return text(json.dumps(message).encode())


class HuahuoTransport(Huahuo):
    """Without the part in C."""

    name = "huahuo-transport"
    note = "as huahuo, but without the part in C: the transports of the event loop write"
    sends = "transport"


class HuahuoWorkers(Huahuo):
    """Two workers serve the connections; the process with the log publishes."""

    name = "huahuo-workers"
    note = "as huahuo, with `--workers 2`"
    workers = 2


def _of(stream: str) -> bytes:
    return f',"stream":"{stream}"'.encode()


def _ack(stream: str) -> bytes:
    return f'{{"action":"ack","cursors":{{"{stream}":'.encode()
