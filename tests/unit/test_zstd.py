"""zstd frames: what goes in comes out, and nothing else does."""

import contextlib
import subprocess
import sys

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from eventstore.zstd import BadDictionary, BadFrame, Compressor, Decompressor, Dictionary, train
from tests.support.compressed import dictionary

LIMIT = 1 << 20
SAMPLES = [b'{"type":"fact","number":%d,"text":"sample %d"}' % (n, n * 7) for n in range(500)]


def read(frame: bytes, known: Dictionary | None = None, limit: int = LIMIT) -> bytes:
    return Decompressor(known, output_bytes_max=limit).decompress(frame)


@pytest.mark.parametrize("known", [None, dictionary()], ids=["plain", "dictionary"])
@given(data=st.binary(max_size=5000))
def test_what_was_compressed_comes_back(data: bytes, known: Dictionary | None) -> None:
    assert read(Compressor(known, 3).compress(data), known) == data


@given(frame=st.binary(max_size=300))
def test_bytes_of_any_kind_are_refused_in_one_way(frame: bytes) -> None:
    with pytest.raises(BadFrame):
        read(b"\x28\xb5\x2f\xfd" + frame + b"!", dictionary())


@given(at=st.integers(0, 200), flip=st.integers(1, 255))
def test_a_damaged_frame_gives_its_size_or_an_error_and_never_more(at: int, flip: int) -> None:
    data = b'{"type":"events","stream":"user/42","seq":7,"events":[]}' * 20
    frame = bytearray(Compressor(dictionary(), 3).compress(data))
    frame[at % len(frame)] ^= flip
    with contextlib.suppress(BadFrame):
        assert len(read(bytes(frame), dictionary(), 2000)) <= 2000


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"{}",
        zstandard.compress(b"x" * 1000)[:-3],
        zstandard.compress(b"x") + b"more",
        zstandard.compress(b"x") * 2,
        b"\x50\x2a\x4d\x18\x04\x00\x00\x00skip",
        zstandard.ZstdCompressor(write_content_size=False).compress(b"x" * 100),
        zstandard.compress(b"x" * (LIMIT + 1)),
        Compressor(dictionary(), 3).compress(b"with another dictionary"),
    ],
    ids=["empty", "text", "cut", "more behind", "two", "skippable", "no size", "too large", "dictionary"],
)
def test_a_frame_that_is_not_exactly_one_within_the_bounds_is_refused(frame: bytes) -> None:
    with pytest.raises(BadFrame):
        read(frame)


def test_the_error_names_both_dictionaries() -> None:
    other = train(SAMPLES, 1024, 3)
    frame = Compressor(other, 3).compress(b"x" * 100)
    with pytest.raises(BadFrame, match=f"{other.id}, not {dictionary().id}"):
        read(frame, dictionary())


BOMB = """
import resource, sys
from eventstore.zstd import BadFrame, Decompressor
reader = Decompressor(None, output_bytes_max=17 << 20)
bomb = sys.stdin.buffer.read()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    reader.decompress(bomb)
except BadFrame:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("stated", [True, False], ids=["that states its size", "that does not"])
def test_a_bomb_costs_no_memory(*, stated: bool) -> None:
    packer = zstandard.ZstdCompressor(level=19, write_content_size=stated)
    bomb = packer.compress(bytes(200_000_000))
    assert len(bomb) < 20_000
    done = subprocess.run([sys.executable, "-c", BOMB], input=bomb, capture_output=True, check=True)
    assert int(done.stdout) < 20_000  # kB; nothing at all is read of it


def test_the_same_samples_make_the_same_dictionary_and_others_another_id() -> None:
    assert train(SAMPLES, 1024, 3) == train(SAMPLES, 1024, 3)
    assert train(SAMPLES, 1024, 3).id != train(SAMPLES[1:], 1024, 3).id


def test_an_id_takes_two_bytes_and_is_free_to_choose() -> None:
    assert 1 << 15 <= train(SAMPLES, 1024, 3).id < 1 << 16


def test_a_dictionary_knows_its_own_id() -> None:
    made = train(SAMPLES, 1024, 3)
    assert Dictionary.of(made.data) == made


@pytest.mark.parametrize("data", [b"", b"x" * 500, b"\x37\xa4\x30\xec", bytes((1 << 20) + 1)])
def test_bytes_that_are_no_dictionary_are_refused(data: bytes) -> None:
    with pytest.raises(BadDictionary):
        Dictionary.of(data)


@pytest.mark.parametrize(
    ("samples", "size"), [([], 1024), ([b"x"] * 3, 1024), (SAMPLES, 10), (SAMPLES, 1 << 21)]
)
def test_what_cannot_be_trained_is_said(samples: list[bytes], size: int) -> None:
    with pytest.raises(BadDictionary):
        train(samples, size, 3)
