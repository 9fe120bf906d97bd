"""What does it cost to hand committed events to another process, over a Unix socket?

The guess before the first run: 3 µs an event and side for events that travel alone, nearly all of it two
system calls and waking the other; 0.5 µs in batches of 128, where only the encoding is left.

One process sends what a gateway needs to frame an event (position, stream, seq, type, body), the other
decodes it. `frames` are runs that the sender has framed for the wire already, with the name of their stream
and their last number: the least that can be sent. It is the cost of gateway processes over one log;
`workers` measures their possible gain.
"""

import pickle
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from bench.harness.answers import answer
from bench.harness.harness import Metric, Options, Sheet, interleaved
from bench.harness.procs import Child
from bench.servers.source import body
from huahuo.transport.protocol.frames import events_message, text_frame

BATCHES = (1, 16, 128)
STREAM = "user/4711"
METRICS = (
    Metric("events", "1/s", compare=True),
    Metric("sender", "µs of processor/event", higher_is_better=False, compare=True),
    Metric("taker", "µs of processor/event", higher_is_better=False, compare=True),
    Metric("bytes", "B/event", higher_is_better=False),
)
PICKLE, MSGPACK, FRAMES = "pickle", "msgpack", "frames"
_HEAD = struct.Struct("=I")

type Event = tuple[int, str, int, str, bytes]
_packed = msgspec.msgpack.Encoder()
_unpacked = msgspec.msgpack.Decoder(list[Event])
_framed = msgspec.msgpack.Decoder(tuple[str, int, bytes])


def _frame(events: list[Event]) -> bytes:
    seq = events[0][2]
    frame = text_frame(events_message(STREAM, seq, [body for *_, body in events]))
    return _packed.encode((STREAM, events[-1][2], frame))


PACK: dict[str, Callable[[list[Event]], bytes]] = {
    PICKLE: lambda events: pickle.dumps(events, protocol=5),
    MSGPACK: _packed.encode,
    FRAMES: _frame,
}
UNPACK: dict[str, Callable[[bytes], object]] = {
    PICKLE: pickle.loads,
    MSGPACK: _unpacked.decode,
    FRAMES: _framed.decode,
}


def run(options: Options) -> list[Sheet]:
    """See the module."""
    total = 2_000 if options.quick else 200_000
    sheets = []
    for batch in BATCHES:
        sheet = Sheet(f"batches of {batch}", METRICS, baseline=FRAMES)

        def measure(case: str, sheet: Sheet = sheet, batch: int = batch) -> None:
            with tempfile.TemporaryDirectory(dir=options.folder) as folder:
                one(case, sheet, batch, total // (4 if batch == 1 else 1), Path(folder))

        interleaved((FRAMES, MSGPACK, PICKLE), options.rounds, measure, [sheet])
        sheets.append(sheet)
    return sheets


def one(case: str, sheet: Sheet, batch: int, total: int, folder: Path) -> None:
    """Send `total` events to a child."""
    pack, sent = PACK[case], 0
    messages = total // batch
    bodies = [body(n, time.monotonic_ns()) for n in range(total + 1)]  # each its own, as read from a log
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "socket"))
        listening.listen()
        with Child([sys.executable, "-m", "bench.questions.shipping", str(folder / "socket"), case]) as child:
            taker, _ = listening.accept()
            with taker:
                began_s, cpu_s = time.monotonic(), time.process_time()
                for number in range(messages):
                    first = number * batch + 1
                    data = pack(
                        [(n, STREAM, n, "check_progress", bodies[n]) for n in range(first, first + batch)]
                    )
                    taker.sendall(_HEAD.pack(len(data)) + data)
                    sent += len(data) + _HEAD.size
                taker.shutdown(socket.SHUT_WR)
                done = child.receive(60)
                took_s, cpu_s = time.monotonic() - began_s, time.process_time() - cpu_s
    assert done["messages"] == messages
    events = messages * batch
    sheet.add(
        case,
        events=events / took_s,
        sender=cpu_s / events * 1e6,
        taker=done["cpu_s"] / events * 1e6,
        bytes=sent / events,
    )


def take(path: str, case: str) -> None:
    """The child: decode whatever comes, as it comes, and tell what that cost."""
    unpack, messages = UNPACK[case], 0
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        answer({"ready": True})
        cpu_s, rest = time.process_time(), b""
        while data := connection.recv(1 << 18):
            rest += data
            at = 0
            while len(rest) - at >= _HEAD.size:
                end = at + _HEAD.size + _HEAD.unpack_from(rest, at)[0]
                if end > len(rest):
                    break
                unpack(rest[at + _HEAD.size : end])
                messages += 1
                at = end
            rest = rest[at:]
        answer({"messages": messages, "cpu_s": time.process_time() - cpu_s})


if __name__ == "__main__":
    take(*sys.argv[1:])
