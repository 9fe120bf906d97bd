"""What do workers (`serve --workers 2`) gain on this machine, and what do they cost?

The guess before the first run: on two cores, which publisher, owner, workers and receivers share, private
feeds become 1.2 times as fast and cost 1.3 times the processor an event; with four cores, 1.7 times as fast.
A storm of returning clients is as fast as before: sessions and frames leave the owner, and each sign-in costs
two more round trips.

The same rounds as `private_feeds` and `resume_storm`, with the single process beside the one with workers, in
turns. `cpu` counts the owner and all workers.
"""

from pathlib import Path

from bench.harness.harness import Options, Sheet
from bench.questions import private_feeds, resume_storm, rounds

PEERS = ("huahuo", "huahuo-workers")
FEEDS = [metric for metric in private_feeds.METRICS if not metric.name.endswith(("_at_10", "_at_90"))]


def run(options: Options) -> list[Sheet]:
    """See the module."""
    sizes, clients, missed = ((20,), 50, 20) if options.quick else ((500, 5_000), 10_000, 100)
    sheets = rounds.by_size("private feeds of {} users", sizes, FEEDS, PEERS, _feeds, options)
    storm = Sheet(f"{clients:,} clients return at once, {missed} events behind", resume_storm.METRICS)
    rounds.compare(
        storm,
        PEERS,
        options,
        lambda case, folder: resume_storm.one(case, storm, clients, missed, folder, options),
    )
    return [*sheets, storm]


def _feeds(case: str, sheet: Sheet, users: int, folder: Path, options: Options) -> None:
    with rounds.connected(case, folder, options, lambda peer, running: peer.feeds(running, users)) as found:
        private_feeds.measure(case, sheet, users, *found, options, loads=(50,))
