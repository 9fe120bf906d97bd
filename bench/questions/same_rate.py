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

import math
from collections.abc import Callable
from functools import partial

from bench import rounds
from bench.peers import Running
from bench.receivers import Receivers
from bench.rounds import ARRIVE_TIMEOUT_S
from bench.sheets import Metric, Options, Sheet, client_note

PEERS = ("huahuo", "ws", "bun", "socket.io", "nats", "floor")
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
_STEP = 4.0
_NEAR = 1.15
"""The search ends when the lowest rate that failed is at most this many times the highest that did not."""


def run(options: Options) -> list[Sheet]:
    """See the module."""
    sheets = []
    for count, per_s in sizes(options, ((20, 50),) if options.quick else USUAL):
        sheet = Sheet(f"{count:,} connections at {per_s:g} events/s", METRICS)
        measure = partial(at_rate, per_s)
        rounds.by_peer(sheet, PEERS, rounds.group, count, measure, options, apart=True)
        sheets.append(sheet)
    return sheets


def sizes(options: Options, usual: tuple[tuple[int, float], ...]) -> list[tuple[int, float]]:
    """Connections and rates: each of those that were asked for with each, else the usual ones."""
    if options.rates:
        counts = options.connections or [count for count, _ in usual]
        return [(count, per_s) for count in counts for per_s in options.rates]
    known = dict(usual)
    return [(count, known.get(count, usual[0][1])) for count in options.connections or known]


def at_rate(
    per_s: float,
    case: str,
    sheet: Sheet,
    count: int,
    running: Running,
    receivers: Receivers,
    options: Options,
) -> None:
    """One round of one system whose clients are connected."""
    del count
    published = 0

    def rate(per_s: float, seconds: float, arrive_s: float) -> rounds.Calm:
        nonlocal published
        seconds = _QUICK_S if options.quick else seconds
        calm = rounds.open_loop(running, receivers, "lowest", published, per_s, seconds, arrive_s, cmd="rate")
        published += calm.published
        return calm

    rate(per_s, _WARM_S, ARRIVE_TIMEOUT_S)
    calm = rate(per_s, SECONDS, ARRIVE_TIMEOUT_S)
    p50_ms = calm.quantile_ms(0.5)
    durable = {} if calm.durable_p50_ms is None else {"durable": 100 * calm.durable_p50_ms / p50_ms}
    client_note(sheet, case, calm.receivers_share, 1.0)

    def bearable(per_s: float) -> bool | None:
        before = receivers.value("closed")
        try:
            probe = rate(per_s, _PROBE_S, _PROBE_ARRIVES_S)
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


def highest_rate(bearable: Callable[[float], bool | None], first: float, *, tries_max: int) -> float:
    """The highest rate found that is bearable, 0 if none was.

    `bearable`: None if the server is no longer fit to be asked. A rate is unbearable after two
    failures, because another process may have had the core for a moment.
    """
    best, worst, rate = 0.0, math.inf, first
    for _ in range(tries_max):
        answer = bearable(rate)
        if answer is False:
            answer = bearable(rate)
        if answer is None:
            break
        if answer:
            best = rate
        else:
            worst = rate
        if worst <= best * _NEAR:
            break
        if math.isinf(worst):
            rate *= _STEP
        else:
            rate = math.sqrt(best * worst) if best else worst / _STEP
    return best
