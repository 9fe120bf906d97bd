"""Webhooks put together: a follower that finds what matches, deliveries, and the actions about both.

A service without webhooks follows nothing: the follower begins with the first hook.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from huahuo.actors.entities.sharing import NOTHING, Share
from huahuo.actors.followers import record
from huahuo.actors.followers.followers import Followers
from huahuo.actors.followers.spec import Spec
from huahuo.actors.plugins.actions import Registry
from huahuo.actors.plugins.plugin import Gauges
from huahuo.actors.plugins.principal import Principal, UserId
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.model import Append
from huahuo.eventstore.port import Log
from huahuo.replay.live.feed import Feed
from huahuo.transport.access.rights import may_read
from huahuo.users.book import UserBook
from huahuo.webhooks.actions import HookActions
from huahuo.webhooks.book import HookBook
from huahuo.webhooks.deliveries import Deliveries, Receives
from huahuo.webhooks.hooks import Hook

FOLLOWER: Final = "service.webhooks"
_OWN_KINDS: Final = frozenset({"user", "group", "system"})


class Webhooks:
    """See the module. All methods belong to the loop's thread."""

    def __init__(
        self,
        *,
        log: Log,
        feed: Feed,
        ambient: Ambient,
        registry: Registry,
        users: UserBook,
        posting: Receives,
        allow_private: bool,
        wait_s: Callable[[UserId], float] = lambda _user: 0.0,
        shared: bool = False,
    ) -> None:
        """`shared`: see `Host`. Then the first hook need not be waited for: any node may make it."""
        self._shared = shared
        self.book = HookBook(log, ambient)
        self._log = log
        self._ambient = ambient
        self._registry = registry
        self._users = users
        self._following = shared
        self._beginning = asyncio.Lock()
        self._share = NOTHING
        hooks = self.book.state
        self.deliveries = Deliveries(
            log=log,
            feed=feed,
            ambient=ambient,
            hooks=hooks,
            posting=posting,
            may_read=self._may_read_now,
            wait_s=wait_s,
            shared=shared,
        )
        spec = Spec(name=FOLLOWER, kinds=hooks.kinds, handler=self.deliveries.queue, first="head")
        self._followers = Followers(
            [spec], log=log, feed=feed, ambient=ambient, read=self.deliveries.read_event
        )
        HookActions(
            self.book,
            self.deliveries,
            ambient,
            allow_private=allow_private,
            has_account=lambda user_id: users.users.of(user_id) is not None,
            may_read=self._may_read,
            whole_kinds=lambda: {*_OWN_KINDS, *registry.judges},
            added=self._follow_from_here,
        ).register(registry)

    async def start(self) -> None:
        """Follow the hooks of all users."""
        await self.book.start()

    async def work(self) -> None:
        """Go on with what an earlier process left. Where nodes share the log, `divide` says what."""
        if self._shared:
            return
        await self.deliveries.start()
        if len(self.book.state):
            self._following = True
            await self._followers.start()

    async def divide(self, share: Share) -> None:
        """Nodes divide deliveries by their hooks, and one finds what matches: do this part, and no other."""
        before, self._share = self._share, share
        self.deliveries.effects.divide(share)
        if not share.is_nothing and before.is_nothing:
            await self.deliveries.start()
            await self._followers.start(share)
        elif not share.is_nothing:
            await self._followers.divide(share)
        elif not before.is_nothing:
            await self._followers.close()
            await self.deliveries.effects.rest()

    async def drain(self, timeout_s: float) -> None:
        """Let what runs come to its end."""
        await self._followers.drain(timeout_s)
        await self.deliveries.effects.drain(timeout_s)

    async def close(self) -> None:
        """Cut short what runs: the next start goes on with it. Idempotent."""
        self.book.stop()
        await self._followers.close()
        await self.deliveries.effects.close()

    async def idle(self) -> None:
        """Return when nothing is to be queued or delivered, for tests."""
        await self._followers.idle()
        await self.deliveries.effects.idle()

    def show(self, metrics: Gauges) -> None:
        """What can be seen of webhooks from outside."""
        made = self.deliveries
        metrics.gauge("webhooks", "Webhooks of all users.", lambda: len(self.book.state))
        metrics.gauge("webhooks_waiting", "Deliveries that wait or run.", lambda: made.effects.opened)
        metrics.gauge(
            "webhooks_dead_letters", "Deliveries that failed for good.", lambda: sum(made.books.dead.values())
        )
        metrics.total("webhooks_delivered", "Deliveries that were accepted.", lambda: made.delivered)
        metrics.total("webhooks_failed", "Attempts that failed.", lambda: made.failed)

    async def _follow_from_here(self) -> None:
        """A hook is about to be made. If it is the first, what was before it is not looked at.

        No hook is made before the follower runs from a place that is kept: a start without one would begin
        at the head of the log. What failed is done again with the next attempt. Raises as `Log.append`.
        """
        async with self._beginning:
            if self._following:
                return
            now_ms = self._ambient.now_ms()
            row = record.put_cursor(FOLLOWER, self._log.position, now_ms)
            await self._log.append(Append(ts_ms=now_ms, rows=(row,)))
            try:
                await self._followers.start()
            except BaseException:
                await self._followers.close()
                raise
            self._following = True

    async def _may_read_now(self, hook: Hook, stream: str) -> bool:
        """Whether the user of a hook may still read a stream."""
        owner = hook.owner
        if hook.account:
            user = self._users.users.of(hook.user_id)
            if user is None or user.disabled:
                return False
            owner = Principal(user.user_id, user.name, is_admin=user.is_admin)
        return await self._may_read(owner, stream)

    async def _may_read(self, who: Principal, stream: str) -> bool:
        judge = self._registry.judges.get(stream.partition("/")[0])
        return may_read(who, stream) if judge is None else bool(await judge(stream, who))
