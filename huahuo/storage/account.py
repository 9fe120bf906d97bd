"""What the service itself keeps of a user: the account, API keys and webhooks. The first steps of erasing."""

from collections.abc import Awaitable, Callable

from huahuo.actors.plugins.plugin import Forgotten
from huahuo.actors.plugins.principal import UserId
from huahuo.api_keys.book import KeyBook
from huahuo.storage.erasing import Step
from huahuo.users.book import UserBook
from huahuo.webhooks.book import HookBook

_BY = "service"


def account_steps(users: UserBook, keys: KeyBook, hooks: HookBook) -> tuple[Step, ...]:
    """The account first, with its sessions. Raises UserRefused: it is the last administrator."""

    async def account(user_id: UserId) -> Forgotten:
        user = users.users.of(user_id)
        if user is None:
            await users.end_sessions(user_id, principal=_BY)
            return Forgotten()
        await users.remove(user.name, principal=_BY)
        return Forgotten({"accounts": 1})

    async def api_keys(user_id: UserId) -> Forgotten:
        mine = keys.state.all(user_id)
        for key in mine:
            await keys.revoke(key.key_id, by=_BY)
        return Forgotten({"api_keys": len(mine)})

    async def webhooks(user_id: UserId) -> Forgotten:
        mine = hooks.state.all(user_id)
        for hook in mine:
            await hooks.remove(hook.webhook_id, by=_BY)
        return Forgotten({"webhooks": len(mine)})

    return account, api_keys, webhooks


def ack_step(write_acks: Callable[[], Awaitable[None]]) -> Step:
    """The last step: acks of connections that have ended are written, so that they can be removed."""

    async def acks(_user_id: UserId) -> Forgotten:
        await write_acks()
        return Forgotten()

    return acks
