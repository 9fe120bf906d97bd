"""Several real nodes (`huahuo serve --log …`) over one ordered log, and what a client does with them.

with nodes(tmp_path, order.url) as cluster:
    one, other = cluster.add("a"), cluster.add("b")
    publish(one, 0)
    until(lambda: history(other) == [0], other.log)
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx

from tests.support import patience
from tests.support.drivers.http import ask
from tests.support.patience import WITHIN_S
from tests.support.servers.serving import Serving, serving


class Nodes:
    """Some nodes over one ordered log, each with a directory and a port of its own."""

    def __init__(self, root: Path, log: str, stack: contextlib.ExitStack) -> None:
        self.root = root
        self.log = log
        self._stack = stack

    def add(self, node: str, name: str | None = None, *, is_ready: bool = True, **environ: str) -> Serving:
        """Start one more; `name`: that it says, else that of its directory. `environ`: more of its own.

        `is_ready`: wait until it is.
        """
        stderr = self.root / f"{node}.log"
        settings = {"HUAHUO_LOG": self.log, "HUAHUO_NODE": name or node} | environ
        made = serving(self.root / node, stderr=stderr, app=None, folder=None, **settings)
        found = self._stack.enter_context(made)
        if is_ready:
            until(lambda: ready(found) == "ready", found.log)
        return found


@contextlib.contextmanager
def nodes(root: Path, log: str) -> Iterator[Nodes]:
    """`log`: the address of the ordered log."""
    with contextlib.ExitStack() as stack:
        yield Nodes(root, log, stack)


def ready(node: Serving) -> str:
    """What `/readyz` says."""
    try:
        return ask(f"{node.url}/readyz").text.strip()
    except httpx.TransportError as error:
        return f"no answer: {error}"


def publish(node: Serving, number: int, within_s: float = WITHIN_S) -> float:
    """Publish until it is acknowledged; returns how long that took."""
    event = {"stream": "group/ops", "type": "counted", "fields": {"n": number}}
    token, key = node.token(1, "root", admin=True), {"Idempotency-Key": f"n-{number}"}
    began_s = time.monotonic()
    while True:
        with contextlib.suppress(httpx.TransportError):
            if ask(f"{node.url}/publish", token, json=event, headers=key).is_success:
                return time.monotonic() - began_s
        assert time.monotonic() - began_s < within_s, node.log()[-2000:]
        time.sleep(0.1)


def history(node: Serving) -> list[int]:
    """What the node delivers."""
    url = f"{node.url}/streams/group/ops?after=start&limit=1000"
    return [event["n"] for event in ask(url, node.token(1, "root", admin=True)).json()["events"]]


def until(true: Callable[[], bool], told: Callable[[], object]) -> None:
    """`patience.until`, for what several nodes must agree on."""
    patience.until(true, told, 2 * WITHIN_S)
