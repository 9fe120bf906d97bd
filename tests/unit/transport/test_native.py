"""The part in C: frames to many sockets, and acks from many."""

import contextlib
import errno
import importlib
import os
import random
import re
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import BINARY, PING, PONG, TEXT, Frame

from huahuo.transport import native
from huahuo.transport.native.build import NotBuiltError, build
from huahuo.transport.protocol.incoming import seq_of_ack
from huahuo.transport.wire.frame_reader import masked_frame, short_text
from tests.support.drivers import native_fuzz
from tests.support.patience import WITHIN_S
from tests.support.proofs import WHOLE
from tests.support.sends import NEEDS

pytestmark = pytest.mark.skipif(native.found() is None, reason=NEEDS)


def send(descriptors: list[int], frames: list[bytes]) -> list[tuple[int, int]]:
    found = native.found()
    assert found is not None
    return list(found.send_each(descriptors, frames))


@contextlib.contextmanager
def pairs(count: int) -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    with contextlib.ExitStack() as stack:
        made = [socket.socketpair() for _ in range(count)]
        for pair in made:
            for end in pair:
                stack.enter_context(end)
                end.setblocking(False)
        yield made


def test_no_format_needs_what_the_headers_of_a_later_python_leave_out() -> None:
    source = Path(native.__file__).with_name("sends.c").read_text("utf-8")
    formats = re.findall(r'(?:PyArg_ParseTuple|Py_BuildValue)\([^"]*"([^"]*)"', source)
    assert len(formats) > 3
    assert not [each for each in formats if "#" in each], "built for 3.13, it is refused by 3.12"


def test_every_socket_gets_its_frame_also_if_there_are_more_than_a_submission_holds() -> None:
    with pairs(600) as made:
        frames = [b"%d" % number * 3 for number in range(600)]
        assert send([one.fileno() for one, _ in made], frames) == []
        assert [other.recv(100) for _, other in made] == frames


def test_a_socket_that_takes_less_is_told_with_the_bytes_it_took() -> None:
    with pairs(3) as made:
        large = random.Random(1).randbytes(4 << 20)
        ((at, written),) = send([one.fileno() for one, _ in made], [b"a", large, b"c"])
        assert (at, made[1][1].recv(8 << 20)) == (1, large[:written])
        assert 0 < written < len(large)


def test_a_full_socket_is_told_and_takes_nothing() -> None:
    with pairs(2) as made:
        (full, _), (other, its_end) = made
        with contextlib.suppress(BlockingIOError):
            while True:
                full.send(b"x" * 4096)
        assert send([full.fileno(), other.fileno()], [b"more", b"b"]) == [(0, -errno.EAGAIN)]
        assert its_end.recv(10) == b"b"


def test_a_peer_that_is_gone_and_a_closed_descriptor_fail_alone() -> None:
    with pairs(2) as made:
        (lonely, gone), (other, its_end) = made
        gone.close()
        with socket.socket() as closed:
            number = closed.fileno()
        result = send([lonely.fileno(), number, other.fileno()], [b"a", b"b", b"c"])
        assert result == [(0, -errno.EPIPE), (1, -errno.EBADF)]
        assert its_end.recv(10) == b"c"


def test_an_empty_call_does_nothing() -> None:
    assert send([], []) == []


@pytest.mark.parametrize(
    ("descriptors", "frames", "error"),
    [
        ([1], [], ValueError),
        ([-1], [b""], ValueError),
        ([1 << 40], [b""], ValueError),
        (["1"], [b""], TypeError),
        ([1], ["text"], TypeError),
        ([1], [bytearray(b"a")], TypeError),
        (1, [b""], TypeError),
    ],
)
def test_what_is_no_descriptor_or_no_frame_is_refused(
    descriptors: list[int], frames: list[bytes], error: type[Exception]
) -> None:
    with pytest.raises(error):
        send(descriptors, frames)


FRONT = b'{"action":"ack","cursors":{"user/42":'
READ_BYTES_MAX = 512
ACKS_A_READ_MAX = 4


def ack(seq: int | bytes) -> bytes:
    number = seq if isinstance(seq, bytes) else b"%d" % seq
    return Frame(TEXT, FRONT + number + b"}}").serialize(mask=True)


class Reader:
    """A reader, and the far ends of the sockets that it watches."""

    def __init__(self, count: int) -> None:
        found = native.found()
        assert found is not None
        self.native = found
        self.reader, self.descriptor = found.open_acks()
        self.pairs = [socket.socketpair() for _ in range(count)]
        for place, (near, _) in enumerate(self.pairs):
            found.watch_acks(self.reader, place, near.fileno(), FRONT)

    def send(self, data: bytes, at: int = 0) -> None:
        self.pairs[at][1].sendall(data)

    def read(self) -> list[tuple[int, int | bytes]]:
        return self.native.read_acks(self.reader)


