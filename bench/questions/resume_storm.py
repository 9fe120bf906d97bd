"""How long until 10,000 clients with 100 missed events each are caught up after a `kill -9`?

The guess before the first run: 8 s, most of it 10,000 handshakes in one Python process; nothing lost and
nothing doubled; 500 MiB at the peak. JetStream keeps what it synced too, but needs a consumer for each
client; Socket.IO's recovery state dies with the process, so it loses everything.

Every client has a stream of its own and has seen 10 events. Then all are cut off, 100 more events are
published to each, the server is killed and started again over the same files. The clock runs from the
moment it listens until every client has event 110.
"""

import time
from pathlib import Path

from bench.clients.receivers import Receivers
from bench.clients.script import Script
from bench.harness.harness import OURS, Metric, Options, Sheet, client_note
from bench.harness.procs import peak_bytes
from bench.questions.rounds import arrived, compare
from bench.servers import peers
from bench.servers.peers.base import Peer, Running
from bench.servers.peers.huahuo import Huahuo
from bench.servers.peers.nats import JetStream, JetStreamDefault

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
    clients, missed = (50, 20) if options.quick else (10_000, 100)
    sheet = Sheet(f"{clients:,} clients return at once, {missed} events behind", METRICS)
    compare(
        sheet,
        PEERS,
        options,
        lambda case, folder: one(case, sheet, clients, missed, folder, options),
        once=(JetStreamDefault.name,),
    )
    if "socket.io" in sheet.samples:
        sheet.note("socket.io: caught up = all connected again; what a killed process knew is gone")
    return [sheet]


def one(case: str, sheet: Sheet, clients: int, missed: int, folder: Path, options: Options) -> None:
    """One round of one system."""
    peer = peers.ALL[case]()
    goal = SEEN + missed
    with peer.start(folder) as running:
        with Receivers(peer.feeds(running, clients), folder, command=options.receiver) as receivers:
            receivers.ready()
            running.control.ask(cmd="fill", users=clients, first=1, each=SEEN)
            arrived(receivers, "lowest", SEEN)
            cursors = receivers.report.last()
        running.control.ask(timeout_s=120, cmd="fill", users=clients, first=SEEN + 1, each=missed)
        running.kill()
        began_s = time.monotonic()
        with peer.restart(running, folder) as again:
            restart_s = time.monotonic() - began_s
            script = returning(peer, again, clients, cursors, goal)
            returned = storm(case, sheet, again, script, folder, options)
    lost = clients * missed - returned["events"]
    sheet.add(
        case, restart=restart_s, lost=lost, **{k: returned[k] for k in ("doubled", "peak", "caught_up")}
    )
    sheet.add(case, events=returned["events"] / returned["caught_up"])


def storm(
    case: str, sheet: Sheet, running: Running, script: Script, folder: Path, options: Options
) -> dict[str, float]:
    """Everybody returns; what arrived, and by when."""
    began_ns = time.monotonic_ns()
    with Receivers(script, folder, command=options.receiver) as receivers:
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
    doubled = counts.doubled
    return {
        "caught_up": took_s,
        "events": counts.events - doubled,
        "doubled": doubled,
        "peak": peak / (1 << 20),
    }


def returning(peer: Peer, running: Running, clients: int, cursors: tuple[int, ...], goal: int) -> Script:
    """The clients as they come back, each with what its system can remember."""
    if isinstance(peer, Huahuo):
        return peer.feeds(running, clients, cursors=cursors, goal=goal)
    if isinstance(peer, JetStream):
        # `fill` went round the users, so a user's event n has the stream sequence (n - 1) * clients + user.
        made = [
            peer.consumer(user, (cursor - 1) * clients + user + 1, cursor)
            for user, cursor in enumerate(cursors, 1)
        ]
        return Script(running.port, made, goal=goal)
    return peer.feeds(running, clients)
