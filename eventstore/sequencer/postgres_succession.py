"""Finding out that the primary was replaced while it says nothing, since it is frozen or cut off.

A promotion raises a server's timeline. So a primary of the same address on a later timeline than ours has
taken its place, and with a synchronous standby it has all that was acknowledged.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence

import asyncpg
import structlog

from huahuo.eventstore.sequencer.address import Host, LogAddress
from huahuo.eventstore.sequencer.credentials import password_of
from huahuo.eventstore.sequencer.port import SequencerError, Unreachable
from huahuo.eventstore.sequencer.postgres_link import LOST, TIMELINE, Link, connect

LOOK_S = 1.0
"""While a statement runs longer than this, the other servers are looked at, again after each such span."""
_CONNECT_S = 2.0
_log = structlog.get_logger(__name__)


class Succession:
    """See the module. `moved` is called with the host that has taken the place of ours."""

    def __init__(self, address: LogAddress, moved: Callable[[Host], None]) -> None:
        self.timeline = 0
        """The newest that was seen. A primary on an earlier one was replaced."""
        self._address = address
        self._moved = moved
        self._waiting: set[Link] = set()
        self._looking: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def attended(self, link: Link) -> Iterator[None]:
        """While a statement runs on `link`, see whether its server was replaced."""
        self._waiting.add(link)
        handle = asyncio.get_running_loop().call_later(LOOK_S, self._begin)
        try:
            yield
        finally:
            handle.cancel()
            self._waiting.discard(link)

    def meet(self, link: Link) -> None:
        """Take note of the timeline of a new link.

        Raises:
            Unreachable: its server was replaced while the link was opened. It is dropped.
        """
        if link.timeline < self.timeline:
            link.drop()
            raise Unreachable(f"{link.host}: another server was promoted in its place: stop it")
        self.timeline = link.timeline

    def close(self) -> None:
        """Look no more."""
        if self._looking is not None:
            self._looking.cancel()

    def _begin(self) -> None:
        if self._looking is None and len(self._address.hosts) > 1:
            self._looking = asyncio.get_running_loop().create_task(self._look(), name="succession in the log")

    async def _look(self) -> None:
        try:
            while self._waiting:
                ours = {link.host for link in self._waiting}
                if await self._look_at([host for host in self._address.hosts if host not in ours]):
                    return
                await asyncio.sleep(LOOK_S)
        finally:
            self._looking = None

    async def _look_at(self, hosts: Sequence[Host]) -> bool:
        for host in hosts:
            timeline = await _timeline_of(self._address, host)
            if timeline is not None and timeline > self.timeline:
                self.timeline = timeline
                _log.warning("ordered_log_has_another_primary", host=str(host))
                self._moved(host)
                return True
        return False


async def _timeline_of(address: LogAddress, host: Host) -> int | None:
    """The timeline of a server, None if it is no primary or does not answer."""
    try:
        async with asyncio.timeout(_CONNECT_S):
            connection = await connect(address, password_of(address), host)
            try:
                return int(await connection.fetchval(TIMELINE))
            finally:
                connection.terminate()
    except (*LOST, asyncpg.PostgresError, TimeoutError, SequencerError):
        return None
