"""The connections of one sequencer to whichever PostgreSQL server is the primary."""

import asyncio

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.sequencer.address import Host, LogAddress
from huahuo.eventstore.sequencer.credentials import password_of
from huahuo.eventstore.sequencer.port import Misconfigured, SequencerError, Unreachable, another_now
from huahuo.eventstore.sequencer.postgres_link import Link, open_link
from huahuo.eventstore.sequencer.postgres_succession import Succession

RETRY_S = 0.2
"""Between two attempts to connect, so that a log that is down is not asked without pause."""


class Links:
    """See the module. `trouble` says why the log can't be reached, and is empty when it can."""

    def __init__(self, address: LogAddress, ambient: Ambient) -> None:
        self.address = address
        self.trouble = ""
        self.succession = Succession(address, self._move)
        self._ambient = ambient
        self._hosts = list(address.hosts)
        self._log = ""
        """The id of the log, once known: another one later means that the database was replaced."""
        self._links: set[Link] = set()
        self._tried_s = -RETRY_S
        self._closed = False

    async def wait(self) -> Link:
        """As `connect`, until there is one. Raises Unreachable: the log was closed. Misconfigured."""
        while True:
            try:
                return await self.connect()
            except Unreachable:
                if self._closed:
                    raise

    def _is_closed(self) -> bool:
        """Asked again after an await: it may have been closed meanwhile."""
        return self._closed

    async def connect(self) -> Link:
        """A checked connection. After a failed attempt the next one waits for `RETRY_S`.

        Raises:
            Unreachable: it can't be reached, or was closed.
            Misconfigured: it is another log, or may lose commits.
        """
        if self._closed:
            raise Unreachable("the log is closed")
        pause_s = self._tried_s + RETRY_S - self._ambient.monotonic_s()
        self._tried_s = self._ambient.monotonic_s() + max(pause_s, 0.0)
        if pause_s > 0:
            await asyncio.sleep(pause_s)
        try:
            link = await open_link(
                self.address, password_of(self.address), tuple(self._hosts),
                "" if self._log else self._ambient.token(), self.succession.timeline,
            )  # fmt: skip
            self.succession.meet(link)
        except SequencerError as error:
            self.trouble = str(error)
            raise
        if self._log and link.log != self._log:
            link.drop()
            raise Misconfigured(another_now(self.address))
        if self._is_closed():
            link.drop()
            raise Unreachable("the log is closed")
        self._log, self.trouble, self._tried_s = link.log, "", -RETRY_S
        self._links.add(link)
        return link

    def _move(self, host: Host) -> None:
        """This server is the primary now: leave all others, whatever is under way there."""
        self._hosts.sort(key=lambda one: one != host)
        for link in list(self._links):
            if link.host != host:
                self.drop(link)

    def drop(self, link: Link) -> None:
        """Leave a connection."""
        link.drop()
        self._links.discard(link)

    def close(self) -> None:
        """Leave all connections, and open no more."""
        self._closed = True
        self.succession.close()
        for link in list(self._links):
            self.drop(link)
