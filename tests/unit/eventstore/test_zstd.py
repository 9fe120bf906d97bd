"""zstd frames: reading a frame gives exactly what was compressed, and a bad frame is refused."""

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


def read(frame: bytes, known: Dictionary | None = None, limit: int = LIMIT) -> bytes:
    return Decompressor(known, output_bytes_max=limit).decompress(frame)


@pytest.mark.parametrize("known", [None, dictionary()], ids=["plain", "dictionary"])
@given(data=st.binary(max_size=5000))
def test_what_was_compressed_comes_back(data: bytes, known: Dictionary | None) -> None:
    assert read(Compressor(known, 3).compress(data), known) == data


@given(frame=st.binary(max_size=300))
@example(b"4\x00")  # claims to hold nothing, and ends in its header
def test_bytes_of_any_kind_are_refused_in_one_way(frame: bytes) -> None:
    with pytest.raises(BadFrame):
        read(b"\x28\xb5\x2f\xfd" + frame + b"!", dictionary())


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


@pytest.mark.parametrize(("samples", "size"), [([], 1024), ([b"x"] * 3, 1024), (FACTS, 10), (FACTS, 1 << 21)])
def test_what_cannot_be_trained_is_said(samples: list[bytes], size: int) -> None:
    with pytest.raises(BadDictionary):
        train(Samples(samples, samples), size, 1)
