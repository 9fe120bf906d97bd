"""`python -m tests.support.chaos.socketio`: the same faults on three Socket.IO servers over Redis.

They use Redis streams and connection state recovery, which is the most that Socket.IO offers, and clients
that send again until they are answered. Redis writes each change to the disk at once. It needs `redis-server`
(Debian has it) and what `python -m bench install` installs.
"""

import argparse
import asyncio
import contextlib
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

from bench.peers import NODE_MODULES, SERVERS
from tests.support.chaos.faults import Faults
from tests.support.chaos.relay import network
from tests.support.patience import WITHIN_S
from tests.support.servers.ports import held_port

NODES = ("a", "b", "c")
CIRCLE = 20
SETTLE_S = 90.0


class Process:
    """A program that can be killed, frozen and started again."""

    def __init__(self, command: list[str], *, says: str = "") -> None:
        """`says`: the line on its output by which it is ready."""
        self._command = command
        self._says = says
        self._process: subprocess.Popen[str] | None = None
        self.start()

    def start(self) -> None:
        """Start it, and wait until it is ready, if it says so."""
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.PIPE, text=True, env={"NODE_PATH": str(NODE_MODULES)}
        )
        if self._says:
            assert self._process.stdout is not None
            self._process.stdout.readline()

    def send(self, number: signal.Signals) -> None:
        """Freeze it (SIGSTOP) or let it go on (SIGCONT)."""
        if self._process is not None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """`kill -9`."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(WITHIN_S)
            self._process = None

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        code = 0
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            code = self._process.wait(WITHIN_S)
            self._process = None
        return code


def main() -> int:
    """Run it, and print what its clients lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=90.0, help="for how long there are faults")
    parser.add_argument("--every", type=float, default=5.0, help="seconds from one fault to the next")
    parser.add_argument("--rate", type=float, default=40.0, help="messages a second of all clients together")
    parser.add_argument("--seed", type=int, default=14)
    given = parser.parse_args()
    node = shutil.which("node")
    if node is None or shutil.which("redis-server") is None or not (NODE_MODULES / "socket.io").is_dir():
        print("it needs node, redis-server (apt-get install redis-server) and `python -m bench install`")
        return 2
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="huahuo-chaos-"))
        redis_port = stack.enter_context(held_port())
        redis = stack.enter_context(_running(_redis(folder, redis_port)))
        net = stack.enter_context(network(NODES, [redis_port]))
        ports = {name: stack.enter_context(held_port()) for name in NODES}
        nodes = {}
        for name in NODES:
            command = [node, str(SERVERS / "chaos_node.cjs"), str(ports[name]), str(net.of(name)[0])]
            nodes[name] = stack.enter_context(_running(command, says="listening"))
        faults = Faults(nodes, [redis], net, random.Random(given.seed))
        pause_ms = round(1000 * given.clients / given.rate)
        crowd = subprocess.Popen(
            [
                *(node, str(SERVERS / "chaos_crowd.cjs"), str(given.clients), str(CIRCLE), str(pause_ms)),
                ",".join(map(str, ports.values())),
            ],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={"NODE_PATH": str(NODE_MODULES)},
        )  # fmt: skip
        stack.callback(crowd.kill)
        asyncio.run(_storm(faults, given.seconds, given.every))
        said, _ = crowd.communicate("over\n", timeout=SETTLE_S)
        found = json.loads(said)
    print("faults: " + ", ".join(f"{count} × {kind}" for kind, count in faults.kinds.items()))
    print(", ".join(f"{count} {what}" for what, count in found.items()))
    return 0


async def _storm(faults: Faults, seconds: float, every_s: float) -> None:
    await asyncio.sleep(every_s)
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        began_s = time.monotonic()
        name, heal = await asyncio.to_thread(faults.begin)
        lasts_s = every_s * (0.2 + 0.6 * random.random())
        print(f"{name}, for {lasts_s:.1f} s", flush=True)
        await asyncio.sleep(lasts_s)
        await asyncio.to_thread(heal)
        await asyncio.sleep(max(0.0, began_s + every_s - time.monotonic()))


def _redis(folder: str, port: int) -> list[str]:
    program = shutil.which("redis-server")
    assert program is not None
    always = ("--appendonly", "yes", "--appendfsync", "always", "--save", "", "--logfile", "redis.log")
    return [
        program,
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--dir",
        folder,
        "--logfile",
        "redis.log",
        *always,
    ]


@contextlib.contextmanager
def _running(command: list[str], *, says: str = "") -> Iterator[Process]:
    process = Process(command, says=says)
    try:
        yield process
    finally:
        process.kill()


if __name__ == "__main__":
    sys.exit(main())
