"""Does one client that is 1,000,000 events behind catch up without hurting 500 others?

The guess before the first run: 250,000 events a second for the one that returns, since pages of 256 events
are read in a thread and framed once; the p99 of the others up by half, since every page takes the
interpreter's lock for a while.

500 clients read a group that gets 200 events a second, first for themselves, then while one client
resumes its own stream from the beginning.
"""

import threading
import time
from pathlib import Path

from bench.clients.receivers import Receivers
from bench.harness.harness import OURS, Metric, Options, Sheet, client_note
from bench.questions.rounds import compare
from bench.servers.peers.huahuo import Huahuo

LIVE_PER_S = 200
USER = 1
METRICS = (
    Metric("events", "1/s for the one behind"),
    Metric("took", "s", higher_is_better=False),
    Metric("p99_before", "ms for the others", higher_is_better=False),
    Metric("p99_meanwhile", "ms for the others", higher_is_better=False),
    Metric("moved", "% of p99", higher_is_better=False),
    Metric("lost", higher_is_better=False),
    Metric("doubled", higher_is_better=False),
)


def run(options: Options) -> list[Sheet]:
    """See the module."""
    behind, others = (5_000, 10) if options.quick else (1_000_000, 500)
    sheet = Sheet(f"one client {behind:,} events behind, {others} others live", METRICS)
    compare(sheet, [OURS], options, lambda _, folder: one(sheet, behind, others, folder, options))
    return [sheet]


def one(sheet: Sheet, behind: int, others: int, folder: Path, options: Options) -> None:
    """One round."""
    peer = Huahuo()
    seconds = 0.3 if options.quick else 3.0
    with peer.start(folder) as running:
        running.control.ask(timeout_s=300, cmd="fill", users=USER, first=1, each=behind)
        with Receivers(peer.group(running, others), folder, command=options.receiver) as live:
            live.ready()
            count = int(LIVE_PER_S * seconds)
            start = live.counts()
            running.control.ask(cmd="rate", per_s=LIVE_PER_S, count=count)
            assert live.until("lowest", count, 30), "the live events did not arrive"
            before = live.counts() - start

            rate = threading.Thread(
                target=running.control.ask,
                kwargs={"timeout_s": 120, "cmd": "rate", "per_s": LIVE_PER_S, "count": count},
            )
            script = peer.feeds(running, USER, cursors=[0], goal=behind)
            began_ns, start = time.monotonic_ns(), live.counts()
            rate.start()
            with Receivers(script, folder, command=options.receiver) as deep:
                assert deep.until("done", 1, 120), "the one behind was not caught up within 120 s"
                took_s = (deep.value("last_ns") - began_ns) / 1e9
                client_note(sheet, "the one behind", deep.cpu_s(), took_s)
                meanwhile = live.counts() - start
                counts = deep.counts()
            rate.join()
            assert live.until("lowest", 2 * count, 30), "the live events did not arrive"
            others_counts = live.counts()
    p99, p99_meanwhile = before.quantile_ms(0.99), meanwhile.quantile_ms(0.99)
    sheet.add(
        OURS,
        events=behind / took_s,
        took=took_s,
        p99_before=p99,
        p99_meanwhile=p99_meanwhile,
        moved=(p99_meanwhile / p99 - 1) * 100,
        lost=counts.lost + others_counts.lost,
        doubled=counts.doubled + others_counts.doubled,
    )
