"""How many durable events a second reach 500 and 5,000 users that each have a stream of their own?

The guess before the first run: 30,000 events a second end to end, bound by the loop's thread (an append,
a frame and a system call for each), against 100,000 of Socket.IO's rooms, which keep nothing, and 3,000 of
JetStream that syncs each message; at half load a p99 of 10 ms.

One event to every user in turn, each published by itself, with 5,000 in flight for 500 users and for
5,000 (in the first runs there were as many in flight as users; the guess was not changed). The clock stops
when the last one has arrived. Then 10 %, 50 % and 90 % of that rate as an open loop.
"""

from collections.abc import Sequence

from bench import rounds
from bench.peers import Running
from bench.receivers import Receivers
from bench.sheets import Metric, Options, Sheet, client_note

PEERS = ("huahuo", "socket.io", "nats", "jetstream", "jetstream-default")
IN_FLIGHT = 5_000
LOADS = (10, 50, 90)
METRICS = (
    Metric("events", "1/s", compare=True),
    Metric("cpu", "server µs/event", higher_is_better=False),
    *(
        Metric(f"p{quantile}_at_{load}", "ms", higher_is_better=False, compare=(load, quantile) == (50, 99))
        for load in LOADS
        for quantile in (50, 99)
    ),
    Metric("late_p50", "ms until published, at 50", higher_is_better=False),
    Metric("late_p99", "ms", higher_is_better=False),
    Metric("receivers", "% of a core at 50", higher_is_better=False),
    Metric("lost", higher_is_better=False),
    Metric("doubled", higher_is_better=False),
)


def run(options: Options) -> list[Sheet]:
    """See the module."""
    sizes = (20,) if options.quick else (500, 5000)
    return rounds.by_size("private feeds of {} users", sizes, METRICS, PEERS, rounds.feeds, measure, options)


def measure(
    case: str,
    sheet: Sheet,
    users: int,
    running: Running,
    receivers: Receivers,
    options: Options,
    loads: Sequence[int] = LOADS,
) -> None:
    """All measurements with connected users."""
    cpu, client_cpu = running.cpu_s(), receivers.cpu_s()
    seconds = rounds.run_s(options)
    in_flight = 2 * users if options.quick else IN_FLIGHT
    done = running.control.ask(cmd="feeds", users=users, in_flight=in_flight, seconds=seconds)
    published = done["published"]
    rounds.arrived(receivers, "events", published)
    took_s = (receivers.value("last_ns") - done["start_ns"]) / 1e9
    cpu, client_cpu = running.cpu_s() - cpu, receivers.cpu_s() - client_cpu
    client_note(sheet, case, client_cpu, took_s)
    figures = {"events": published / took_s, "cpu": cpu / published * 1e6}
    for load in loads:
        per_s = figures["events"] * load / 100
        calm = rounds.open_loop(
            running, receivers, "events", published, per_s, seconds, cmd="feeds_rate", users=users
        )
        published += calm.published
        figures |= {f"p{q}_at_{load}": calm.quantile_ms(q / 100) for q in (50, 99)}
        if load == 50:
            figures |= {"late_p50": calm.late_p50_ms, "late_p99": calm.late_p99_ms}
            figures["receivers"] = 100 * calm.receivers_share
    counts = receivers.counts()
    sheet.add(case, **figures, lost=counts.lost, doubled=counts.doubled)
