"""`huahuo serve` with three commands whose handlers hang, each in its own way. Run as a child process."""

import asyncio
import contextlib
import sys
import threading
import time
from typing import IO

import msgspec

from huahuo.actors.plugins.actions import Action, Registry
from huahuo.actors.plugins.calls import Call, Reply
from huahuo.cli.main import main
from huahuo.transport.server.hub import Clients, Hub, Look
from tests.support.drivers.rawclient import raw

HANG_S = 3600.0


class NoParams(msgspec.Struct):
    """No fields."""


async def ignore_cancellation(_call: Call[NoParams]) -> Reply:
    """Go on whatever happens."""
    print("hanging", flush=True)
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.get_running_loop().create_future()


async def block_the_loop(_call: Call[NoParams]) -> Reply:
    """Block the loop's thread."""
    print("hanging", flush=True)
    time.sleep(HANG_S)  # noqa: ASYNC251  that is the fault
    return Reply(b"{}")


async def leave_a_thread(_call: Call[NoParams]) -> Reply:
    """Start a thread that hangs and is no daemon, as the lookup of a name may."""
    threading.Thread(target=time.sleep, args=(HANG_S,)).start()
    print("hanging", flush=True)
    return Reply(b"{}")


def make(self: Clients, registry: Registry, hub: Hub, look: Look | None = None) -> None:
    """As `Clients`, with the commands, each under the name of its function."""
    _make(self, registry, hub, look)
    for handler in (ignore_cancellation, block_the_loop, leave_a_thread):
        registry.command(Action(handler.__name__, NoParams, handler))


async def send(url: str, token: str, action: str, said: IO[str] | None = None) -> None:
    """Send a command, and leave without its answer.

    If the service is another process, whose output is `said`, leave when it hangs in the command.
    """
    async with raw(url.replace("http", "ws"), "huahuo.v1") as client:
        await client.authenticate(token)
        await client.say(action=action, id="c1")
        if said is None:
            await client.say(action="heartbeat")
            await client.until("heartbeat_response")
        else:
            while (line := await asyncio.to_thread(said.readline)) != "hanging\n":
                assert line, "the service ended"


_make = Clients.__init__

if __name__ == "__main__":
    Clients.__init__ = make  # type: ignore[method-assign]
    sys.argv[0] = "huahuo"
    main()
