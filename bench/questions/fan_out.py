"""How many deliveries a second does one group stream reach with 500 and with 5,000 connections?

The guess before the first run: 3,000,000 deliveries a second to 500 connections, since runs of events
are framed once and shared; 10× core NATS and 30× Socket.IO, which frame every event for itself; at half
load a p99 of 5 ms from publication to receipt, most of it the commit.

Every system publishes the same progress event as fast as it goes, ahead of the slowest receiver by what
arrives within a second (8 to 4,096 events). huahuo commits every event to its log first (fsync, chain) and
its clients ack; the others keep nothing. Then each publishes at half the rate it reached, and the time
from the moment an event was due to its receipt is taken.
"""

import time

from bench import rounds
from bench.peers import Running
from bench.receivers import Receivers
from bench.sheets import Metric, Options, Sheet, client_note

AHEAD_MAX = 4096
AHEAD_MIN = 8
AHEAD_S = 1.0
"""How many events are on their way doubles while they all arrive within this time, within those bounds."""
WARM = 0.7
"""The warm-up of a flood, as a share of the time that is measured after it."""

PEERS = ("huahuo", "socket.io", "ws", "nats")
METRICS = (
    Metric("deliveries", "1/s", compare=True),
    Metric("cpu", "server µs/delivery", higher_is_better=False, compare=True),
    Metric("events_a_frame"),
    Metric("frame", "mean bytes"),
    Metric("p50", "ms at half load", higher_is_better=False),
    Metric("p99", "ms at half load", higher_is_better=False, compare=True),
    Metric("late_p50", "ms until published", higher_is_better=False),
    Metric("late_p99", "ms", higher_is_better=False),
    Metric("receivers", "% of a core at half load", higher_is_better=False),
    Metric("lost", higher_is_better=False),
    Metric("doubled", higher_is_better=False),
)
_STEP_S = 0.002


def run(options: Options) -> list[Sheet]:
    """See the module."""
    sizes = (20,) if options.quick else (500, 5000)
    return rounds.by_size("fan-out to {} connections", sizes, METRICS, PEERS, rounds.group, measure, options)


def measure(
    case: str, sheet: Sheet, count: int, running: Running, receivers: Receivers, options: Options
) -> None:
    """Everything about a group whose members are connected."""
    seconds = rounds.run_s(options)
    published, reached = flood(running, receivers, count, seconds, case, sheet)
    rounds.arrived(receivers, "lowest", published)
    per_s = max(1.0, reached / 2)
    calm = rounds.open_loop(running, receivers, "lowest", published, per_s, seconds, cmd="rate")
    counts = receivers.counts()
    sheet.add(
        case,
        p50=calm.quantile_ms(0.5),
        p99=calm.quantile_ms(0.99),
        late_p50=calm.late_p50_ms,
        late_p99=calm.late_p99_ms,
        receivers=100 * calm.receivers_share,
        lost=counts.lost,
        doubled=counts.doubled,
    )


def flood(
    running: Running, receivers: Receivers, count: int, seconds: float, case: str, sheet: Sheet
) -> tuple[int, float]:
    """Publish as fast as it goes for a while; returns how many events, and how many a second arrived."""
    control = running.control
    target = ahead = AHEAD_MIN
    control.send(cmd="upto", n=target)
    start_s = time.monotonic()
    warm_s = seconds * WARM
    grown, grown_s = target, 0.0
    before, cpu, client_cpu, before_s = receivers.counts(), 0.0, 0.0, 0.0
    while True:
        time.sleep(_STEP_S)
        now_s = time.monotonic() - start_s
        if not before_s and now_s > warm_s:
            before, before_s = receivers.counts(), now_s
            cpu, client_cpu = running.cpu_s(), receivers.cpu_s()
        if now_s > warm_s + seconds:
            break
        lowest = receivers.value("lowest")
        if lowest >= grown:
            ahead = min(AHEAD_MAX, ahead * 2) if now_s - grown_s < AHEAD_S else max(AHEAD_MIN, ahead // 2)
            grown, grown_s = lowest + ahead, now_s
        if lowest + ahead >= target + ahead // 8:
            target = max(target, lowest + ahead)
            control.send(cmd="upto", n=target)
    after = receivers.counts() - before
    took_s = time.monotonic() - start_s - before_s
    cpu, client_cpu = running.cpu_s() - cpu, receivers.cpu_s() - client_cpu
    client_note(sheet, case, client_cpu, took_s)
    events = max(after.events, 1)
    sheet.add(
        case,
        deliveries=after.events / took_s,
        cpu=cpu / events * 1e6,
        events_a_frame=after.events / max(after.frames, 1),
        frame=after.bytes / max(after.frames, 1),
    )
    return target, after.events / took_s / count
