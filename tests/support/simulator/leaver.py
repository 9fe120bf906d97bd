"""A user with a mailbox and events is erased in the midst of a run. Then no file holds any of it (I17)."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from random import Random
from typing import Any, Final

from huahuo.actors.plugins.calls import Principal
from huahuo.app.wiring import App
from huahuo.embedding import calls
from huahuo.errors import HuahuoError
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.port import Log
from tests.support.checkers.history import Erased, History
from tests.support.simulator.node import Node

USER: Final = 900
_NAME: Final = f"leaver-canary-{USER}"
_SAYS: Final = 3
_AGAIN_S: Final = 0.5
_LATE_S: Final = 60.0


class Leaver:
    """See the module. Everything is asked again until it is answered, also by later lives of the service."""

    def __init__(self, node: Node, history: History, seconds: float) -> None:
        """`seconds`: how long the run is."""
        self._node = node
        self._history = history
        self._stay_s = Random(f"leaver {node.loop.seed}").uniform(0.1, 0.7) * seconds
        self._mailbox = 0
        self._forms: tuple[bytes, ...] = ()
        self._gone = asyncio.Event()

    async def live(self) -> None:
        """Come, say something, stay for a while, and be erased."""
        await self._until_done(self._come)
        for number in range(_SAYS):
            await self._until_done(partial(self._say, number=number))
        await asyncio.sleep(self._stay_s)
        self._forms = (_NAME.encode(), *await self._node.sealed_of(f"mailbox/{self._mailbox}"))
        assert len(self._forms) > 1, "its password is there, under a key of its own"
        await self._until_done(self._erase)
        self._node.marks.sometimes("user erased")
        self._gone.set()

    async def settle(self) -> None:
        """All faults are over: wait until it is erased."""
        async with asyncio.timeout(_LATE_S + self._stay_s):
            await self._gone.wait()

    async def judge(self, log: Log, raw: bytes) -> None:
        """Record what the final log and the raw files have of it."""
        [secret] = await log.secrets(f"mailbox/{self._mailbox}", ("password",))
        name = f"user {USER}"
        self._history.erased.append(Erased(name, self._forms, opened=secret is not None))
        self._history.after_erasure["disk"] = raw

    async def _until_done(self, deed: Callable[[App], Awaitable[Any]]) -> None:
        node = self._node
        while True:
            app = node.app
            if app is not None and node.up.is_set():
                doing = node.host.create_task(_done(deed, app))
                await asyncio.wait({doing}, timeout=_LATE_S)
                if doing.done() and not doing.cancelled() and doing.result():
                    return
            await asyncio.sleep(_AGAIN_S)

    async def _come(self, app: App) -> None:
        added = await calls.send(
            app, "add_email", as_user=Principal(USER, _NAME), command_id="leaver-comes",
            email=f"{_NAME}@example.com", password=f"{_NAME}-password", mail_type="imap", server="imap",
            port=143, use_ssl=False,
        )  # fmt: skip
        self._mailbox = added["email_id"]

    async def _say(self, app: App, number: int) -> None:
        await calls.publish(app, f"user/{USER}", "note", {"nonce": f"{_NAME} {number}"})

    async def _erase(self, app: App) -> None:
        await app.storing.erase(USER, None, "leaver")


async def _done(deed: Callable[[App], Awaitable[Any]], app: App) -> bool:
    with contextlib.suppress(HuahuoError, EventStoreError):
        await deed(app)
        return True
    return False
