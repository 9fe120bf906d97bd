"""Actions about API keys: of users about their own, and of administrators about everybody's."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from huahuo.actors.plugins.actions import Action, Registry
from huahuo.actors.plugins.calls import (
    Call,
    Refusal,
    Reply,
    error_reply,
    from_record,
    json_reply,
    without_secret,
)
from huahuo.actors.plugins.principal import Principal, UserId
from huahuo.api_keys import en, keys, zh
from huahuo.api_keys.book import KeyBook
from huahuo.api_keys.keys import DAYS, Key, KeyRefused
from huahuo.api_keys.verifying import WithKeys
from huahuo.eventstore.ambient import rfc3339
from huahuo.eventstore.model import Duplicate
from huahuo.transport.access.revocations import Revocations
from huahuo.transport.access.verified import Verifier
from huahuo.users.book import UserBook
from huahuo.users.users import User

type _Text = Annotated[str, Meta(max_length=256)]


class AddKey(msgspec.Struct, frozen=True):
    """Fields of `add_key`. `user`: the name of the user it is for, if another (administrators)."""

    name: _Text
    rights: Annotated[tuple[_Text, ...], Meta(max_length=64)]
    expires_in_days: int = DAYS
    user: _Text | None = None


class ListKeys(msgspec.Struct, frozen=True):
    """Fields of `list_keys`. `everybody`: those of all users (administrators)."""

    everybody: bool = False


class RevokeKey(msgspec.Struct, frozen=True):
    """The field of `revoke_key`."""

    key_id: int


class KeyActions:
    """See the module."""

    def __init__(self, book: KeyBook, users: UserBook, verifier: WithKeys, registry: Registry) -> None:
        self._book = book
        self._users = users
        self._verifier = verifier
        self._registry = registry

    def register(self) -> None:
        """Offer the actions. No key may call them: it could make itself a stronger one."""
        self._registry.words.add(zh, en)
        for action in (
            Action("add_key", AddKey, self._add, signed_in=True),
            Action("list_keys", ListKeys, self._list, query=True, signed_in=True),
            Action("revoke_key", RevokeKey, self._revoke, signed_in=True, frees=True),
        ):
            self._registry.command(action)

    async def _add(self, call: Call[AddKey]) -> Reply:
        asked = call.params
        try:
            owner = self._owner(call.principal, asked.user)
            refuse_rights(asked.rights, self._registry, is_admin=owner.is_admin)
            made = await self._book.add(
                owner,
                asked.name,
                asked.rights,
                asked.expires_in_days,
                by=call.principal.name,
                record=without_secret(call, zh.MADE_BEFORE),
            )
        except KeyRefused as refused:
            return error_reply(Refusal(refused.code, zh.REFUSED, str(refused)))
        if isinstance(made, Duplicate):
            return from_record(made.command)
        key, text = made
        answer = json_reply({"type": "key_added", "key": text, **self._shown(key)})
        return msgspec.structs.replace(answer, recorded=call.key is not None)

    async def _list(self, call: Call[ListKeys]) -> Reply:
        who = call.principal
        if call.params.everybody and not who.is_admin:
            return error_reply(Refusal("forbidden", zh.ADMINS_ONLY))
        found = self._book.state.all(None if call.params.everybody else who.user_id)
        return json_reply({"type": "keys", "data": [self._shown(key) for key in found]})

    async def _revoke(self, call: Call[RevokeKey]) -> Reply:
        who = call.principal
        try:
            await self._book.revoke(
                call.params.key_id, by=who.name, only=None if who.is_admin else who.user_id
            )
        except KeyRefused as refused:
            return error_reply(Refusal(refused.code, zh.REFUSED, str(refused)))
        return json_reply({"type": "success", "message": zh.KEY_REVOKED})

    def _owner(self, who: Principal, name: str | None) -> Principal:
        if name is None or name == who.username:
            return who
        if not who.is_admin:
            raise KeyRefused("forbidden", "user: only administrators may make keys for others")
        return owner_named(self._users, name)

    def _shown(self, key: Key) -> dict[str, Any]:
        used_ms = self._book.state.used_ms.get(key.key_id)
        return {**shown(key), "ended": self._verifier.is_over(key),
                "last_used_at": None if used_ms is None else rfc3339(used_ms)}  # fmt: skip


def shown(key: Key) -> dict[str, Any]:
    """A key as lists have it."""
    return {
        "key_id": key.key_id,
        "name": key.name,
        "user_id": key.user_id,
        "username": key.username,
        "rights": key.rights,
        "created_at": rfc3339(key.created_at_ms),
        "expires_at": rfc3339(key.expires_at_ms),
    }


def owner_named(users: UserBook, name: str) -> Principal:
    """The user of this name, as the owner of a key. Raises KeyRefused: there is none who may sign in."""
    user: User | None = users.users.named(name)
    if user is None or user.disabled:
        raise KeyRefused("not_found", f"there is no user {name!r} who may sign in")
    return Principal(user.user_id, user.name, is_admin=user.is_admin)


def refuse_rights(rights: tuple[str, ...], registry: Registry, *, is_admin: bool) -> None:
    """Raise KeyRefused: a right does not exist here, or the owner must not have it."""
    free = {name: action for name, action in registry.commands.items() if not action.signed_in}
    admins = {name for name, action in free.items() if action.admin}
    keys.refuse_rights(rights, actions=free.keys(), admin_actions=admins, is_admin=is_admin)


def admit_keys(
    book: KeyBook, users: UserBook, tokens: Verifier, revocations: Revocations, registry: Registry
) -> WithKeys:
    """Accept keys besides tokens from now on, and offer the actions about them."""

    def is_admin(user_id: UserId) -> bool | None:
        user = users.users.of(user_id)
        return None if user is None else user.is_admin

    def admin_action(name: str) -> bool:
        action = registry.commands.get(name)
        return action is not None and action.admin

    verifier = WithKeys(book.state, tokens, revocations, is_admin=is_admin, admin_actions=admin_action)
    KeyActions(book, users, verifier, registry).register()
    return verifier
