"""Which mailboxes this node checks and watches, where nodes divide them: those of its share, by mailbox.

One exception: where the table bounds the connections to a provider over all nodes, the node with the work
watches its mailboxes, because it lends the places. What other nodes are told of watching is heard in the
log.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec
import structlog

from huahuo.actors.effects.runner import Effects
from huahuo.actors.entities.rendezvous_hash import NOTHING, Share
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.model import StoredEvent
from huahuo.eventstore.port import Log
from huahuo.mailcheck.api.code_route import Tap
from huahuo.mailcheck.checks.backlog import Backlog
from huahuo.mailcheck.checks.watchers import Watching
from huahuo.mailcheck.events import mailbox_stream
from huahuo.mailcheck.records import WATCHED, email_key
from huahuo.mailcheck.servers.providers import Providers

_SIGN_IN: Final = frozenset({"mailbox_added", "mailbox_updated", "secret_stored", "mailbox_deleted"})
"""Events on a mailbox's own stream after which a watcher begins anew."""
_ENDED: Final = "check_ended"
_UPDATED: Final = "email_updated"
_MAILBOXES: Final = "mailbox/"
_USERS: Final = "user/"
_AGAIN_S: Final = 2.0

_log = structlog.get_logger(__name__)


class _Ended(msgspec.Struct):
    status: str


class _Updated(msgspec.Struct):
    email_id: int
    watched: bool | None = None


class Division:
    """See the module. All methods belong to the loop's thread."""

    def __init__(
        self,
        log: Log,
        tap: Callable[[Tap], Callable[[], None]],
        checks: Effects,
        watching: Watching,
        filling: Backlog | None,
        providers: Providers,
    ) -> None:
        """`tap`: has a function called from now on, and returns what ends that.

        `filling`: None if contents are not read in the background.
        """
        self._log, self._tap, self._providers = log, tap, providers
        self._checks, self._watching, self._filling = checks, watching, filling
        self._share: Share = NOTHING
        self._works = False
        """Whether this node has the work that is not divided."""
        self._told: set[int] = set()
        """Mailboxes about whose watching something was decided."""
        self._all = False
        """Whether all are to be looked at."""
        self._changed = asyncio.Event()
        self._looking = asyncio.Lock()
        """Held while the table is compared with what is watched, so that no change meanwhile is lost."""
        self._task: asyncio.Task[None] | None = None
        self._untap: Callable[[], None] | None = None

    async def divide(self, share: Share) -> None:
        """Do this part, and no other. Raises as `Log.rows`."""
        before, self._share = self._share, share
        self._checks.divide(share)
        if not share.is_nothing and before.is_nothing:
            await self._checks.start()
        elif share.is_nothing and not before.is_nothing:
            await self._checks.rest()
            if self._filling is not None:
                await self._filling.close()
        if self._filling is not None and not share.is_nothing:
            await self._filling.start(lambda email_id: share.has(mailbox_stream(email_id)))
        await self._watch()

    async def work(self, *, has: bool) -> None:
        """This node has the work that is not divided, or another one has it now. Raises as `Log.rows`."""
        self._works = has
        await self._watch()

    async def close(self) -> None:
        """Stop hearing of anything. Idempotent."""
        if self._untap is not None:
            self._untap()
            self._untap = None
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _watch(self) -> None:
        """Watch what is this node's now."""
        if self._share.is_nothing and not self._works:
            await self.close()
            await self._watching.rest()
            return
        if self._untap is None:
            self._untap = self._tap(self._heard)
            self._task = asyncio.create_task(self._run(), name="mailboxes to watch")
        async with self._looking:
            await self._watching.start(self._watches)

    def _watches(self, email_id: int, host: str) -> bool:
        if self._providers.may_be_bounded(host):
            return self._works
        return self._share.has(mailbox_stream(email_id))

    def _heard(self, by_stream: Mapping[str, Sequence[StoredEvent]] | None) -> None:
        if by_stream is None:
            self._all = True
            self._changed.set()
            return
        for stream, events in by_stream.items():
            if stream.startswith(_MAILBOXES):
                number = int(stream[len(_MAILBOXES) :])
                for event in events:
                    if event.type in _SIGN_IN:
                        self._told.add(number)
                    elif event.type == _ENDED:
                        self._succeeded(number, event)
            elif stream.startswith(_USERS):
                for event in events:
                    if event.type == _UPDATED and (told := _read(event, _Updated)).watched is not None:
                        self._told.add(told.email_id)
        if self._told:
            self._changed.set()

    def _succeeded(self, email_id: int, ended: StoredEvent) -> None:
        """A check, maybe on another node, has ended: if it went well, looks may go well again."""
        if self._watching.has_failed(email_id) and _read(ended, _Ended).status == "ok":
            self._watching.look_again(email_id)

    async def _run(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            told, self._told = self._told, set()
            everything, self._all = self._all, False
            try:
                async with self._looking:
                    if everything:
                        await self._watching.start(self._watches)
                        self._watching.look_at_waiting()
                    for email_id in sorted(told):
                        await self._look(email_id)
                        told.discard(email_id)
            except EventStoreError as error:
                _log.warning("watching_not_read", error=type(error).__name__)
                self._told |= told
                self._all = self._all or everything
                self._changed.set()
                await asyncio.sleep(_AGAIN_S)

    async def _look(self, email_id: int) -> None:
        host = await self._log.row(WATCHED, "", email_key(email_id))
        if host is not None and self._watches(email_id, host.decode()):
            self._watching.watch(email_id, host.decode())
        else:
            self._watching.unwatch(email_id)


def _read[T: msgspec.Struct](event: StoredEvent, kind: type[T]) -> T:
    found: T = msgspec.json.decode(event.body, type=kind)
    return found
