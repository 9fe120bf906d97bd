"""How many bytes and how much work is an event on its way to a browser, by kind of compression?

The guess before the first run: a single progress event of 190 B in its message is 45 B with a trained
dictionary, 18 B in runs of 16; permessage-deflate comes to 30 B and 20 B, because it remembers what each
connection was sent, but works for each connection again: 4 µs an event and connection, against 0.3 µs an
event once for all.

Made-up streams of users that no training used, as `events` messages of runs of three lengths. Deflate as
`websockets` does it by default (windows of 4 KiB, memory level 5, context kept), a context per connection.
The work is compression alone, for one and for a hundred connections at the same place.
"""

import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from bench.harness.harness import Metric, Options, Sheet, interleaved
from bench.servers.peers.centrifugo import Centrifugo
from bench.servers.peers.centrifugo_delta import bytes_an_event
from huahuo.dictionaries.found import find
from huahuo.eventstore.zstd.frames import Compressor
from huahuo.mailcheck.plugin.samples import EventMix
from huahuo.transport.protocol.compression import LEVEL
from huahuo.transport.protocol.frames import events_message

ZSTD, BARE, DEFLATE, PLAIN = "zstd, dictionary", "zstd", "permessage-deflate", "plain text"
DELTA = "centrifugo delta"
CASES = (ZSTD, BARE, DEFLATE, PLAIN)
RUNS = (1, 16, 256)
CONNECTIONS = 100
METRICS = (
    Metric("bytes", "B/event", higher_is_better=False, compare=True),
    Metric("work_for_1", "µs/event", higher_is_better=False),
    Metric(f"work_for_{CONNECTIONS}", "µs/event", higher_is_better=False, compare=True),
)
_SEED = 7_000_000
_SYNC_TAIL = b"\x00\x00\xff\xff"

type Pack = Callable[[bytes], bytes]


def run(options: Options) -> list[Sheet]:
    """See the module."""
    users = 3 if options.quick else 40
    sheets = []
    for what, only in (("progress events", b'"check_progress"'), ("all events of checks", b"")):
        for length in RUNS:
            sheet = Sheet(f"{what} in runs of {length}", METRICS, baseline=ZSTD)
            bodies = [bodies_of(user, length, only) for user in range(users)]
            streams = [list(_messages(user, length, bodies[user])) for user in range(users)]

            def measure(
                case: str,
                sheet: Sheet = sheet,
                streams: Sequence[Sequence[bytes]] = streams,
                length: int = length,
            ) -> None:
                _measure(case, sheet, streams, length)

            interleaved(CASES, options.rounds, measure, [sheet])
            plain = sum(map(len, streams[0])) / len(streams[0])
            sheet.note(f"a message is {plain:,.0f} B on average")
            if length == 1:
                measure_delta(sheet, bodies, options)
            sheets.append(sheet)
    return sheets


def bodies_of(user: int, length: int, only: bytes) -> list[bytes]:
    """The bodies of a user's events."""
    mix = EventMix(_SEED + user)
    return list(islice((body for body in mix.bodies() if only in body), max(64, 2 * length)))


def _messages(user: int, length: int, bodies: Sequence[bytes]) -> Iterator[bytes]:
    mix = EventMix(_SEED + user)
    for at in range(0, len(bodies), length):
        yield events_message(mix.stream, 1000 * user + at + 1, bodies[at : at + length])


def measure_delta(sheet: Sheet, streams: Sequence[Sequence[bytes]], options: Options) -> None:
    """Bytes only: its work is a server's, from HTTP to the socket, and not to be told apart."""
    if not options.wants(Centrifugo.name):
        return
    if why := Centrifugo().missing():
        sheet.miss(DELTA, why)
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        sheet.add(DELTA, bytes=bytes_an_event(streams, Path(folder), options.receiver))


def _measure(case: str, sheet: Sheet, streams: Sequence[Sequence[bytes]], length: int) -> None:
    sent = 0
    spent_s = 0.0
    for messages in streams:
        pack = _packer(case)  # what a connection, or all of them, would have at its start
        began_s = time.perf_counter()
        sent += sum(len(pack(message)) for message in messages)
        spent_s += time.perf_counter() - began_s
    events = length * sum(map(len, streams))
    work_us = 1e6 * spent_s / events if case != PLAIN else 0.0
    again = CONNECTIONS if case == DEFLATE else 1
    sheet.add(case, bytes=sent / events, work_for_1=work_us, **{f"work_for_{CONNECTIONS}": again * work_us})


def _packer(case: str) -> Pack:
    match case:
        case "zstd, dictionary":
            return Compressor(find(Path("nowhere")).used, LEVEL).compress
        case "zstd":
            return Compressor(None, LEVEL).compress
        case "permessage-deflate":
            context = zlib.compressobj(wbits=-12, memLevel=5)
            return lambda data: (context.compress(data) + context.flush(zlib.Z_SYNC_FLUSH)).removesuffix(
                _SYNC_TAIL
            )
        case _:
            return lambda data: data
