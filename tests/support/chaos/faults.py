"""Six kinds of faults, each healed again: of nodes, of servers of the log, of the network between them."""

import random
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from tests.support.chaos.relay import Network


class LogServer(Protocol):
    """A server of the ordered log."""

    def kill(self) -> None: ...

    def start(self) -> None: ...

    def send(self, number: signal.Signals) -> None: ...


class Node(Protocol):
    """A server of clients."""

    def kill(self) -> None: ...

    def stop(self) -> int: ...

    def start(self) -> None: ...

    def send(self, number: signal.Signals) -> None: ...


type Heal = Callable[[], None]


class Faults:
    """Breaks one thing at a time. `kinds` says how often each was done."""

    KINDS = ("kill node", "stop node", "freeze node", "cut node off", "kill server", "freeze server")

    def __init__(
        self,
        nodes: Mapping[str, Node],
        servers: Sequence[LogServer],
        network: Network,
        chance: random.Random,
    ) -> None:
        self._nodes = nodes
        self._servers = servers
        self._network = network
        self._chance = chance
        self._next = list(self.KINDS)
        self.kinds = dict.fromkeys(self.KINDS, 0)

    def begin(self) -> tuple[str, Heal]:
        """Do the next fault: each kind once, in an order by chance, then again. How to heal it."""
        if not self._next:
            self._next = list(self.KINDS)
        kind = self._next.pop(self._chance.randrange(len(self._next)))
        self.kinds[kind] += 1
        if kind.endswith("server"):
            number = self._chance.randrange(len(self._servers))
            return f"{kind} {number}", self._of_server(kind, self._servers[number])
        name = self._chance.choice(list(self._nodes))
        return f"{kind} {name}", self._of_node(kind, name)

    def _of_server(self, kind: str, server: LogServer) -> Heal:
        if kind == "kill server":
            server.kill()
            return server.start
        server.send(signal.SIGSTOP)
        return lambda: server.send(signal.SIGCONT)

    def _of_node(self, kind: str, name: str) -> Heal:
        node = self._nodes[name]
        if kind == "cut node off":
            self._network.cut(name)
            return lambda: self._network.heal(name)
        if kind == "freeze node":
            node.send(signal.SIGSTOP)
            return lambda: node.send(signal.SIGCONT)
        if kind == "kill node":
            node.kill()
        else:
            node.stop()
        return node.start
