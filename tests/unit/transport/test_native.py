"""The part in C: many frames in one call, and what it says of the others."""

import contextlib
import errno
import random
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from huahuo.transport import native
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
