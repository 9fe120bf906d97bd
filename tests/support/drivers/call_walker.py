"""Walks system calls: one run of many appends for each of them, in a fork, with a fault at that call.

    python -m tests.support.drivers.call_walker FOLDER FAULT APPENDS FIRST STEP UNTIL_S

`call_faults.py` starts it, with the library of `call_faults.c` preloaded. FAULT: `kill`, or the name of
an errno. FIRST 0: nothing fails. Prints what was found, as JSON. UNTIL_S by `time.monotonic`: when it ends.
"""

import asyncio
import contextlib
import ctypes
import errno
import json
import os
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from huahuo.errors import HuahuoError
from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.errors import EventStoreError, Unavailable
from huahuo.eventstore.executor import InlineExecutor
from huahuo.eventstore.model import Append
from huahuo.eventstore.sqlite.log import SqliteLog
from tests.support.models.power_images import commands_in
from tests.support.worlds.logs import MASTER_KEY, command, event

IN_FLIGHT = 16
TRIES = 5
ENDED, NOT_OPENED, NOT_ALL = 0, 3, 4
EVENTS = 2
"""Of one append."""


def numbered(number: int) -> Append:
    """The append number `number`: two events, all its own."""
    body = b'{"n":%d,"pad":"%s"}' % (number, b"x" * 300)
    return command(f"c{number}", event(f"s/{number % 3}", body), event("all", body))


async def appends(directory: Path, count: int, said: int) -> int:
    """Append them all, each again until it was acknowledged, and write to `said` what was. The exit code."""
    try:
        log = await SqliteLog.open(
            directory, ambient=FakeAmbient(1), master_key=MASTER_KEY, build="child",
            writer=InlineExecutor(), readers=InlineExecutor(),
        )  # fmt: skip
    except (EventStoreError, HuahuoError, OSError):
        return NOT_OPENED
    numbers = iter(range(count))

    async def sender() -> bool:
        return all([await _sent(log, number, said) for number in numbers])

    all_there = all(await asyncio.gather(*(sender() for _ in range(IN_FLIGHT))))
    with contextlib.suppress(EventStoreError, OSError):
        await log.close()
    return ENDED if all_there else NOT_ALL


async def _sent(log: SqliteLog, number: int, said: int) -> bool:
    for _ in range(TRIES):
        try:
            done = await log.append(numbered(number))
        except Unavailable:
            continue
        os.write(said, f"{number} {getattr(done, 'position', 0)}\n".encode())
        return True
    return False


def strike(directory: Path, count: int, number: int, fault: int) -> tuple[int, dict[str, int], int]:
    """One run in a fork: its wait status, what it acknowledged, and how many calls it made (0: killed)."""
    faults = ctypes.CDLL(None)
    faults.call_faults_seen.restype = ctypes.c_long
    heard, said = os.pipe()
    child = os.fork()
    if not child:
        code = 70
        try:
            os.close(heard)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # its own log
            faults.call_faults_arm(str(directory).encode(), ctypes.c_long(number), fault)
            code = asyncio.run(appends(directory, count, said))
            os.write(said, f"calls {faults.call_faults_seen()}\n".encode())
        finally:
            os._exit(code)
    os.close(said)
    with os.fdopen(heard) as lines:
        words = [line.split() for line in lines if line.endswith("\n")]
    _, status = os.waitpid(child, 0)
    acked = {f"c{one}": int(place) for one, place in words if one != "calls"}
    return status, acked, sum(int(place) for one, place in words if one == "calls")


def judged(directory: Path, acked: dict[str, int], status: int) -> str:
    """In a word, what became of a run whose files were opened again."""
    code = os.waitstatus_to_exitcode(status)
    if code not in (ENDED, NOT_OPENED, NOT_ALL, -signal.SIGKILL):
        return f"ended with {code}"
    if code == NOT_OPENED and not directory.is_dir():
        return "not opened"
    try:
        events = asyncio.run(commands_in(directory))
    except EventStoreError:
        return "refused"
    return fate(events, acked) or {ENDED: "went on", NOT_OPENED: "not opened", NOT_ALL: "stopped"}.get(
        code, "killed"
    )


def fate(events: Sequence[str], acked: Mapping[str, int]) -> str:
    """What is wrong with these command ids of events: "" if nothing is.

    An append that was sent again may be acknowledged as a duplicate: that answer has no position.
    """
    found = {one: position for position, one in enumerate(events, 1)}
    if any(one not in found or (place and found[one] != place) for one, place in acked.items()):
        return "lost"
    return "doubled" if set(Counter(events).values()) - {EVENTS} else ""


def main() -> None:
    folder, fault, *numbers = sys.argv[1:6]
    count, number, step = map(int, numbers)
    until_s, found = float(sys.argv[6]), Counter[str]()
    failing, directory = 0 if fault == "kill" else getattr(errno, fault), Path(folder) / "log"
    while not found or time.monotonic() < until_s:
        status, acked, calls = strike(directory, count, number, failing)
        word = judged(directory, acked, status)
        if directory.is_dir():
            shutil.rmtree(directory)
        if not number or (calls and calls < number):
            found["calls"] = calls
            break
        found[word] += 1
        if word in {"lost", "doubled", "refused"} or word.startswith("ended"):
            found[f"{word} at {number}"] += 1
        number += step
    print(json.dumps(found))


if __name__ == "__main__":
    main()
