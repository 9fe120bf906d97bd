"""What the questions about connected clients share: rounds in own folders, open loops at some load."""

import contextlib
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.clients.receivers import Receivers, Receiving
from bench.clients.report import Counts
from bench.clients.script import Script
from bench.harness.harness import Metric, Options, Sheet, interleaved
from bench.servers import peers
from bench.servers.peers.base import Driven, Peer, Running

ARRIVE_TIMEOUT_S = 60
_RUN_S = 1.0
_QUICK_S = 0.1


type Round = Callable[[str, Sheet, int, Path, Options], None]
"""(case, sheet, connections, empty folder that is removed afterwards, options): measures, adds a row."""


def run_s(options: Options) -> float:
    """How long a flood, and each load after it, goes on."""
    return _QUICK_S if options.quick else _RUN_S


def by_size(
    title: str,
    sizes: Iterable[int],
    metrics: Sequence[Metric],
    names: Sequence[str],
    one: Round,
    options: Options,
) -> list[Sheet]:
    """A sheet for each number of connections; `title` has a `{}` for it. `--connections` chooses others."""
    sheets = []
    for count in options.connections or sizes:
        sheet = Sheet(title.format(f"{count:,}"), metrics)
        compare(
            sheet,
            names,
            options,
            lambda case, folder, sheet=sheet, count=count: one(case, sheet, count, folder, options),  # type: ignore[misc]
        )
        sheets.append(sheet)
    return sheets


def compare(
    sheet: Sheet,
    names: Sequence[str],
    options: Options,
    one: Callable[[str, Path], None],
    *,
    once: Collection[str] = (),
) -> None:
    """Rounds of every system that is wanted and installed, in turns, each in an empty folder."""

    def measure(case: str) -> None:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            one(case, Path(folder))

    interleaved(peers.wanted(names, options, sheet), options.rounds, measure, [sheet], once=once)


@contextlib.contextmanager
def connected(
    case: str, folder: Path, options: Options, script: Callable[[Peer, Running], Script]
) -> Iterator[tuple[Running, Receivers]]:
    """A started system with its clients, all of them ready."""
    peer = peers.ALL[case]()
    with (
        peer.start(folder) as running,
        Receivers(script(peer, running), folder, command=options.receiver) as receivers,
    ):
        receivers.ready()
        yield running, receivers


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
    running: Driven,
    receivers: Receiving,
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


def arrived(receivers: Receiving, field: str, at_least: int, within_s: float = ARRIVE_TIMEOUT_S) -> None:
    """Wait until a figure of the receivers has grown so far, or fail."""
    assert receivers.until(field, at_least, within_s), f"not everything arrived within {within_s:g} s"
