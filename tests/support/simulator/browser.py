"""A model of a browser: one installation with tabs, of which one owns the connection.

Stored, as in IndexedDB, are the cursor of each stream, in one transaction with what was applied, and the
commands without an answer. The owner is the tab that holds the lock. If it crashes or is closed, the next tab
gets the lock and goes on at the stored cursors. If it is frozen, the lock is given away while its socket is
still open, and what it applies after it thaws is refused by the stored cursors.
"""

import asyncio
import contextlib
from random import Random
from typing import Any, Final

from tests.support.checkers.history import Applied, Door, Follower, History
from tests.support.simulator.asking import Asks
from tests.support.simulator.device import PARCELS_FOLLOWED, canary, digest_of, nonce_of
from tests.support.simulator.kept import Habits, Kept
from tests.support.simulator.node import Node
from tests.support.simulator.tab import Tab

TAB_S: Final = 20.0
"""Mean seconds that one tab owns the connection."""
FROZEN_S: Final = (5.0, 60.0)
PARCELS_MAX: Final = 2
TOKEN_S: Final = 10_000_000.0


class Browser(Asks):
    """See the module."""

    def __init__(
        self, node: Node, history: History, number: int, user: int, habits: Habits, pace_s: float
    ) -> None:
        self.node, self.user, self.habits = node, user, habits
        self.name = f"browser-{number}"
        self.kept = Kept()
        self.stored: dict[str, tuple[str, int]] = {}
        """By stream, (log, seq) of what was applied. It changes in one step with what was applied."""
        self.chance = Random(f"{self.name} {node.loop.seed}")
        self.pace_s = pace_s
        self.over = False
        self.owner: Tab | None = None
        self._history = history
        self._asked = asyncio.Event()
        self._host = node.loop.net.host(self.name)
        self._tokens = self._connections = 0
        self._doors: list[tuple[float, Door]] = []

    @property
    def online(self) -> bool:
        """Whether the tab that owns the connection is signed in."""
        return self.owner is not None and self.owner.online

    def switch_on(self) -> None:
        """Open the browser."""
        self._host.create_task(self._live())

    def restart(self) -> None:
        """The machine loses its power. What is stored stays."""
        self.owner = None
        self.node.loop.crash(self.name)
        self._host.restart()
        self.switch_on()

    def cut(self) -> None:
        """Reset the connection of the owner."""
        if self.owner is not None:
            self.owner.abort()

    def revoked(self, began_s: float) -> None:
        """Tokens that were made until `began_s` are worth nothing from now on."""
        for minted_s, door in self._doors:
            if minted_s <= began_s:
                door.until_s = min(door.until_s, self.node.loop.time())

    def streams(self) -> list[str]:
        """What it follows."""
        own = [f"parcel/{number}" for number in self.kept.parcels[-PARCELS_FOLLOWED:]]
        groups = [f"group/{name}" for name in self.habits.groups]
        return [f"user/{self.user}", "system", *groups, *own]

    # -- tabs

    async def _live(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._use())
            while True:
                self.owner = tab = Tab(self)
                owning = group.create_task(tab.own())
                await asyncio.wait({owning}, timeout=self.chance.expovariate(1 / TAB_S))
                self.node.marks.sometimes("tab took over", not owning.done())
                if owning.done():  # its user was signed out: they sign in again
                    await asyncio.sleep(self.chance.uniform(1.0, 2.0))
                    continue
                match self.chance.choice(("crash", "close", "freeze", "freeze")):
                    case "freeze":
                        tab.freeze()
                        self.node.loop.call_later(self.chance.uniform(*FROZEN_S), tab.thaw)
                    case "close":
                        with contextlib.suppress(TimeoutError):
                            async with asyncio.timeout(1.0):
                                await tab.leave()
                        owning.cancel()
                    case _:
                        tab.abort()
                        owning.cancel()

    async def _use(self) -> None:
        """Its user opens a parcel or two, and puts things into them."""
        while True:
            await asyncio.sleep(self.chance.expovariate(1 / self.pace_s))
            if self.over:
                return
            if len(self.kept.outbox) > 3:
                continue
            if len(self.kept.parcels) < PARCELS_MAX:
                self.waiting("open_parcel", "", {"text": f"{canary(self.user)}{self.name}"})
            else:
                parcel = self.chance.choice(self.kept.parcels)
                self.waiting("add_to_parcel", f"parcel/{parcel}", {"parcel_id": parcel})
            if self.owner is not None:
                self.owner.wake()

    # -- what a tab asks of it

    def sign_in(self) -> tuple[str, Door]:
        """A token, and the record of the connection that it is for."""
        self._tokens += 1
        now_s = self.node.loop.time()
        door = Door(self.name, now_s + TOKEN_S)
        self._history.doors.append(door)
        self._doors.append((now_s, door))
        jti = f"{self.name}-{self._tokens}"
        token = self.node.token(self.user, admin=False, groups=self.habits.groups, ttl_s=TOKEN_S, jti=jti)
        return token, door

    def came_online(self) -> None:
        """A tab is signed in."""
        self._connections += 1
        self._history.counts["reconnect"] += self._connections > 1

    def follower(self, stream: str) -> Follower:
        """The record of what is applied of a stream."""
        found = self.kept.followers.get(stream)
        if found is None:
            found = self.kept.followers[stream] = Follower(self.name, self.user, stream)
            self._history.followers.append(found)
        return found

    def placed(self, stream: str, after: int) -> None:
        """The service placed a connection behind `after`."""
        if stream in self.stored:
            self.follower(stream).applied.append(Applied(stream, after, "place"))

    def apply(
        self,
        base: tuple[str, int] | None,
        stream: str,
        log: str,
        seq: int,
        kind: str,
        body: dict[str, Any] | None = None,
        door: Door | None = None,
    ) -> bool:
        """One transaction: apply, and store the cursor, unless another tab has moved it from `base`."""
        if self.stored.get(stream) != base:
            return False
        self.stored[stream] = log, seq
        if body is None:
            self.follower(stream).applied.append(Applied(stream, seq, kind, log=log))
            return True
        digest = digest_of(body)
        nonce, at_s = nonce_of(body, digest), self.node.loop.time()
        one = Applied(stream, seq, "event", body["type"], nonce, at_s, log, digest, "browser")
        self.follower(stream).applied.append(one)
        self._history.counts["delivery"] += 1
        if door is not None:
            door.got.append((stream, seq))
        return True

    def replied(self, reply: dict[str, Any]) -> None:
        """An answer to a command."""
        one = next((each for each in self.kept.outbox if each.asked.command == reply.get("id")), None)
        if one is None:
            return
        if reply["type"] == "error":
            self._answered(one, "fail", reply["code"])
            return
        self._done(one, reply)
        number = reply.get("parcel_id")
        if isinstance(number, int) and number not in self.kept.parcels:
            self.kept.parcels.append(number)
