"""The part in C that reads acks of many sockets: what it takes for an ack, and what it leaves to others."""

import contextlib
import importlib
import socket
import struct
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import BINARY, PING, PONG, TEXT, Frame

from huahuo.transport import native
from huahuo.transport.protocol.incoming import seq_of_ack
from huahuo.transport.wire.frame_reader import as_frames, short_text
from tests.support.sends import NEEDS

pytestmark = pytest.mark.skipif(native.found() is None, reason=NEEDS)

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
    plain = as_frames([text])
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
