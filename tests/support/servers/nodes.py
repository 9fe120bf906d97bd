"""Several real nodes (`huahuo serve --log …`) over one ordered log, and what a client does with them.

with nodes(tmp_path, order.url) as cluster:
    one, other = cluster.add("a"), cluster.add("b")
    publish(one, 0)
    until(lambda: history(other) == [0], other.log)
"""

import contextlib
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.support import patience
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
        with urllib.request.urlopen(f"{node.url}/readyz", timeout=5) as answer:
            return str(answer.read().decode().strip())
    except urllib.error.HTTPError as error:
        with error:
            return error.read().decode().strip()
    except OSError as error:
        return f"no answer: {error}"


def publish(node: Serving, number: int, within_s: float = WITHIN_S) -> float:
    """Publish until it is acknowledged; returns how long that took."""
    body = json.dumps({"stream": "group/ops", "type": "counted", "fields": {"n": number}}).encode()
    began_s = time.monotonic()
    headers = {
        "Authorization": f"Bearer {node.token(1, 'root', admin=True)}",
        "Content-Type": "application/json",
        "Idempotency-Key": f"n-{number}",
    }
    while True:
        request = urllib.request.Request(f"{node.url}/publish", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=WITHIN_S) as answer:
                answer.read()
        except OSError as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            assert time.monotonic() - began_s < within_s, node.log()[-2000:]
            time.sleep(0.1)
        else:
            return time.monotonic() - began_s


def history(node: Serving) -> list[int]:
    """What the node delivers."""
    headers = {"Authorization": f"Bearer {node.token(1, 'root', admin=True)}"}
    request = urllib.request.Request(f"{node.url}/streams/group/ops?after=start&limit=1000", None, headers)
    with urllib.request.urlopen(request, timeout=WITHIN_S) as answer:
        return [event["n"] for event in json.load(answer)["events"]]


def until(true: Callable[[], bool], told: Callable[[], object]) -> None:
    """`patience.until`, for what several nodes must agree on."""
    patience.until(true, told, 2 * WITHIN_S)
