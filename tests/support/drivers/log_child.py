"""A process that writes a log and prints each acknowledged append, to be killed at any time.

    python -m tests.support.drivers.log_child DIRECTORY appends FIRST COUNT [N] one command each, N or 16 in
    flight python -m tests.support.drivers.log_child DIRECTORY full LIMIT    a file size limit, hit and lifted
    python -m tests.support.drivers.log_child DIRECTORY tmpfs                a full file system, then enlarged
    python -m tests.support.drivers.log_child DIRECTORY hold                   opens the log and waits
    python -m tests.support.drivers.log_child DIRECTORY retry COUNT           sends again what was unavailable

Lines: `sent N`, `acked N POSITION`, `unavailable N`, and words of each mode.
"""

import asyncio
import contextlib
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

from huahuo.eventstore.ambient import SystemAmbient
from huahuo.eventstore.errors import Unavailable
from huahuo.eventstore.model import Append, Duplicate
from huahuo.eventstore.sqlite.log import SqliteLog
from tests.support.worlds.logs import MASTER_KEY, command, event

IN_FLIGHT = 16


def say(*words: object) -> None:
    """One line, at once and in one piece."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def numbered(number: int) -> Append:
    """The append number `number`: two events in one of three streams and one for all, all its own."""
    body = b'{"n":%d,"pad":"%s"}' % (number, b"x" * 300)
    return command(f"c{number}", event(f"s/{number % 3}", body), event("all", body))


async def opened(directory: Path) -> SqliteLog:
    return await SqliteLog.open(directory, ambient=SystemAmbient(), master_key=MASTER_KEY, build="child")


async def send(log: SqliteLog, number: int) -> bool:
    """Send one append; returns whether it was acknowledged."""
    say("sent", number)
    try:
        done = await log.append(numbered(number))
    except Unavailable as error:
        say("unavailable", number)
        say("reason", error)
        return False
    if isinstance(done, Duplicate):
        say("duplicate", number)
    else:
        say("acked", number, done.position)
    return True


async def appends(log: SqliteLog, first: int, count: int, in_flight: int = IN_FLIGHT) -> None:
    numbers = iter(range(first, first + count))

    async def sender() -> None:
        for number in numbers:
            await send(log, number)

    await asyncio.gather(*(sender() for _ in range(in_flight)))


async def until_full(log: SqliteLog) -> int:
    """Send until one fails; returns the next number."""
    number = 0
    while await send(log, number):
        number += 1
    return number + 1


async def after_space(log: SqliteLog, number: int) -> None:
    """There is room again: the next appends go through, the failed one too."""
    for one in range(number - 1, number + 20):
        if not await send(log, one):
            say("still", "full")
    say("verified", await log.verify())


async def full(log: SqliteLog, limit: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    number = await until_full(log)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    await after_space(log, number)


async def tmpfs(log: SqliteLog, mount_point: Path) -> None:
    number = await until_full(log)
    subprocess.run(["mount", "-o", "remount,size=32m", str(mount_point)], check=True)  # noqa: ASYNC221
    await after_space(log, number)


async def retry(log: SqliteLog, count: int) -> None:
    for number in range(count):
        while not await send(log, number):
            pass
    say("verified", await log.verify())


async def main() -> None:
    directory, mode, *rest = sys.argv[1:]
    log = await opened(Path(directory))
    say("open", log.position)
    match mode:
        case "appends":
            await appends(log, *map(int, rest))
        case "full":
            await full(log, int(rest[0]))
        case "tmpfs":
            await tmpfs(log, Path(directory).parent)
        case "retry":
            await retry(log, int(rest[0]))
        case "hold":
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.get_running_loop().create_future()
    await log.close()
    say("closed")
    log = await opened(Path(directory))
    say("again", log.position, await log.verify())
    await log.close()


if __name__ == "__main__":
    asyncio.run(main())
