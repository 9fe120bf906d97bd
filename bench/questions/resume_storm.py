"""How long until 10,000 clients with 100 missed events each are caught up after a `kill -9`?

The guess before the first run: 8 s, most of it 10,000 handshakes in one Python process; nothing lost and
nothing doubled; 500 MiB at the peak. JetStream keeps what it synced too, but needs a consumer for each
client; Socket.IO's recovery state dies with the process, so it loses everything.

Every client has a stream of its own and has seen 10 events. Then all are cut off, 100 more events are
published to each, the server is killed and started again over the same files. The clock runs from the
moment it listens until every client has event 110.
"""

import time
from collections.abc import Collection, Sequence
from pathlib import Path

from bench import peers
from bench.peers import JetStreamDefault, Running
from bench.processes import peak_bytes
from bench.receivers import Receivers, Script
from bench.rounds import arrived, compare
from bench.sheets import OURS, Metric, Options, Sheet, client_note

PEERS = (OURS, "socket.io", "jetstream-default")
SEEN = 10
METRICS = (
    Metric("caught_up", "s", higher_is_better=False, compare=True),
    Metric("events", "1/s"),
    Metric("restart", "s until it listens", higher_is_better=False),
    Metric("lost", higher_is_better=False),
    Metric("doubled", higher_is_better=False),
    Metric("peak", "MiB", higher_is_better=False, compare=True),
)
_GIVE_UP_S = 30


def run(options: Options) -> list[Sheet]:
    """See the module."""
    sheet = storm(PEERS, options, once=(JetStreamDefault.name,))
    if "socket.io" in sheet.samples:
        sheet.note("socket.io: caught up = all connected again; what a killed process knew is gone")
    return [sheet]


def storm(names: Sequence[str], options: Options, *, once: Collection[str] = ()) -> Sheet:
    """The sheet of these peers."""
    clients, missed = (50, 20) if options.quick else (10_000, 100)
    sheet = Sheet(f"{clients:,} clients return at once, {missed} events behind", METRICS)

    def one(case: str, folder: Path) -> None:
        peer, users = peers.ALL[case](), range(1, clients + 1)
        with peer.start(folder) as running:
            with Receivers(peer.script(running, users), folder, options.receiver) as receivers:
                receivers.ready()
                running.control.ask(cmd="fill", users=clients, first=1, each=SEEN)
                arrived(receivers, "lowest", SEEN)
                seen = receivers.report.last()
            running.control.ask(timeout_s=120, cmd="fill", users=clients, first=SEEN + 1, each=missed)
            running.kill()
        began_s = time.monotonic()
        with peer.start(folder) as again:
            restart_s = time.monotonic() - began_s
            script = peer.script(again, users, seen, SEEN + missed)
            events = returned(case, sheet, again, script, folder, options)
        sheet.add(case, restart=restart_s, lost=clients * missed - events)

    compare(sheet, names, options, one, once=once)
    return sheet


def returned(
    case: str, sheet: Sheet, running: Running, script: Script, folder: Path, options: Options
) -> int:
    """Everybody returns; how many events arrived."""
    began_ns = time.monotonic_ns()
    with Receivers(script, folder, options.receiver) as receivers:
        if script.goal:
            if not receivers.until("done", receivers.size, _GIVE_UP_S):
                sheet.note(f"{case}: given up after {_GIVE_UP_S} s; what had not come by then counts as lost")
            end_ns = receivers.value("last_ns")
        else:
            receivers.ready()
            end_ns = time.monotonic_ns()
            time.sleep(0.5)  # whatever still comes, came
        counts = receivers.counts()
        took_s = (end_ns - began_ns) / 1e9
        client_note(sheet, case, receivers.cpu_s(), took_s)
        peak = max(peak_bytes(pid) for pid in running.pids)
    events = counts.events - counts.doubled
    sheet.add(case, caught_up=took_s, events=events / took_s, doubled=counts.doubled, peak=peak / (1 << 20))
    return events
