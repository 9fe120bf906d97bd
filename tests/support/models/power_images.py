"""What a power cut may leave of a real run: its images, and what a log opened over one of them holds.

`make proof` runs it: `python -m tests.support.models.power_images --images 100000`. Needs strace.
"""

import argparse
import asyncio
import math
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from hashlib import blake2b
from pathlib import Path

from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.executor import InlineExecutor
from huahuo.eventstore.sqlite.log import SqliteLog
from tests.support.drivers.log_parent import ROOT, command_line
from tests.support.models.power import STRACE, Op, PowerDisk, read_trace
from tests.support.quick_folder import quick_folder
from tests.support.worlds.logs import MASTER_KEY

COMMANDS = 60


def traced_run(root: Path, in_flight: int, commands: int = COMMANDS) -> list[Op]:
    """The system calls of a child that sent these commands, closed its log, and opened it again."""
    directory, trace = root / "log", root / "trace"
    traced = [*STRACE, str(trace), *command_line(directory, "appends", 0, commands, in_flight)]
    subprocess.run(traced, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    return list(read_trace(trace, directory))


def moments(ops: Sequence[Op], *, ignore_syncs: str = "") -> Iterator[tuple[PowerDisk, dict[str, int]]]:
    """The disk after each call, with the commands acknowledged by then: their ids and positions."""
    disk = PowerDisk()
    acked: dict[str, int] = {}
    for op in ops:
        if op.kind == "said":
            for line in op.data.decode().splitlines():
                if line.startswith("acked "):
                    _, number, position = line.split()
                    acked[f"c{number}"] = int(position)
        elif not (op.kind == "sync" and ignore_syncs and op.file.endswith(ignore_syncs)):
            disk.apply(op)
        yield disk, acked


async def found_in(directory: Path) -> dict[str, int]:
    """As `commands_in`; returns the position of each command's last event."""
    return {command_id: position for position, command_id in enumerate(await commands_in(directory), 1)}


async def commands_in(directory: Path) -> list[str]:
    """Open the log after a power cut and verify it; returns the command id of each event, in order."""
    log = await SqliteLog.open(
        directory, ambient=FakeAmbient(1), master_key=MASTER_KEY, build="parent",
        writer=InlineExecutor(), readers=InlineExecutor(),
    )  # fmt: skip
    try:
        assert await log.verify() == log.position
        events = await log.read("log", 0, events_max=10_000, bytes_max=1 << 30)
        assert [e.position for e in events] == list(range(1, log.position + 1))
        assert len(events) % 2 == 0, "an append is there as a whole"
        return [e.command_id for e in events]
    finally:
        await log.close()


def judge_all(ops: Sequence[Op], images: int, seed: int, until_s: float = math.inf) -> Counter[str]:
    """Cut the power this often, at every moment in turn.

    Counts `images`; of them those `alike` one before; and of the others those that were `whole`, `lost` an
    acknowledged event, or were `refused` by the engine.
    """
    with tempfile.TemporaryDirectory(prefix="images-", dir=quick_folder()) as folder:
        return _judge_all(Path(folder), ops, images, seed, until_s)


def _judge_all(root: Path, ops: Sequence[Op], images: int, seed: int, until_s: float) -> Counter[str]:
    chance, said, seen = random.Random(seed), Counter[str](), set[bytes]()
    while said["images"] < images and time.monotonic() < until_s:
        for disk, acked in moments(ops):
            said["images"] += 1
            directory = root / f"{seed}-{said['images']}"
            disk.image(directory, chance, chance.choice((0.0, 0.3, 0.5, 0.8, 1.0)))
            mark = _mark(directory, len(acked))
            if mark in seen:
                said["alike"] += 1
            else:
                seen.add(mark)
                said[_judged(directory, acked)] += 1
            shutil.rmtree(directory)
            if said["images"] >= images or time.monotonic() >= until_s:
                break
    return said


def _judged(directory: Path, acked: dict[str, int]) -> str:
    try:
        found = asyncio.run(found_in(directory))
    except EventStoreError:
        return "refused"
    return "whole" if acked.items() <= found.items() else "lost"


def _mark(directory: Path, acked: int) -> bytes:
    """Two images with the same bytes, and as much to be found in them, are judged once."""
    digest = blake2b(str(acked).encode(), digest_size=16)
    for file in sorted(directory.iterdir()):
        digest.update(f"\0{file.name}\0".encode() + file.read_bytes())
    return digest.digest()


def main() -> int:
    """See the module; the exit code is 1 if an image lost something, or the engine refused it."""
    parser = argparse.ArgumentParser(prog="power_images")
    parser.add_argument("--images", type=int, default=100_000, help="how often the power is cut")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at a time")
    parser.add_argument("--within-s", type=float, default=0.0, help="end after this time")
    options = parser.parse_args()
    if shutil.which("strace") is None:
        print("NOT PROVED: strace is not installed: apt-get install strace")
        return 1
    began_s, total, each = time.monotonic(), Counter[str](), -(-options.images // options.jobs)
    until_s = began_s + options.within_s if options.within_s else math.inf
    with tempfile.TemporaryDirectory(prefix="images-") as folder:
        runs = []
        for number in range(options.jobs):
            root = Path(folder) / str(number)
            root.mkdir()
            runs.append(traced_run(root, (16, 1, 4)[number % 3]))
    with ProcessPoolExecutor(options.jobs) as pool:
        for said in pool.map(judge_all, runs, [each] * len(runs), range(len(runs)), [until_s] * len(runs)):
            total.update(said)
    took_s = time.monotonic() - began_s
    print(
        f"power cuts: {total['images']:,} images in {took_s:.0f} s, {total['alike']:,} of them alike another;"
    )
    print(
        f"  opened {total['whole']:,} whole, {total['lost']:,} lost something, {total['refused']:,} refused"
    )
    return bool(total["lost"] or total["refused"] or not total["whole"])


if __name__ == "__main__":
    sys.exit(main())
