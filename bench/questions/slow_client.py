"""What does one client that reads nothing cost the server and the 499 others?

The guess before the first run: nothing: its cursor does not move, so memory grows by one write buffer
(256 KiB) and the others' p99 stays. Socket.IO and `websockets.broadcast` keep everything for it in memory;
NATS cuts it off at 64 MiB.

100 events of 8 KiB a second to 500 clients that read, then the same while one of them does not.
"""

from pathlib import Path

from bench.clients.receivers import Receivers
from bench.harness.harness import OURS, Metric, Options, Sheet, client_note
from bench.harness.procs import resident_bytes
from bench.questions.rounds import arrived, compare
from bench.servers import peers

PEERS = (OURS, "socket.io", "websockets", "nats")
PER_S = 100.0
PAD_BYTES = 8 << 10
METRICS = (
    Metric("memory", "MiB more with the one that reads nothing", higher_is_better=False),
    Metric("share", "of what it did not read", higher_is_better=False),
    Metric("p99_before", "ms", higher_is_better=False),
    Metric("p99_with", "ms, the others", higher_is_better=False),
    Metric("moved", "% of p99", higher_is_better=False),
    Metric("cut_off", higher_is_better=False),
)


def run(options: Options) -> list[Sheet]:
    """See the module."""
    count = 20 if options.quick else 500
    sheet = Sheet(f"1 of {count} clients reads nothing", METRICS)
    compare(sheet, PEERS, options, lambda case, folder: one(case, sheet, count, folder, options))
    return [sheet]


def one(case: str, sheet: Sheet, count: int, folder: Path, options: Options) -> None:
    """One round of one system: twice from the start, without and with a deaf client."""
    seconds = 0.1 if options.quick else 5.0
    memory, p99, cut_off = [], [], 0
    events = int(PER_S * seconds)
    for deaf in (0, 1):
        peer = peers.ALL[case]()
        place = folder / str(deaf)
        place.mkdir()
        with peer.start(place) as running:
            script = peer.group(running, count)
            with Receivers(script, place, command=options.receiver, deaf=deaf) as receivers:
                receivers.ready()
                before, cpu_s = resident_bytes(running.pids[0]), receivers.cpu_s()
                running.control.ask(cmd="rate", per_s=PER_S, count=events, pad=PAD_BYTES)
                arrived(receivers, "lowest", events)
                memory.append(resident_bytes(running.pids[0]) - before)
                p99.append(receivers.counts().quantile_ms(0.99))
                client_note(sheet, case, receivers.cpu_s() - cpu_s, seconds)
                cut_off = receivers.value("closed")
    sheet.add(
        case,
        memory=(memory[1] - memory[0]) / (1 << 20),
        share=(memory[1] - memory[0]) / (events * PAD_BYTES),
        p99_before=p99[0],
        p99_with=p99[1],
        moved=(p99[1] / p99[0] - 1) * 100,
        cut_off=cut_off,
    )
