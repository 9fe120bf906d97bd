"""The program of a worker: `python -m huahuo.embedding.worker_process OWNER PIPE GIVING LISTENER…`.

Only `huahuo.app.workers` starts it. The first argument is the owner's process, the others are descriptors.
"""

import asyncio
import ctypes
import faulthandler
import os
import signal
import socket
import sys
from typing import Final

from huahuo.app import logs
from huahuo.app.process import Tidier, own_the_process, run
from huahuo.eventstore.ambient import AwakeAmbient, SystemAmbient
from huahuo.eventstore.executor import ThreadExecutor
from huahuo.transport.workers.channel import Hello
from huahuo.transport.workers.worker import Worker

DRAIN_S: Final = 10.0
_PR_SET_PDEATHSIG: Final = 1


def main(arguments: list[str]) -> None:
    """Serve until the owner says so, is gone, or SIGTERM comes."""
    owner, pipe, giving, *listeners = map(int, arguments)
    _die_with(owner)
    for number in (signal.SIGINT, signal.SIGHUP):  # they go to all of the group, and the owner drains
        signal.signal(number, signal.SIG_IGN)
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    own_the_process()
    run(_serve(pipe, giving, listeners))
    os._exit(0)  # a thread that looks something up must not keep the process


async def _serve(pipe: int, giving: int, listeners: list[int]) -> None:
    loop = asyncio.get_running_loop()
    executor = ThreadExecutor(1, "compress")
    awake = AwakeAmbient(SystemAmbient())
    worker = Worker(awake, executor, _configure, awake=awake)
    stopping: set[asyncio.Task[None]] = set()
    loop.add_signal_handler(signal.SIGTERM, lambda: stopping.add(loop.create_task(worker.drain(DRAIN_S))))
    sockets = [socket.socket(fileno=descriptor) for descriptor in (pipe, giving, *listeners)]
    await worker.start(sockets[0], sockets[1], sockets[2:])
    with Tidier(loop, collects=True, let_go=worker.let_go):
        await worker.over.wait()


def _configure(hello: Hello) -> None:
    logs.configure(hello.manners.log_level, as_json=hello.manners.log_json, worker=hello.number)
    logs.quiet_libraries()


def _die_with(owner: int) -> None:
    """End as soon as the owner does, so that no worker serves in parallel with a new owner."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != owner:  # it died before that
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
