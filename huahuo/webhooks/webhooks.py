"""Webhooks put together: a follower that finds what matches, deliveries, and the actions about both.

A service without webhooks follows nothing: the follower begins with the first hook.

Actions about webhooks: of users about their own, and of administrators about everybody's.
"""

import asyncio
from functools import partial
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from huahuo import en, zh
from huahuo.actors.entities.rendezvous_hash import NOTHING, Share
from huahuo.actors.followers import record
from huahuo.actors.followers.follower import Followers
from huahuo.actors.followers.spec import Spec
from huahuo.actors.plugins.actions import Action, Registry
from huahuo.actors.plugins.calls import (
    Call,
    Principal,
    Refusal,
    Reply,
    UserId,
    error_reply,
    from_record,
    json_reply,
    without_secret,
)
from huahuo.actors.plugins.plugin import Brought, Forgotten, Gauges, Host
from huahuo.eventstore.ambient import rfc3339
from huahuo.eventstore.model import Append, Duplicate
from huahuo.refusals import ChangeRefused, refusing
from huahuo.transport.access.rights import may_read
from huahuo.users.belongings import ListBelongings
from huahuo.users.book import UserBook
from huahuo.webhooks.deliveries import Deliveries, Receives
from huahuo.webhooks.hooks import (
    RETRIED,
    Filter,
    Hook,
    HookBook,
    hook_event,
    is_whole_kind,
    kinds_of,
    refuse_url,
)

_LETTERS_MAX: Final = 200
_OVERLAP_S_MAX: Final = 30 * 86_400

type _Url = Annotated[str, Meta(max_length=4096)]


class AddWebhook(Filter, frozen=True, kw_only=True):
    """Fields of `add_webhook`. Without `streams`: the user's own."""

    url: _Url


class OneWebhook(msgspec.Struct, frozen=True):
    """The field of actions on one webhook."""

    webhook_id: int


class Letters(OneWebhook, frozen=True):
    """Fields of `get_webhook_letters`. `before`: the `next` of the page before."""

    limit: Annotated[int, Meta(ge=1, le=_LETTERS_MAX)] = 100
    before: Annotated[int, Meta(ge=1)] | None = None


class ChangeSecret(OneWebhook, frozen=True):
    """Fields of `change_webhook_secret`. `overlap_s`: for this long the secret before signs too."""

    overlap_s: Annotated[int, Meta(ge=0, le=_OVERLAP_S_MAX)] = 86_400


FOLLOWER: Final = "service.webhooks"
_OWN_KINDS: Final = frozenset({"user", "group", "system"})


