"""The webhooks in the log: made, removed, and read as the log grows. A thin shell."""

import asyncio

import msgspec

from huahuo.actors.plugins.principal import Principal, UserId
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.model import Append, CommandRecord, Duplicate, RowDrop, Secret, SecretPut
from huahuo.eventstore.port import Log
from huahuo.ledger import Ledger
from huahuo.webhooks import letters, signing
from huahuo.webhooks.hooks import (
    ADDED,
    HOOKS_PER_DAY_MAX,
    HOOKS_PER_USER_MAX,
    PAUSED,
    REMOVED,
    RESUMED,
    SECRET,
    SECRET_BEFORE,
    SECRET_CHANGED,
    WEBHOOKS,
    Filter,
    Hook,
    HookRefused,
    Hooks,
    event,
    owner_of,
    refuse_number,
)


class HookBook(Ledger[Hooks]):
    """See the module."""

    def __init__(self, log: Log, ambient: Ambient) -> None:
        super().__init__(log, WEBHOOKS, Hooks())
        self._ambient = ambient
        self._adding = asyncio.Lock()

    async def add(
        self,
        owner: Principal,
        url: str,
        wanted: Filter,
        *,
        account: bool,
        record: CommandRecord | None = None,
    ) -> tuple[Hook, str] | Duplicate:
        """Make a hook whose fields were judged; its secret is told once. `record`: see `KeyBook.add`.

        Raises:
            HookRefused: the user has as many as one may have, or has made as many today as one may.
        """
        secret = signing.secret_text(self._ambient.token_bytes(signing.SECRET_BYTES))
        hook: Hook | None = None
        number = 0

        def change(state: Hooks) -> Append:
            nonlocal hook, number
            now_ms = self._ambient.now_ms()
            if len(state.all(owner.user_id)) >= HOOKS_PER_USER_MAX:
                why = f"a user may have {HOOKS_PER_USER_MAX} webhooks: remove one first"
                raise HookRefused("rate_limited", why)
            if state.made_today(owner.user_id, now_ms) >= HOOKS_PER_DAY_MAX:
                why = f"a user may make {HOOKS_PER_DAY_MAX} webhooks a day: change one, or try again tomorrow"
                raise HookRefused("rate_limited", why)
            number = number or self._log.take("webhook")
            refuse_number(number)
            hook = Hook(
                webhook_id=number,
                user_id=owner.user_id,
                username=owner.username,
                is_admin=owner.is_admin,
                groups=owner.groups,
                account=account,
                url=url,
                filter=wanted,
                since=self._log.position,
                created_at_ms=now_ms,
            )
            return Append(
                ts_ms=now_ms,
                events=(event(ADDED, now_ms, msgspec.to_builtins(hook)),),
                expected={WEBHOOKS: state.seq},
                principal=owner.name,
                secrets=(SecretPut(owner_of(number), SECRET, Secret(secret)),),
                command=record,
            )

        async with self._adding:  # else those at the same time would each take a number, and fail
            written = await self.change(change)
        if isinstance(written, Duplicate):
            return written
        assert hook is not None, "it was appended"
        return hook, secret

    async def change_secret(
        self, webhook_id: int, *, by: str, only: UserId | None, overlap_s: float, record: CommandRecord | None
    ) -> tuple[Hook, str] | Duplicate:
        """Give a hook another secret, told once. The one before signs too for `overlap_s`.

        Raises HookRefused: there is no such hook (of the user `only`), or it was changed at the same time.
        """
        before = known(self.state, webhook_id, only)
        owner = owner_of(webhook_id)
        old = await self._log.secret(owner, SECRET)
        secret = signing.secret_text(self._ambient.token_bytes(signing.SECRET_BYTES))

        def change(state: Hooks) -> Append:
            hook = known(state, webhook_id, only)
            if hook.changes != before.changes:
                raise HookRefused("conflict", "the secret was changed at the same time")
            now_ms = self._ambient.now_ms()
            keeps = old is not None and overlap_s > 0
            until_ms = now_ms + round(overlap_s * 1000) if keeps else 0
            fields = {"webhook_id": webhook_id, "user_id": hook.user_id, "old_until_ms": until_ms}
            kept = (SecretPut(owner, SECRET_BEFORE, old),) if keeps and old is not None else ()
            return Append(
                ts_ms=now_ms,
                events=(event(SECRET_CHANGED, now_ms, fields),),
                expected={WEBHOOKS: state.seq},
                principal=by,
                secrets=(SecretPut(owner, SECRET, Secret(secret)), *kept),
                drop_secrets=() if keeps else ((owner, SECRET_BEFORE),),
                command=record,
            )

        written = await self.change(change)
        if isinstance(written, Duplicate):
            return written
        return known(self.state, webhook_id, only), secret

    async def pause(self, webhook_id: int, *, by: str, only: UserId | None, paused: bool) -> None:
        """Pause a hook or let it go on; nothing changes if it is so already. Raises as `remove`."""
        if known(self.state, webhook_id, only).paused == paused:
            return

        def change(state: Hooks) -> Append:
            hook = known(state, webhook_id, only)
            now_ms = self._ambient.now_ms()
            fields = {"webhook_id": webhook_id, "user_id": hook.user_id}
            return Append(
                ts_ms=now_ms,
                events=(event(PAUSED if paused else RESUMED, now_ms, fields),),
                expected={WEBHOOKS: state.seq},
                principal=by,
            )

        await self.change(change)

    async def remove(self, webhook_id: int, *, by: str, only: UserId | None = None) -> None:
        """Remove a hook with its secret and dead letters; what waits for it is not sent any more.

        Raises HookRefused: there is no such hook (of the user `only`).
        """

        def change(state: Hooks) -> Append:
            hook = known(state, webhook_id, only)
            now_ms = self._ambient.now_ms()
            fields = {"webhook_id": webhook_id, "user_id": hook.user_id}
            return Append(
                ts_ms=now_ms,
                events=(event(REMOVED, now_ms, fields),),
                expected={WEBHOOKS: state.seq},
                principal=by,
                rows=(RowDrop(letters.DEAD, str(webhook_id)),),
                shred=(owner_of(webhook_id),),
            )

        await self.change(change)


def known(state: Hooks, webhook_id: int, only: UserId | None) -> Hook:
    """The hook of this id, if it is of the user `only`. Raises HookRefused."""
    hook = state.of(webhook_id)
    if hook is None or only not in (None, hook.user_id):
        raise HookRefused("not_found", f"there is no webhook {webhook_id}")
    return hook
