"""What does a delivery cost when events come one by one, at the same rate for every server?

The guess before the first run: 500 connections at 100 events a second cost 13 to 19 µs of the server's
processor a delivery, twice the floor of plain sends in C and 1.5 times Bun; the p99 is twice that of `ws`,
and the highest rate whose p99 stays within 50 ms is 20 times that of `ws`.

An open loop publishes each event by itself at a fixed rate, and latency counts from the moment the event was
due. The server runs on one core and the receivers (in C) on another, where there are two; publishers that are
processes of their own run with the receivers. huahuo commits each event to its log first, and its clients ack
as the browser client does: half a window at once, all else within 250 ms.

`cpu` is all processor time of the server while the events went through, with the work on acks and, in huahuo,
Node and Bun, the publishing. If the machine is so busy that events wait, `events_a_frame` is more than 1 and
`cpu` says less. `durable` is the share of the median latency that passed before the event was durable.
`capacity` is found by trying: the highest rate whose p99 is at most 50 ms, in steps of 15 %.

    python -m bench same_rate --connections 500,5000 --rate 20,100 --peers ws,bun,floor

measures each rate with each number of connections.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from bench.clients.receivers import Receivers
from bench.clients.script import Script
from bench.harness import cores
from bench.harness.harness import Metric, Options, Sheet, client_note
from bench.questions import rounds
from bench.questions.capacity import highest_rate
from bench.questions.rounds import Calm
from bench.servers import peers
from bench.servers.peers.base import Peer, Running

PEERS = (
    "huahuo",
    "huahuo-transport",
    "ws",
    "bun",
    "socket.io",
    "nats",
    "floor",
)
USUAL = ((500, 100), (5_000, 20))
"""Connections, events a second."""
METRICS = (
    Metric("cpu", "server µs/delivery", higher_is_better=False, compare=True),
    Metric("p50", "ms", higher_is_better=False),
    Metric("p99", "ms", higher_is_better=False, compare=True),
    Metric("durable", "% of p50 until durable", higher_is_better=False),
    Metric("capacity", "events/s with p99 ≤ 50 ms", compare=True),
    Metric("events_a_frame"),
    Metric("server", "% of a core", higher_is_better=False),
    Metric("receivers", "% of a core", higher_is_better=False),
    Metric("late_p99", "ms until published", higher_is_better=False),
    Metric("lost", higher_is_better=False),
    Metric("doubled", higher_is_better=False),
)
SECONDS = 3.0
_PROBE_S = 1.0
_WARM_S = 0.5
_QUICK_S = 0.2
_PROBE_ARRIVES_S = 15

type Rate = Callable[[float, float, float], Calm]
"""(events a second, seconds, within how many seconds all must arrive): publish so, and say what came."""


def run(options: Options) -> list[Sheet]:
    """See the module."""
    usual = ((20, 50),) if options.quick else USUAL
    sheets = []
    for count, per_s in sizes(options, usual):
        sheet = Sheet(f"{count:,} connections at {per_s:g} events/s", METRICS)

        group = partial(_group, count)
        compare(sheet, PEERS, per_s, options, group, "lowest", cmd="rate")
        sheets.append(sheet)
    return sheets


def _group(count: int, peer: Peer, running: Running) -> Script:
    return peer.group(running, count)


def compare(
    sheet: Sheet, names: Sequence[str], per_s: float, options: Options,
    script: Callable[[Peer, Running], Script], counted: str, **command: object,
) -> None:  # fmt: skip
    """Fill a sheet.

    `script` makes the clients, `counted` is their counter of what came, `command` is the publisher's.
    """

    def one(case: str, folder: Path) -> None:
        with connected(case, sheet, folder, options, script) as (running, receivers):
            published = 0

            def rate(per_s: float, seconds: float, arrive_s: float) -> Calm:
                nonlocal published
                calm = rounds.open_loop(
                    running, receivers, counted, published, per_s, seconds, arrive_s, **command
                )
                published += calm.published
                return calm

            measure(case, sheet, per_s, receivers, rate, options)

    rounds.compare(sheet, names, options, one)


def sizes(options: Options, usual: tuple[tuple[int, float], ...]) -> list[tuple[int, float]]:
    """Connections and rates: each of those that were asked for with each, else the usual ones."""
    if options.rates is not None:
        counts = options.connections or [count for count, _ in usual]
        return [(count, per_s) for count in counts for per_s in options.rates]
    if options.connections is None:
        return list(usual)
    known = dict(usual)
    return [(count, known.get(count, usual[0][1])) for count in options.connections]


@contextlib.contextmanager
def connected(
    case: str, sheet: Sheet, folder: Path, options: Options, script: Callable[[Peer, Running], Script]
) -> Iterator[tuple[Running, Receivers]]:
    """A started system on one core and its clients on the other, all of them ready."""
    found = cores.pair()
    if found is None:
        sheet.note("server and receivers share the cores")
    server, clients = found if found is not None else (None, None)
    with contextlib.ExitStack() as stack:
        with cores.pinned(server):
            running = stack.enter_context(peers.ALL[case]().start(folder))
        if clients is not None and running.control.pid not in running.pids:
            cores.move(running.control.pid, clients)  # it publishes to the server
        stack.enter_context(cores.pinned(clients))  # the harness looks on from there, too
        receivers = stack.enter_context(
            Receivers(script(peers.ALL[case](), running), folder, command=options.receiver)
        )
        receivers.ready()
        yield running, receivers


def measure(
    case: str, sheet: Sheet, per_s: float, receivers: Receivers, rate: Rate, options: Options
) -> None:
    """One round of one system whose clients are connected."""
    rate(per_s, _QUICK_S if options.quick else _WARM_S, rounds.ARRIVE_TIMEOUT_S)
    seconds = _QUICK_S if options.quick else SECONDS
    calm = rate(per_s, seconds, rounds.ARRIVE_TIMEOUT_S)
    p50_ms = calm.quantile_ms(0.5)
    durable = {} if calm.durable_p50_ms is None else {"durable": 100 * calm.durable_p50_ms / p50_ms}
    client_note(sheet, case, calm.receivers_share, 1.0)

    def bearable(per_s: float) -> bool | None:
        before = receivers.value("closed")
        try:
            probe = rate(per_s, _QUICK_S if options.quick else _PROBE_S, _PROBE_ARRIVES_S)
        except (AssertionError, TimeoutError):
            return None
        return probe.quantile_ms(0.99) <= 50 if receivers.value("closed") == before else None

    counts = receivers.counts()
    capacity = {}
    if options.capacity:
        capacity["capacity"] = highest_rate(bearable, per_s, tries_max=2 if options.quick else 14)
    sheet.add(
        case,
        cpu=calm.cpu_s / max(calm.counts.events, 1) * 1e6,
        p50=p50_ms,
        p99=calm.quantile_ms(0.99),
        **durable,
        **capacity,
        events_a_frame=calm.counts.events / max(calm.counts.frames, 1),
        server=100 * calm.cpu_s / calm.took_s,
        receivers=100 * calm.receivers_share,
        late_p99=calm.late_p99_ms,
        lost=counts.lost,
        doubled=counts.doubled,
    )