@contextlib.contextmanager
def reading(count: int = 1) -> Iterator[Reader]:
    with contextlib.ExitStack() as stack:
        made = Reader(count)
        for pair in made.pairs:
            for end in pair:
                stack.enter_context(end)
        yield made


def test_a_module_that_was_built_of_an_older_source_counts_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    older = SimpleNamespace(open_ring=object, send_each=object)
    monkeypatch.setattr(importlib, "import_module", lambda _name: older)
    assert native.found() is None


def test_acks_are_told_with_their_sockets_places() -> None:
    with reading(3) as made:
        made.send(ack(7), 2)
        made.send(ack(0), 0)
        made.send(ack(999_999_999_999_999), 1)
        assert sorted(made.read()) == [(0, 0), (1, 999_999_999_999_999), (2, 7)]
        assert made.read() == []


def test_acks_of_one_socket_that_came_together_are_told_in_their_order() -> None:
    with reading() as made:
        made.send(ack(1) + ack(2) + ack(12) + ack(3))
        assert made.read() == [(0, 1), (0, 2), (0, 12), (0, 3)]


PLAIN = FRONT + b"1}}"
OTHERS = {
    "five acks": ack(1) * 5,
    "a leading zero": ack(b"01"),
    "sixteen digits": ack(b"1" * 16),
    "no digit": ack(b""),
    "a sign": ack(b"-1"),
    "half of a frame": ack(12)[:-1],
    "the head of a frame": ack(12)[:5],
    "an ack and the begin of a frame": ack(12) + b"\x81",
    "an ack and a ping": ack(12) + Frame(PING, b"").serialize(mask=True),
    "a space at the end": Frame(TEXT, PLAIN + b" ").serialize(mask=True),
    "another front": Frame(TEXT, PLAIN.replace(b"42", b"43")).serialize(mask=True),
    "a longer front": Frame(TEXT, PLAIN.replace(b"42", b"424")).serialize(mask=True),
    "one brace": Frame(TEXT, FRONT + b"1]}").serialize(mask=True),
    "without a mask": b"\x81" + bytes((len(PLAIN),)) + PLAIN,
    "binary": Frame(BINARY, PLAIN).serialize(mask=True),
    "a first fragment": Frame(TEXT, PLAIN, fin=False).serialize(mask=True),
    "a reserved bit": b"\xc1" + ack(1)[1:],
    "a length in the long form": b"\x81\xfe" + struct.pack(">H", len(PLAIN)) + b"\0\0\0\0" + PLAIN,
    "a pong": Frame(PONG, b"").serialize(mask=True),
}


@pytest.mark.parametrize("data", OTHERS.values(), ids=OTHERS.keys())
def test_bytes_that_are_not_acks_alone_are_told_as_they_are(data: bytes) -> None:
    with reading() as made:
        made.send(data)
        assert made.read() == [(0, data)]


def test_a_socket_with_much_to_read_gives_a_bounded_part_and_the_rest_later() -> None:
    with reading() as made:
        made.send(b"x" * 700)
        assert made.read() == [(0, b"x" * READ_BYTES_MAX)]
        assert made.read() == [(0, b"x" * (700 - READ_BYTES_MAX))]


def test_at_most_256_sockets_are_read_at_once_and_then_the_others() -> None:
    with reading(300) as made:
        for at in range(300):
            made.send(ack(at), at)
        first = made.read()
        assert len(first) == 256
        assert sorted(first + made.read()) == [(at, at) for at in range(300)]


def test_of_a_socket_whose_peer_has_ended_nothing_is_read() -> None:
    with reading() as made:
        near, far = made.pairs[0]
        sent = ack(1)
        made.send(sent)
        far.shutdown(socket.SHUT_WR)
        assert made.read() == [(0, b"")]
        assert near.recv(1000) == sent


