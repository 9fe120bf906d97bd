"""`python -m tests.support.chaos --clients 1000 --seconds 600 [--log postgres]`: see the room."""

import argparse
import asyncio
import contextlib
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.support.chaos.crowd import Member
from tests.support.chaos.faults import Faults, LogServer
from tests.support.chaos.judging import complaints, of_replicas
from tests.support.chaos.relay import network
from tests.support.servers.nats import PASSWORD, USER, nats_servers
from tests.support.servers.postgres import PASSWORD as POSTGRES_PASSWORD
from tests.support.servers.postgres import postgres
from tests.support.servers.serving import serving

NODES = ("a", "b", "c")
SETTINGS = {
    "HUAHUO_CONNECTIONS_PER_IP": "0",
    "HUAHUO_UNAUTHENTICATED_PER_IP": "0",
    "HUAHUO_CONNECTIONS_PER_USER": "3",
    "HUAHUO_DRAIN_TIMEOUT_S": "3",
}
CLOCKS = Path(__file__).with_name("clock")
"""A folder that moves the clock of a Python process that has it on its path."""
SETTLE_S = 180.0
"""How long the first clients may take before the first fault, and the last ones after the last fault."""
ANSWER_S = 3.0
"""A node that does not answer the balancer for this long counts as frozen, and not only as slow."""


