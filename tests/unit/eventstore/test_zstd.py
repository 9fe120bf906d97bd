"""zstd frames: reading a frame gives exactly what was compressed, and a bad frame is refused."""

import contextlib
import subprocess
import sys

import pytest
import zstandard
from hypothesis import example, given
from hypothesis import strategies as st

from huahuo.eventstore.zstd_frames import BadDictionary, BadFrame, Compressor, Decompressor, Dictionary
from huahuo.eventstore.zstd_training import Samples, train
from tests.support.worlds.compressed import dictionary

LIMIT = 1 << 20
FACTS = [b'{"type":"fact","number":%d,"text":"sample %d"}' % (n, n * 7) for n in range(500)]
SAMPLES = Samples(FACTS, FACTS)
TRIES = 60
OTHER = train(SAMPLES, 1024, 1)


def naming(known: Dictionary) -> zstandard.ZstdCompressor:
    """A compressor whose frames name their dictionary, which is zstd's default."""
    return zstandard.ZstdCompressor(dict_data=zstandard.ZstdCompressionDict(known.data))


def read(frame: bytes, known: Dictionary | None = None, limit: int = LIMIT) -> bytes:
    return Decompressor(known, output_bytes_max=limit).decompress(frame)


@pytest.mark.parametrize("known", [None, dictionary()], ids=["plain", "dictionary"])
@given(data=st.binary(max_size=5000))
def test_what_was_compressed_comes_back(data: bytes, known: Dictionary | None) -> None:
    assert read(Compressor(known, 3).compress(data), known) == data


@given(data=st.binary(min_size=1, max_size=5000))
def test_a_frame_states_its_size_and_spends_nothing_on_a_name_or_a_checksum(data: bytes) -> None:
    stated = zstandard.get_frame_parameters(Compressor(dictionary(), 3).compress(data))
    assert (stated.content_size, stated.dict_id, stated.has_checksum) == (len(data), 0, False)


@given(data=st.binary(max_size=5000))
def test_a_frame_that_names_the_dictionary_or_needs_none_is_read_too(data: bytes) -> None:
    assert read(naming(dictionary()).compress(data), dictionary()) == data
    assert read(Compressor(None, 3).compress(data), dictionary()) == data


@given(data=st.binary(max_size=5000))
def test_a_frame_of_a_dictionary_that_is_not_known_gives_its_size_or_an_error(data: bytes) -> None:
    frame = Compressor(dictionary(), 3).compress(data)
    for known in (None, OTHER):
        with contextlib.suppress(BadFrame):
            assert len(read(frame, known)) == len(data)


@given(frame=st.binary(max_size=300))
@example(b"4\x00")  # claims to hold nothing, and ends in its header
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
        naming(dictionary()).compress(b"with another dictionary"),
    ],
    ids=["empty", "text", "cut", "more behind", "two", "skippable", "no size", "too large", "dictionary"],
)
def test_a_frame_that_is_not_exactly_one_within_the_bounds_is_refused(frame: bytes) -> None:
    with pytest.raises(BadFrame):
        read(frame)


BOMB = """
import resource, sys
from huahuo.eventstore.zstd_frames import BadFrame, Decompressor
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
    assert int(done.stdout) < 20_000  # kB; the content is not read at all


@pytest.mark.parametrize("size", [256, 700, 1024, 4096])
def test_a_dictionary_takes_no_more_bytes_than_asked_for(size: int) -> None:
    assert len(train(SAMPLES, size, TRIES).data) <= size


@pytest.mark.parametrize("data", [b"", b"x" * 500, b"\x37\xa4\x30\xec", bytes((1 << 20) + 1)])
def test_bytes_that_are_no_dictionary_are_refused(data: bytes) -> None:
    with pytest.raises(BadDictionary):
        Dictionary.of(data)


@pytest.mark.parametrize(("samples", "size"), [([], 1024), ([b"x"] * 3, 1024), (FACTS, 10), (FACTS, 1 << 21)])
def test_what_cannot_be_trained_is_said(samples: list[bytes], size: int) -> None:
    with pytest.raises(BadDictionary):
        train(Samples(samples, samples), size, 1)
