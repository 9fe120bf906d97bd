"""What do workers (`serve --workers 2`) gain on this machine, and what do they cost?

The guess before the first run: on two cores, which publisher, owner, workers and receivers share, private
feeds become 1.2 times as fast and cost 1.3 times the processor an event; with four cores, 1.7 times as fast.
A storm of returning clients is as fast as before: sessions and frames leave the owner, and each sign-in costs
two more round trips.

The same rounds as `private_feeds` and `resume_storm`, with the single process beside the one with workers, in
turns. `cpu` counts the owner and all workers.
"""

from functools import partial

from bench import rounds
from bench.questions import private_feeds, resume_storm
from bench.sheets import Options, Sheet

PEERS = ("huahuo", "huahuo-workers")
FEEDS = [metric for metric in private_feeds.METRICS if not metric.name.endswith(("_at_10", "_at_90"))]


def run(options: Options) -> list[Sheet]:
    """See the module."""
    sizes = (20,) if options.quick else (500, 5_000)
    measure = partial(private_feeds.measure, loads=(50,))
    title = "private feeds of {} users"
    sheets = rounds.by_size(title, sizes, FEEDS, PEERS, rounds.feeds, measure, options)
    return [*sheets, resume_storm.storm(PEERS, options)]