def test_a_socket_that_is_not_watched_any_more_is_not_read() -> None:
    with reading(2) as made:
        made.native.watch_acks(made.reader, 0)
        made.send(ack(1), 0)
        made.send(ack(2), 1)
        assert made.read() == [(1, 2)]
        made.native.watch_acks(made.reader, 0, made.pairs[0][0].fileno(), FRONT)
        assert made.read() == [(0, 1)]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda given: given[:3], ValueError),
        (lambda given: [object(), *given[1:]], ValueError),
        (lambda given: [given[0], -1, *given[2:]], ValueError),
        (lambda given: [given[0], 1 << 16, *given[2:]], ValueError),
        (lambda given: [*given[:2], -1, FRONT], ValueError),
        (lambda given: [*given[:3], b""], ValueError),
        (lambda given: [*given[:3], "text"], TypeError),
        (lambda given: [*given[:3], b"x" * 123], ValueError),
        (lambda given: [given[0], 0, *given[2:]], ValueError),
    ],
)
def test_what_cannot_be_watched_is_refused(change: Any, error: type[Exception]) -> None:
    with reading() as made, socket.socket() as other, pytest.raises(error):
        made.native.watch_acks(*change([made.reader, 1, other.fileno(), FRONT]))


def test_a_descriptor_that_cannot_be_polled_is_refused_and_its_place_stays_free() -> None:
    with reading() as made, socket.socket() as other:
        with socket.socket() as closed:
            number = closed.fileno()
        with pytest.raises(OSError, match="descriptor"):
            made.native.watch_acks(made.reader, 1, number, FRONT)
        made.native.watch_acks(made.reader, 1, other.fileno(), FRONT)


@pytest.mark.parametrize("place", [-1, 1, 1 << 40])
def test_a_place_where_nobody_is_cannot_be_left(place: int) -> None:
    with reading() as made, pytest.raises((ValueError, OverflowError)):
        made.native.watch_acks(made.reader, place)


def in_python(data: bytes) -> list[int] | bytes:
    """What the socket's own way takes `data` for: exact frames with acks, a few of them, or anything else."""
    seqs: list[int] = []
    rest = data
    while rest:
        size = 6 + (rest[1] & 0x7F) if len(rest) > 1 else 0
        text = short_text(rest[:size])
        seq = -1 if text is None else seq_of_ack(text, FRONT)
        if seq < 0 or len(seqs) == ACKS_A_READ_MAX:
            return data
        seqs.append(seq)
        rest = rest[size:]
    return seqs


NUMBERS = st.one_of(
    st.integers(0, 10**15 - 1).map(lambda seq: b"%d" % seq), st.binary(max_size=17), st.just(b"007")
)
MASKS = st.binary(min_size=4, max_size=4)


def masked(text: bytes, mask: bytes) -> bytes:
    plain = masked_frame(0x81, text)
    return plain[:2] + mask + bytes(one ^ mask[at & 3] for at, one in enumerate(text))


ACKS = st.builds(lambda number, mask: masked(FRONT + number + b"}}", mask), NUMBERS, MASKS)
PIECES = st.one_of(
    ACKS, ACKS, ACKS, st.binary(max_size=40), st.tuples(ACKS, st.integers(0, 60)).map(lambda p: p[0][: p[1]])
)


@st.composite
def changed(draw: st.DrawFn) -> bytes:
    """Frames, most of them acks, with at most one byte that differs."""
    data = bytearray(b"".join(draw(st.lists(PIECES, min_size=1, max_size=6)))[:READ_BYTES_MAX])
    if data and draw(st.booleans()):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data)


@given(changed())
def test_it_takes_the_same_bytes_for_acks_as_the_way_in_python(data: bytes) -> None:
    if not data:
        return
    expected = in_python(data)
    with reading() as made:
        made.send(data)
        got = made.read()
    assert got == ([(0, expected)] if isinstance(expected, bytes) else [(0, seq) for seq in expected])


CALLS = 5_000 if WHOLE else 100
LONGEST_S = 20 * WITHIN_S
"""In full it takes some 30 s of processor time, on a machine that may do much else."""


def library(name: str) -> str:
    """The path of a library of the compiler."""
    asked = subprocess.run(["cc", f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    return asked.stdout.strip()


@pytest.mark.slow
@pytest.mark.timeout(2 * LONGEST_S)
def test_random_calls_touch_no_memory_that_is_not_theirs(tmp_path: Path) -> None:
    try:
        module = build(tmp_path, sanitize=True)
    except NotBuiltError as error:
        pytest.skip(f"the part in C cannot be built: {error}")
    environ = os.environ | {
        "LD_PRELOAD": f"{library('libasan.so')} {library('libubsan.so')}",
        "ASAN_OPTIONS": "detect_leaks=0",  # the interpreter frees little at its end
        "PYTHONMALLOC": "malloc",
    }
    command = [sys.executable, native_fuzz.__file__, str(module), "1", str(CALLS)]
    done = subprocess.run(
        command, env=environ, capture_output=True, text=True, check=False, timeout=LONGEST_S
    )
    assert done.returncode == 0, done.stderr[-4000:]