class Webhooks:
    """See the module. All methods belong to the loop's thread."""

    def __init__(
        self, host: Host, registry: Registry, users: UserBook, posting: Receives, *, allow_private: bool
    ) -> None:
        """Where nodes share the log, the first hook need not be waited for: any node may make it."""
        log, feed, ambient = host.log, host.feed, host.ambient
        self._shared = self._following = host.shared
        self.book = HookBook(log, ambient)
        self._log = log
        self._ambient = ambient
        self._registry = registry
        self._users = users
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
            wait_s=host.wait_s,
            shared=host.shared,
        )
        self._allow_private = allow_private
        spec = Spec(name=FOLLOWER, kinds=hooks.kinds, handler=self.deliveries.queue, first="head")
        self._followers = Followers(
            [spec], log=log, feed=feed, ambient=ambient, read=self.deliveries.read_event
        )
        registry.words.add(zh, en)
        for action in (  # a key cannot make a webhook, which would outlive it
            Action("add_webhook", AddWebhook, self._add, signed_in=True),
            Action("list_webhooks", ListBelongings, self._list, query=True),
            Action("get_webhook_letters", Letters, self._letters, query=True),
            Action("retry_webhook", OneWebhook, self._retry),
            Action("change_webhook_secret", ChangeSecret, self._change_secret, signed_in=True, frees=True),
            Action("pause_webhook", OneWebhook, partial(self._paused, paused=True), frees=True),
            Action("resume_webhook", OneWebhook, partial(self._paused, paused=False)),
            Action("remove_webhook", OneWebhook, self._remove, signed_in=True, frees=True),
        ):
            registry.command(refusing(action))
        self._show(host.metrics)
        self.brought = Brought(
            start=self.book.start,
            work=self.work,
            divide=self.divide,
            drain=self.drain,
            close=self.close,
            forget=self._forget,
        )

    async def _forget(self, user_id: UserId) -> Forgotten:
        mine = self.book.state.all(user_id)
        for hook in mine:
            await self.book.remove(hook.webhook_id, by="service")
        return Forgotten({"webhooks": len(mine)})

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

    def _show(self, metrics: Gauges) -> None:
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

    # Actions of users about their own, and of administrators about everybody's ---------------------------

    async def _add(self, call: Call[AddWebhook]) -> Reply:
        asked, who = call.params, call.principal
        refuse_url(asked.url, allow_private=self._allow_private)
        wanted = Filter(
            types=asked.types,
            streams=asked.streams or (who.name,),
            fields=asked.fields,
            has=asked.has,
        )
        await self._refuse_streams(who, wanted.streams)
        await self._follow_from_here()
        record = without_secret(call, zh.HOOK_MADE_BEFORE)
        made = await self.book.add(
            who,
            asked.url,
            wanted,
            account=self._users.users.of(who.user_id) is not None,
            record=record,
        )
        if isinstance(made, Duplicate):
            return from_record(made.command)
        hook, secret = made
        answer = json_reply({"type": "webhook_added", "secret": secret, **self._shown(hook)})
        return msgspec.structs.replace(answer, recorded=call.key is not None)

    async def _list(self, call: Call[ListBelongings]) -> Reply:
        who = call.principal
        if call.params.everybody and not who.is_admin:
            return error_reply(Refusal("forbidden", zh.ADMINS_ONLY))
        found = self.book.state.all(None if call.params.everybody else who.user_id)
        await self.deliveries.books.count_again(hook.webhook_id for hook in found)
        return json_reply({"type": "webhooks", "data": [self._shown(hook) for hook in found]})

    async def _letters(self, call: Call[Letters]) -> Reply:
        hook = self._known(call)
        found = await self.deliveries.letters(hook.webhook_id)
        before, limit = call.params.before, call.params.limit
        older = [position for position in reversed(found) if before is None or position < before]
        data = [
            {"stream": one.stream, "seq": one.seq, "event_type": one.type, "attempts": one.attempts,
             "error": one.error, "at": rfc3339(one.at_ms)}
            for one in (found[position] for position in older[:limit])
        ]  # fmt: skip
        following = older[limit - 1] if len(older) > limit else None
        said = {"webhook_id": hook.webhook_id, "total": len(found), "data": data, "next": following}
        return json_reply({"type": "webhook_letters", **said})

    async def _retry(self, call: Call[OneWebhook]) -> Reply:
        hook = self._known(call)
        now_ms = self._ambient.now_ms()
        told = hook_event(RETRIED, now_ms, {"webhook_id": hook.webhook_id, "user_id": hook.user_id})
        append = Append(ts_ms=now_ms, events=(told,), principal=call.principal.name)
        count = await self.deliveries.retry(hook, append)
        return json_reply({"type": "success", "message": zh.QUEUED_AGAIN, "dead_letters": count})

    async def _change_secret(self, call: Call[ChangeSecret]) -> Reply:
        who = call.principal
        made = await self.book.change_secret(
            call.params.webhook_id,
            by=who.name,
            only=None if who.is_admin else who.user_id,
            overlap_s=call.params.overlap_s,
            record=without_secret(call, zh.CHANGED_BEFORE),
        )
        if isinstance(made, Duplicate):
            return from_record(made.command)
        hook, secret = made
        until = None if not hook.old_until_ms else rfc3339(hook.old_until_ms)
        said = {"type": "webhook_secret", "webhook_id": hook.webhook_id, "secret": secret, "old_until": until}
        return msgspec.structs.replace(json_reply(said), recorded=call.key is not None)

    async def _paused(self, call: Call[OneWebhook], *, paused: bool) -> Reply:
        who, number = call.principal, call.params.webhook_id
        only = None if who.is_admin else who.user_id
        await self.book.pause(number, by=who.name, only=only, paused=paused)
        if paused:
            return json_reply({"type": "success", "message": zh.HOOK_PAUSED})
        self.deliveries.resume()
        return json_reply({"type": "success", "message": zh.HOOK_RESUMED})

    async def _remove(self, call: Call[OneWebhook]) -> Reply:
        who = call.principal
        self._known(call)
        await self.book.remove(call.params.webhook_id, by=who.name)
        self.deliveries.books.dead.pop(call.params.webhook_id, None)
        return json_reply({"type": "success", "message": zh.HOOK_REMOVED})

    def _known(self, call: Call[OneWebhook]) -> Hook:
        who = call.principal
        return self.book.state.known(call.params.webhook_id, None if who.is_admin else who.user_id)

    async def _refuse_streams(self, who: Principal, streams: tuple[str, ...]) -> None:
        for stream in streams:
            if is_whole_kind(stream):
                if not who.is_admin:
                    raise ChangeRefused("forbidden", f"streams: only administrators may ask for {stream}")
                if not kinds_of([stream]) <= {*_OWN_KINDS, *self._registry.judges}:
                    raise ChangeRefused("invalid_field", f"streams: there are no streams {stream} to read")
            elif not await self._may_read(who, stream):
                raise ChangeRefused("forbidden", f"streams: {stream} is not yours to read")

    def _shown(self, hook: Hook) -> dict[str, Any]:
        books, number = self.deliveries.books, hook.webhook_id
        at_ms, error = self.deliveries.last.get(number, (None, ""))
        return {
            "webhook_id": number,
            "user_id": hook.user_id,
            "username": hook.username,
            "url": hook.url,
            "types": hook.filter.types,
            "streams": hook.filter.streams,
            "fields": hook.filter.fields,
            "has": hook.filter.has,
            "created_at": rfc3339(hook.created_at_ms),
            "paused": hook.paused,
            "old_secret_until": rfc3339(hook.old_until_ms)
            if hook.old_until_ms > self._ambient.now_ms()
            else None,
            "waiting": books.waiting.get(number, 0),
            "dead_letters": books.dead.get(number, 0),
            "last_at": None if at_ms is None else rfc3339(at_ms),
            "last_error": error,
        }