def main() -> int:
    """Run, and say what was found. 0: nothing was lost, doubled or out of order."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=600.0, help="for how long there are faults")
    parser.add_argument("--every", type=float, default=5.0, help="seconds from one fault to the next")
    parser.add_argument("--log", choices=("nats", "postgres"), default="nats")
    parser.add_argument("--rate", type=float, default=40.0, help="messages a second of all clients together")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--ahead", type=float, default=600.0, help="seconds that a node's clock is off")
    given = parser.parse_args()
    seed = given.seed if given.seed is not None else random.randrange(1 << 30)
    print(f"seed {seed}, {given.clients} clients, a fault every {given.every:g} s for {given.seconds:g} s")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="huahuo-chaos-")))
        servers, ports, address = stack.enter_context(_log(given.log))
        net = stack.enter_context(network(NODES, ports))
        nodes = {
            name: stack.enter_context(
                serving(
                    folder / name,
                    stderr=folder / f"{name}.log",
                    app=None,
                    folder=None,
                    **(SETTINGS | {"HUAHUO_LOG": address(net.of(name)), "HUAHUO_NODE": name}),
                    **(ahead_by(given.ahead) if name == NODES[-1] else {}),
                )
            )
            for name in NODES
        }
        url = stack.enter_context(_balancer([node.url for node in nodes.values()]))
        faults = Faults(nodes, servers, net, random.Random(seed))
        pause_s = given.clients / given.rate
        token = nodes["a"].token
        members = [
            Member(
                number,
                url,
                lambda n: token(n + 1, f"u{n}", admin=True, groups=(f"circle-{n // 20}",), ttl_s=86_400),
                pause_s,
            )
            for number in range(given.clients)
        ]
        found = asyncio.run(_storm(members, faults, given.seconds, given.every))
        for node in nodes.values():
            node.stop()
        found += complaints(members) + of_replicas(nodes)
        _report(members, faults, found)
        if found:
            print(f"the nodes' logs: {folder}", file=sys.stderr)
            for node in nodes.values():
                print(node.log()[-2000:], file=sys.stderr)
    return 1 if found else 0


def ahead_by(seconds: float) -> dict[str, str]:
    """The environment of a process whose clock is `seconds` ahead, or behind where that is negative."""
    return {"PYTHONPATH": str(CLOCKS), "CLOCK_AHEAD_S": f"{seconds:g}"}


async def _storm(members: Sequence[Member], faults: Faults, seconds: float, every_s: float) -> list[str]:
    """Clients and faults together; what did not settle."""
    over = asyncio.Event()
    running = [asyncio.create_task(member.run(over)) for member in members]
    until_s = time.monotonic() + SETTLE_S
    while not all(member.online for member in members) and time.monotonic() < until_s:  # noqa: ASYNC110  a probe
        await asyncio.sleep(0.2)
    print(f"{sum(member.online for member in members)} of {len(members)} are connected", flush=True)
    began_s = time.monotonic()
    while (left_s := began_s + seconds - time.monotonic()) > 0:
        fault_s = time.monotonic()
        name, heal = await asyncio.to_thread(faults.begin)
        lasts_s = min(every_s * (0.2 + 0.6 * random.random()), left_s)
        written = sum(len(member.acknowledged) for member in members)
        print(
            f"{time.monotonic() - began_s:6.1f} s  {written:7} written  {name}, for {lasts_s:.1f} s",
            flush=True,
        )
        await asyncio.sleep(lasts_s)
        await asyncio.to_thread(heal)
        await asyncio.sleep(max(0.0, fault_s + every_s - time.monotonic()))
    for member in members:
        member.stop_writing()
    found = await _settled(members, running)
    over.set()
    for task, member in zip(running, members, strict=True):
        try:
            await task
        except Exception as error:  # noqa: BLE001  a client that gave up is a finding
            found.append(f"client {member.number} ended: {error!r}")
    return found


async def _settled(members: Sequence[Member], running: Sequence[asyncio.Task[None]]) -> list[str]:
    """Wait until each client has its answers and has read what its circle wrote."""
    until_s = time.monotonic() + SETTLE_S
    while time.monotonic() < until_s:
        wanted: dict[str, int] = {}
        for member in members:
            wanted[member.stream] = wanted.get(member.stream, 0) + member.sent
        waiting = [
            member
            for member, task in zip(members, running, strict=True)
            if not task.done()
            and (member.sent > len(member.acknowledged) or len(member.got) < wanted[member.stream])
        ]
        if not waiting:
            return []
        await asyncio.sleep(0.2)
    return [
        f"client {member.number} has {len(member.acknowledged)} of {member.sent} answers and"
        f" {len(member.got)} events of {member.stream}"
        for member in waiting
    ]


def _report(members: Sequence[Member], faults: Faults, found: Sequence[str]) -> None:
    acknowledged = sum(len(member.acknowledged) for member in members)
    delivered = sum(len(member.got) for member in members)
    slowest = sorted(member.slowest_s for member in members)
    print(f"\n{acknowledged} messages acknowledged, {delivered} delivered to {len(members)} clients")
    print("slowest answer of a client: " + ", ".join(
        f"p{part} {slowest[min(len(slowest) - 1, len(slowest) * part // 100)]:.1f} s" for part in (50, 90, 99)
    ))  # fmt: skip
    print("faults: " + ", ".join(f"{count} × {kind}" for kind, count in faults.kinds.items()))
    for line in found[:40]:
        print(f"WRONG  {line}")
    print(
        f"{len(found)} complaints" if found
        else "0 lost, 0 doubled, equal chains, each client's order right"
    )  # fmt: skip


type _Log = tuple[Sequence[LogServer], list[int], "_Address"]


class _Address:
    """The address of the ordered log through the relays of a node."""

    def __init__(self, scheme: str, who: str, rest: str) -> None:
        self._scheme, self._who, self._rest = scheme, who, rest

    def __call__(self, ports: Sequence[int]) -> str:
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        return f"{self._scheme}://{self._who}@{hosts}{self._rest}"


@contextlib.contextmanager
def _log(kind: str) -> Iterator[_Log]:
    if kind == "nats":
        with nats_servers(3) as servers:
            yield servers, [server.port for server in servers], _Address("nats", f"{USER}:{PASSWORD}", "")
    else:
        with postgres() as server:
            yield [server], [server.port], _Address("postgres", f"huahuo:{POSTGRES_PASSWORD}", "/huahuo")


@contextlib.contextmanager
def _balancer(urls: Sequence[str]) -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "huahuo.demo.balancer", "--answer-s", str(ANSWER_S), *urls],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1]
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    sys.exit(main())
