"""Power cuts: after any system call of a real run, every possible image of the disk holds what was acked.

`kill -9` cannot show this: the page cache survives it. See `tests/support/models/power.py`.
"""

import asyncio
import itertools
import random
import shutil
from pathlib import Path

import pytest

from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.sqlite.wal import WAL_ROOM_BYTES
from tests.support.models.power import Op
from tests.support.models.power_images import found_in, moments, traced_run
from tests.support.proofs import WHOLE

pytestmark = pytest.mark.skipif(
    shutil.which("strace") is None, reason="strace is not installed: apt-get install strace"
)

IMAGES_MAX = 150 if WHOLE else 30


@pytest.fixture(scope="module", params=[16, 1], ids=["in groups", "one by one"])
def in_flight(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(scope="module")
def ops(tmp_path_factory: pytest.TempPathFactory, in_flight: int) -> list[Op]:
    """The system calls of a child that sent 60 commands, closed its log, and opened it again."""
    return traced_run(tmp_path_factory.mktemp("traced"), in_flight)


def lost(root: Path, ops: list[Op], *, kept: float, ignore_syncs: str = "") -> int:
    """How many images of a run lack an event that was acknowledged before."""
    rng = random.Random(kept)
    every = max(1, len(ops) // IMAGES_MAX)
    bad = images = acks = 0
    for number, (disk, acked) in enumerate(moments(ops, ignore_syncs=ignore_syncs)):
        if number % every:
            continue
        directory = root / str(number)
        disk.image(directory, rng, kept)
        images += 1
        acks = max(acks, len(acked))
        try:
            found = asyncio.run(found_in(directory))
            bad += not acked.items() <= found.items()
        except EventStoreError:
            bad += 1
        shutil.rmtree(directory)
    assert images >= IMAGES_MAX
    assert acks == 60, "the run acknowledged what it should"
    return bad


@pytest.mark.parametrize("kept", [0.0, 0.5, 1.0], ids=["all unsynced lost", "some torn", "all there"])
def test_no_power_cut_loses_what_was_acknowledged(tmp_path: Path, ops: list[Op], kept: float) -> None:
    assert lost(tmp_path, ops, kept=kept) == 0


def test_the_checker_sees_a_log_that_does_not_wait_for_its_syncs(tmp_path: Path, ops: list[Op]) -> None:
    """The same run on a disk that ignores the syncs of the write-ahead log loses acknowledged events."""
    assert lost(tmp_path, ops, kept=0.0, ignore_syncs="-wal") > 5


def test_every_kind_of_call_was_traced(ops: list[Op]) -> None:
    kinds = {kind: len(list(some)) for kind, some in itertools.groupby(sorted(op.kind for op in ops))}
    assert kinds.keys() == {"write", "truncate", "sync", "unlink", "said"}
    assert kinds["said"] > 120


def test_small_commits_had_room_made_for_them(ops: list[Op], in_flight: int) -> None:
    """So the images above cover such room: none of it, some, or all."""
    room = [op for op in ops if op.kind == "write" and op.file.endswith("-wal") and not op.data.strip(b"\0")]
    assert (sum(len(op.data) for op in room) >= WAL_ROOM_BYTES) == (in_flight == 1)
