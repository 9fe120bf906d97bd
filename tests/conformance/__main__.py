"""Checks a client: `python -m tests.conformance URL -- COMMAND…` (docs/client-in-any-language.md)."""

import argparse
import asyncio
import os
import secrets
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

from huahuo.transport.client.client import Client
from tests.conformance.client import Program
from tests.support.servers.proxy import ChaosProxy, chaos_proxy

_MANY = 300
_HANG_S = 130.0
_TOLD = 10
_REFUSED_S, _REFUSED_MAX = 5.0, 5

type Check = Callable[["Bench"], Awaitable[bool]]


class Bench:
    """One client, its proxy and somebody who publishes."""

    def __init__(self, program: Program, proxy: ChaosProxy, admin: Client, stream: str) -> None:
        self.program = program
        self.proxy = proxy
        self.stream = stream
        self.published = 0
        self._admin = admin

    async def publish(self, count: int) -> None:
        """Append this many events."""
        for _ in range(count):
            self.published += 1
            await self._admin.send("publish", stream=self.stream, type="tick", n=self.published)

    async def arrived(self, within_s: float = 60.0) -> bool:
        """Whether the client printed the last one in time."""
        return await self.program.until(self.published, within_s)

    def told(self) -> str:
        """What is wrong with the numbers that the client printed."""
        seqs = self.program.seqs
        missing = sorted(set(range(1, self.published + 1)) - set(seqs))
        again = sorted(seq for seq, count in Counter(seqs).items() if count > 1)
        swapped = [seq for before, seq in pairwise(seqs) if seq < before]
        facts = {"missing": missing, "printed more than once": again, "after a greater one": swapped}
        said = [f"{name}: {', '.join(map(str, found[:_TOLD]))}" for name, found in facts.items() if found]
        return f"of {self.published} events it printed {len(set(seqs))}; " + "; ".join(said)

    @property
    def whole(self) -> bool:
        """Whether all came in order, once."""
        return self.program.seqs == list(range(1, self.published + 1))


async def in_order(bench: Bench) -> bool:
    """300 events come in order, once."""
    await bench.program.start()
    await bench.publish(_MANY)
    return await bench.arrived() and bench.whole


async def over_cuts(bench: Bench) -> bool:
    """After connections were cut in the middle, none is missing and none doubled."""
    for _ in range(4):
        await bench.publish(20)
        bench.proxy.cut()
        await bench.publish(20)
        if not await bench.arrived():
            return False
    return bench.whole


async def over_kills(bench: Bench) -> bool:
    """After `kill -9` of the client it goes on behind its cursor, and repeats at most the last event."""
    for _ in range(3):
        before = len(bench.program.seqs)
        await bench.publish(10)
        await bench.program.until(bench.published - 5)
        await bench.program.kill()
        last = bench.program.seqs[-1]
        await bench.publish(10)
        await bench.program.start()
        if not await bench.arrived():
            return False
        seqs = bench.program.seqs
        again = seqs[seqs.index(last) + 1] if seqs.count(last) == 1 else last
        if again not in (last, last + 1) or sorted(set(seqs)) != list(range(1, bench.published + 1)):
            return False
        if len(seqs) - before > 21:
            return False
    return True


async def over_a_hang(bench: Bench) -> bool:
    """A connection that hangs is given up."""
    opened = bench.proxy.accepted
    bench.proxy.blackhole()
    await bench.publish(5)
    for _ in range(int(_HANG_S)):
        await asyncio.sleep(1)
        if bench.proxy.accepted > opened:
            break
    bench.proxy.heal()
    return bench.proxy.accepted > opened and await bench.arrived()


async def refused(command: Sequence[str], proxy: ChaosProxy, folder: Path) -> int:
    """With a token that is refused, at most five requests in 5 s, or it ends."""
    program = Program(
        command, f"http://127.0.0.1:{proxy.port}", "no.such.token", "group/none", folder / "refused"
    )
    opened = proxy.accepted
    await program.start()
    await asyncio.sleep(_REFUSED_S)
    await program.kill()
    return proxy.accepted - opened


def _say(check: Callable[..., object], *, passed: bool, told: Callable[[], str]) -> bool:
    print(f"{'pass' if passed else 'FAIL'}  {(check.__doc__ or '').rstrip('.')}", flush=True)
    if not passed:
        print(f"      {told()}", flush=True)
    return passed


async def main(url: str, token: str, command: Sequence[str], *, hang: bool) -> bool:
    """Run every check and print what came of it. Whether all passed."""
    stream = f"group/conformance-{secrets.token_hex(4)}"
    parts = urlsplit(url)
    checks: list[Check] = [in_order, over_cuts, over_kills, *([over_a_hang] if hang else [])]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with (
            chaos_proxy(parts.port or 80, parts.hostname or "127.0.0.1") as proxy,
            Client(url, token=token, messages_per_s=0.0) as admin,
        ):
            program = Program(command, f"http://127.0.0.1:{proxy.port}", token, stream, folder / "cursor")
            bench = Bench(program, proxy, admin, stream)
            try:
                passed = [_say(check, passed=await check(bench), told=bench.told) for check in checks]
            finally:
                await program.kill()
            opened = await refused(command, proxy, folder)
            passed.append(
                _say(refused, passed=opened <= _REFUSED_MAX, told=lambda: f"it opened {opened} connections")
            )
    return all(passed)


def _given() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("url", help="a running service, such as http://127.0.0.1:8765")
    parser.add_argument("--hang", action="store_true", help="also check silence, which takes about 70 s")
    parser.add_argument("command", nargs="+", help="the client, after --")
    return parser.parse_args()


if __name__ == "__main__":
    given = _given()
    admin_token = os.environ.get("HUAHUO_TOKEN", "")
    if not admin_token:
        sys.exit("set HUAHUO_TOKEN to the token of an administrator: huahuo token --user-id 1 --admin")
    sys.exit(0 if asyncio.run(main(given.url, admin_token, given.command, hang=given.hang)) else 1)
