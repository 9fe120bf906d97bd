"""One node's log in a process of its own, for `bench cluster`: it appends, and says what that took.

python -m bench.servers.log_node FOLDER NAME [URL OF THE ORDERED LOG]

It answers lines of JSON: {"lone": N} appends N events one after the other, {"flood": N, "seconds": S} appends
of N events from many callers at once, {"lags": true} tells how long what others appended was on its way.
"""

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.harness.answers import answer
from huahuo.app import loops
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.eventstore.core.log import StoreLog
from huahuo.eventstore.model import Append, NewEvent, StoredEvent
from huahuo.eventstore.replicated.writer import ReplicaWriter
from huahuo.eventstore.sequencer.address import LogAddress
from huahuo.eventstore.sequencer.opening import sequencer_at
from huahuo.eventstore.sqlite.open import SqliteLog
from huahuo.eventstore.sqlite.replica import open_log

KEY = bytes(32)
AT_ONCE = 32
"""Appends under way at each node."""
LONE = "lone"
"""The type of events whose way to other nodes is timed: their body says when they were made."""
_BODY = b'{"type":"parcel_progress","timestamp":"2026-01-01T00:00:00.000Z","email_id":1,"progress":75}'


def append(count: int, number: int) -> Append:
    """An append of `count` events, spread over streams."""
    events = tuple(NewEvent(f"user/{(number + n) % 100 + 1}", "parcel_progress", _BODY) for n in range(count))
    return Append(ts_ms=0, events=events, principal="service")


class Node:
    """See the module."""

    def __init__(self, log: StoreLog) -> None:
        self._log = log
        self._lags_s: list[float] = []
        log.listen(self._hear)

    async def lone(self, count: int) -> dict[str, Any]:
        """The times of appends that nothing else is under way with."""
        took_s = []
        for _ in range(count):
            began_s = time.perf_counter()
            body = json.dumps({"at": time.monotonic()}).encode()
            await self._log.append(Append(ts_ms=0, events=(NewEvent("user/1", LONE, body),), principal="s"))
            took_s.append(time.perf_counter() - began_s)
        return {"took_s": took_s}

    async def flood(self, size: int, seconds: float) -> dict[str, Any]:
        """How many events were appended, and the processor time of this process meanwhile."""
        calls = 0
        began_s, began_cpu_s = time.perf_counter(), time.process_time()

        async def caller() -> None:
            nonlocal calls
            while time.perf_counter() - began_s < seconds:
                calls += 1
                await self._log.append(append(size, calls))

        await asyncio.gather(*(caller() for _ in range(AT_ONCE)))
        return {
            "events": calls * size,
            "seconds": time.perf_counter() - began_s,
            "cpu_s": time.process_time() - began_cpu_s,
        }

    def lags(self) -> dict[str, Any]:
        """How long each event of other nodes was on its way, in seconds, since the last question."""
        lags_s, self._lags_s = self._lags_s, []
        return {"lags_s": lags_s}

    def _hear(self, events: Sequence[StoredEvent]) -> None:
        now_s = time.monotonic()
        for event in events:
            if event.type == LONE:
                self._lags_s.append(now_s - float(json.loads(event.body)["at"]))


async def opened(folder: Path, name: str, url: str) -> StoreLog:
    """The log of a node, or of a service alone where no ordered log is named."""
    ambient = SystemAmbient()
    if not url:
        return await SqliteLog.open(folder, ambient=ambient, master_key=KEY, build="bench")
    log = await open_log(
        folder, ambient=ambient, master_key=KEY, build="bench", node=name,
        sequencer=sequencer_at(LogAddress(url), ambient),
    )  # fmt: skip
    assert isinstance(log.writer, ReplicaWriter)
    await log.writer.joined()
    return log


async def serve(folder: Path, name: str, url: str) -> None:
    """Answer until the parent closes the pipe."""
    log = await opened(folder, name, url)
    node = Node(log)
    answer({})
    while line := await asyncio.to_thread(sys.stdin.readline):
        asked = json.loads(line)
        if "lone" in asked:
            answer(await node.lone(asked["lone"]))
        elif "flood" in asked:
            answer(await node.flood(asked["flood"], asked["seconds"]))
        else:
            answer(node.lags())
    await log.close()


def main() -> None:
    """The child."""
    folder, name, url = (*sys.argv[1:], "")[:3]
    loops.run(serve(Path(folder), name, url))


if __name__ == "__main__":
    main()
