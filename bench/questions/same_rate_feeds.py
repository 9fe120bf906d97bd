"""What does an event to one user cost, at the same rate for every server?

The guess before the first run: 2,000 events a second, each to one of 500, 5,000 or 10,000 users, cost huahuo
60, 90 and 100 µs of the server's processor each (an append, a frame, a `write` and an ack), four times
Socket.IO, which keeps nothing; a burst of 200 events to mostly idle users is with all of them within 20 ms.

As `same_rate`: an open loop, latency from the moment an event was due, server and receivers on different
cores. In the last sheet 200 of 1,000 users get an event at the same moment, twice a second: its rates are
bursts a second.
"""

from bench.harness.harness import Options, Sheet
from bench.questions.same_rate import METRICS, compare, sizes

PEERS = (
    "huahuo",
    "huahuo-send",
    "huahuo-transport",
    "ws",
    "bun",
    "socket.io",
    "nats",
    "jetstream",
    "centrifugo",
    "floor",
    "floor-uring",
)
USUAL = ((500, 2_000), (5_000, 2_000), (10_000, 2_000))
_IDLE_USERS, _BURST, _BURSTS_PER_S = 1_000, 200, 2


def run(options: Options) -> list[Sheet]:
    """See the module."""
    usual = ((20, 50),) if options.quick else USUAL
    sheets = []
    for users, per_s in sizes(options, usual):
        sheet = Sheet(f"private feeds of {users:,} users at {per_s:,g} events/s", METRICS)
        _compare(sheet, users, per_s, options, cmd="feeds_rate", users=users)
        sheets.append(sheet)
    users, size = (20, 5) if options.quick else (_IDLE_USERS, _BURST)
    sheet = Sheet(f"{users:,} mostly idle users, {_BURSTS_PER_S} bursts/s of {size}", METRICS)
    _compare(sheet, users, _BURSTS_PER_S, options, cmd="bursts", users=users, size=size)
    return [*sheets, sheet]


def _compare(sheet: Sheet, count: int, per_s: float, options: Options, **command: object) -> None:
    compare(
        sheet, PEERS, per_s, options, lambda peer, running: peer.feeds(running, count), "events", **command
    )
