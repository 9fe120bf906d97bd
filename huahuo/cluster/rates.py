"""Rates that hold over all nodes: each node tells the others what its users and addresses took.

A node that hears of it takes as much from its own count, so all of them together give what one would. What is
told is a quarter of a second old: only what comes to several nodes within that time is more, once, and is
missing afterwards. What could not be told is dropped: after a second it means nothing any more.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Final, Protocol

import msgspec

from huahuo.cluster.errors import NodeError
from huahuo.cluster.peers import Peers
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.cancelling import cancel_all

REQUEST: Final = "rates"
TURN_S: Final = 0.25
TIMEOUT_S: Final = 1.0
BYTES_A_RATE: Final = 128 << 10
"""Of a message. If there is more, the keys that took most are told."""
_A_KEY_BYTES: Final = 12
"""Besides its characters: their length, and the count."""


class Rate(Protocol):
    """One limit. `spent`: what each key took here, not told to other nodes yet; None while there are none."""

    spent: Counter[str] | None

    def charge(self, key: str, count: int, now_s: float) -> None:
        """A key took as much on another node."""
        ...


class Took(msgspec.Struct, frozen=True):
    """What a node's keys took since it was told last, by the name of the rate."""

    rates: dict[str, dict[str, int]]


class Thanks(msgspec.Struct, frozen=True):
    """The answer."""


class Rates:
    """See the module. Nothing is counted for others before `start`."""

    def __init__(self, peers: Peers, ambient: Ambient, rates: Mapping[str, Rate]) -> None:
        self._peers = peers
        self._ambient = ambient
        self._rates = rates
        self._owed: dict[str, dict[str, Counter[str]]] = {}
        """What other nodes are not told yet, because the request before is still under way."""
        self._telling: dict[str, asyncio.Task[None]] = {}
        self._turning: asyncio.Task[None] | None = None
        peers.on(REQUEST, Took, self._heard)

    def start(self) -> None:
        """Count, and tell from now on."""
        for rate in self._rates.values():
            rate.spent = Counter()
        self._turning = asyncio.create_task(self._turn(), name="rates of all nodes")

    async def stop(self) -> None:
        """Tell no more. Idempotent."""
        for rate in self._rates.values():
            rate.spent = None
        turning, self._turning = self._turning, None
        tasks = [*self._telling.values(), *([] if turning is None else [turning])]
        self._telling.clear()
        await cancel_all(tasks, 1.0)

    def turn(self) -> list[asyncio.Task[None]]:
        """Begin to tell each node what was taken since. Returns the requests that are under way."""
        self._gather()
        for node in self._owed.keys() - self._telling.keys():
            task = asyncio.create_task(self._tell(node, self._owed.pop(node)), name=f"rates to {node}")
            self._telling[node] = task
            task.add_done_callback(partial(self._told, node))
        return list(self._telling.values())

    async def _turn(self) -> None:
        while True:
            await asyncio.sleep(TURN_S)
            self.turn()

    def _gather(self) -> None:
        """Note what was taken for each node that lives. Those that do not are owed nothing."""
        living = self._peers.living()
        self._owed = {node: owed for node, owed in self._owed.items() if node in living}
        for name, rate in self._rates.items():
            spent, rate.spent = rate.spent, Counter()
            if spent:
                for node in living:
                    self._owed.setdefault(node, {}).setdefault(name, Counter()).update(spent)

    async def _tell(self, node: str, owed: Mapping[str, Counter[str]]) -> None:
        took = Took({name: most(spent) for name, spent in owed.items()})
        with contextlib.suppress(NodeError):  # `telling` says in the log which node can't be reached
            await self._peers.ask(node, REQUEST, took, Thanks, timeout_s=TIMEOUT_S)

    def _told(self, node: str, _task: asyncio.Task[None]) -> None:
        self._telling.pop(node, None)

    async def _heard(self, _node: str, took: Took) -> Thanks:
        now_s = self._ambient.monotonic_s()
        for name, spent in took.rates.items():
            rate = self._rates.get(name)
            if rate is not None:  # a newer node may have more of them
                for key, count in spent.items():
                    rate.charge(key, count, now_s)
        return Thanks()


def most(spent: Mapping[str, int]) -> dict[str, int]:
    """The keys that took most, at most as many as fit a message."""
    told, size = {}, 0
    for key, count in sorted(spent.items(), key=lambda one: one[1], reverse=True):
        size += len(key.encode()) + _A_KEY_BYTES
        if size > BYTES_A_RATE:
            break
        told[key] = count
    return told
