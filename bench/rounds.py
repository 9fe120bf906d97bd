"""What the questions about connected clients share: rounds in own folders, open loops at some load."""

import contextlib
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import peers
from bench.peers import Peer, Running
from bench.processes import cores, move, pinned
from bench.receivers import Counts, Receivers, Script
from bench.sheets import Metric, Options, Sheet, interleaved

ARRIVE_TIMEOUT_S = 60
_RUN_S = 1.0
_QUICK_S = 0.1


type Clients = Callable[[Peer, Running, int], Script]
"""Opens this many connections."""
type Round = Callable[[str, Sheet, int, Running, Receivers, Options], None]
"""(case, sheet, connections, the system, its clients that are ready, options): measures, adds a row."""


def group(peer: Peer, running: Running, count: int) -> Script:
    """All read one stream."""
    return peer.group(running, count)


def feeds(peer: Peer, running: Running, count: int) -> Script:
    """Each reads its own stream."""
    return peer.feeds(running, count)


def run_s(options: Options) -> float:
    """How long a flood, and each load after it, goes on."""
    return _QUICK_S if options.quick else _RUN_S


def by_size(
    title: str,
    sizes: Iterable[int],
    metrics: Sequence[Metric],
    names: Sequence[str],
    clients: Clients,
    measure: Round,
    options: Options,
) -> list[Sheet]:
    """A sheet for each number of connections; `title` has a `{}` for it. `--connections` chooses others."""
    sheets = []
    for count in options.connections or sizes:
        sheet = Sheet(title.format(f"{count:,}"), metrics)
        by_peer(sheet, names, clients, count, measure, options)
        sheets.append(sheet)
    return sheets


def by_peer(
    sheet: Sheet,
    names: Sequence[str],
    clients: Clients,
    count: int,
    measure: Round,
    options: Options,
    *,
    apart: bool = False,
) -> None:
    """Rounds of every system with its clients. `apart`: on different cores, where there are two."""

    def one(case: str, folder: Path) -> None:
        peer = peers.ALL[case]()
        server, others = cores() if apart else (None, None)
        if apart and server is None:
            sheet.note("server and receivers share the cores")
        with contextlib.ExitStack() as stack:
            with pinned(server):
                running = stack.enter_context(peer.start(folder))
            if others is not None and running.control.pid not in running.pids:
                move(running.control.pid, others)  # it publishes to the server
            stack.enter_context(pinned(others))  # the harness looks on from there, too
            script = clients(peer, running, count)
            receivers = stack.enter_context(Receivers(script, folder, options.receiver))
            receivers.ready()
            measure(case, sheet, count, running, receivers, options)

    compare(sheet, names, options, one)


def compare(
    sheet: Sheet,
    names: Sequence[str],
    options: Options,
    one: Callable[[str, Path], None],
    *,
    once: Collection[str] = (),
) -> None:
    """Rounds of every system that is wanted and installed, in turns."""
    interleaved(peers.wanted(names, options, sheet), options, one, [sheet], once=once)


@dataclass(frozen=True)
class Calm:
    """What an open loop showed."""

    counts: Counts
    published: int
    late_p50_ms: float
    late_p99_ms: float
    """How long after it was due an event was published: part of every latency."""
    receivers_share: float
    """Of one core."""
    cpu_s: float
    """Of the server."""
    durable_p50_ms: float | None
    """From the publication of an event until it was durable, where the server can tell."""
    took_s: float

    def quantile_ms(self, share: float) -> float:
        """From the moment an event was due to its receipt."""
        return self.counts.quantile_ms(share)


def open_loop(
    running: Running,
    receivers: Receivers,
    field: str,
    before: int,
    per_s: float,
    seconds: float,
    arrive_s: float = ARRIVE_TIMEOUT_S,
    **command: Any,
) -> Calm:
    """Publish evenly for a while, and wait at most `arrive_s` until `field` has grown by it from `before`.

    Raises:
        AssertionError: not everything arrived in time.
    """
    count = max(1, int(per_s * max(seconds, 0.2)))
    start, cpu_s, server_s = receivers.counts(), receivers.cpu_s(), running.cpu_s()
    done = running.control.ask(per_s=per_s, count=count, **command)
    arrived(receivers, field, before + done["published"], arrive_s)
    took_s = (receivers.value("last_ns") - done["start_ns"]) / 1e9
    return Calm(
        receivers.counts() - start,
        done["published"],
        done["late_p50_ms"],
        done["late_p99_ms"],
        (receivers.cpu_s() - cpu_s) / took_s,
        running.cpu_s() - server_s,
        done.get("durable_p50_ms"),
        took_s,
    )


def arrived(receivers: Receivers, field: str, at_least: int, within_s: float = ARRIVE_TIMEOUT_S) -> None:
    """Wait until a figure of the receivers has grown so far, or fail."""
    assert receivers.until(field, at_least, within_s), f"not everything arrived within {within_s:g} s"
