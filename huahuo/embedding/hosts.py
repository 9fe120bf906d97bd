"""The hosts of one service in a process: it starts with the first and stops with the last of them."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final, Protocol

from huahuo.app.wiring import App
from huahuo.errors import HuahuoError

_ELSEWHERE: Final = (
    "the service runs on the event loop of another thread: serve all hosts of one Huahuo on one loop, or give"
    " each thread a Huahuo with a directory of its own"
)


class Owner(Protocol):
    """The application (`Huahuo`)."""

    @property
    def app(self) -> App | None:
        """The running service."""
        ...

    async def start_inside(self) -> App:
        """Start without a port. Raises HuahuoError."""
        ...

    async def stop(self) -> None:
        """Drain and stop."""
        ...


class Hosts:
    """See the module. A service that was started otherwise (`async with app`) is not stopped here."""

    def __init__(self, owner: Owner, start: Callable[[str], Awaitable[App]]) -> None:
        """`start` starts the service, for the log by what: `lifespan` or `first use`."""
        self._owner = owner
        self._start = start
        self._count = 0
        self._ours: App | None = None
        """The service that was started here last."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turns = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def one(self) -> AsyncGenerator[App]:
        """The service, for as long as one host lives. Raises HuahuoError: it could not start."""
        turns = self._turns_here()
        async with turns:
            app = await self._started("lifespan")
            self._count += 1
        try:
            yield app
        finally:
            self._count -= 1  # before anything that may be cancelled
            async with turns:
                if self._is_ours and not self._count:
                    self._ours = None
                    await self._owner.stop()

    async def first_use(self) -> App:
        """The service, which starts if it does not run. Raises as `one`."""
        async with self._turns_here():
            return await self._started("first use")

    def must_be_here(self) -> None:
        """Raises HuahuoError: the service was started for hosts on another loop, and runs there."""
        if self._is_ours and self._loop is not asyncio.get_running_loop():
            raise HuahuoError(_ELSEWHERE)

    @property
    def _is_ours(self) -> bool:
        """Whether the service that runs was started here."""
        return self._ours is not None and self._owner.app is self._ours

    def _turns_here(self) -> asyncio.Lock:
        """Starts and stops are one at a time. A lock belongs to one loop."""
        self.must_be_here()
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._turns, self._count = loop, asyncio.Lock(), 0
        return self._turns

    async def _started(self, by: str) -> App:
        app = self._owner.app
        if app is None:
            app = self._ours = await self._start(by)
        return app
