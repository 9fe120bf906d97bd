"""How many durable events a second reach 500 and 5,000 users who each have a stream of their own?

The guess before the first run: 30,000 events a second end to end, bound by the loop's thread (an append,
a frame and a system call for each), against 100,000 of Socket.IO's rooms, which keep nothing, and 3,000 of
JetStream that syncs each message; at half load a p99 of 10 ms.

One event to every user in turn, each published by itself, with as many in flight as there are users, for a
while; the clock stops when the last one has arrived. Then 10 %, 50 % and 90 % of that rate as an open loop.
"""

import tempfile
import time
from pathlib import Path

from bench import peers
from bench.clients.receivers import Receivers
from bench.harness import Metric, Options, Sheet, client_note, interleaved

PEERS = ("huahuo", "socket.io", "nats", "jetstream", "jetstream-default", "centrifugo")
LOADS = (10, 50, 90)
METRICS = (
    Metric("events", "1/s", compare=True),
    Metric("cpu", "server µs/event", higher_is_better=False),
    *(
        Metric(f"p{quantile}_at_{load}", "ms", higher_is_better=False, compare=(load, quantile) == (50, 99))
        for load in LOADS
        for quantile in (50, 99)
    ),
    Metric("lost", higher_is_better=False),
    Metric("doubled", higher_is_better=False),
)


def run(options: Options) -> list[Sheet]:
    """See the module."""
    sheets = []
    for users in (20,) if options.quick else (500, 5000):
        sheet = Sheet(f"private feeds of {users:,} users", METRICS)
        cases = peers.wanted(PEERS, options, sheet)
        seconds = 0.1 if options.quick else 1.5

        def measure(case: str, sheet: Sheet = sheet, users: int = users, seconds: float = seconds) -> None:
            with tempfile.TemporaryDirectory(dir=options.folder) as folder:
                one(case, sheet, users, seconds, Path(folder), options)

        interleaved(cases, options.rounds, measure, [sheet])
        sheets.append(sheet)
    return sheets


def one(case: str, sheet: Sheet, users: int, seconds: float, folder: Path, options: Options) -> None:
    """One round of one system."""
    peer = peers.ALL[case]()
    with peer.start(folder) as running:
        script = peer.feeds(running, users)
        with Receivers(script, folder, command=options.receiver) as receivers:
            receivers.ready()
            cpu, client_cpu = running.cpu_s(), receivers.cpu_s()
            done = running.control.ask(cmd="feeds", users=users, in_flight=users, seconds=seconds)
            published = done["published"]
            assert receivers.until("events", published, 60), "not everything arrived within 60 s"
            took_s = (receivers.report.value("last_ns") - done["start_ns"]) / 1e9
            cpu, client_cpu = running.cpu_s() - cpu, receivers.cpu_s() - client_cpu
            client_note(sheet, case, client_cpu, took_s)
            figures = {"events": published / took_s, "cpu": cpu / published * 1e6}
            for load in LOADS:
                per_s = published / took_s * load / 100
                count = max(1, int(per_s * max(seconds, 0.2)))
                before = receivers.counts()
                running.control.ask(cmd="feeds_rate", users=users, per_s=per_s, count=count)
                published += count
                assert receivers.until("events", published, 60), "not everything arrived within 60 s"
                calm = receivers.counts() - before
                figures |= {f"p{q}_at_{load}": calm.quantile_ms(q / 100) for q in (50, 99)}
                time.sleep(0.1)
            counts = receivers.counts()
    sheet.add(case, **figures, lost=counts.lost, doubled=counts.doubled)
