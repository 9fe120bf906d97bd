"""The model disk: a disk that keeps exactly the bytes that it promised to keep."""

import errno
import random

import pytest

from huahuo.eventstore.memory import ModelDisk


def test_what_was_not_synced_can_be_read_and_may_survive_as_a_torn_prefix() -> None:
    left: set[bytes] = set()
    for seed in range(200):
        disk = ModelDisk()
        ticket = disk.hold()
        disk.write(ticket, b"ab")
        disk.write(ticket, b"cd")
        assert disk.read() == b"abcd"
        disk.crash(random.Random(seed))
        left.add(disk.read())
    assert left == {b"", b"a", b"ab", b"abc", b"abcd"}


def test_after_a_failed_sync_no_later_sync_makes_it_safe() -> None:
    disk = ModelDisk()
    ticket = disk.hold()
    disk.fail_syncs.append(errno.EIO)
    disk.write(ticket, b"lost")
    with pytest.raises(OSError, match="Input/output"):
        disk.sync(ticket)
    disk.sync(ticket)
    assert disk.read() == b"lost"
    disk.crash(random.Random(1))
    assert disk.read() == b""


def test_one_holds_the_disk_and_a_stale_ticket_writes_nothing() -> None:
    disk = ModelDisk()
    old = disk.hold()
    with pytest.raises(BlockingIOError):
        disk.hold()
    disk.crash(random.Random(1))
    new = disk.hold()
    with pytest.raises(OSError, match="Bad file"):
        disk.write(old, b"zombie")
    disk.release(old)
    disk.write(new, b"x")
    assert disk.read() == b"x"
