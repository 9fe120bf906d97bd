"""Actions on room: `get_usage` for all, `get_storage`, `set_quota` and `erase_user` for administrators."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from huahuo.actors.plugins.actions import Action, Registry
from huahuo.actors.plugins.calls import Call, Refusal, Reply, error_reply, json_reply
from huahuo.actors.plugins.principal import USER_ID_RULE, UserId, user_id_of
from huahuo.admin import zh
from huahuo.eventstore.limits import BROWSER_INT_MAX
from huahuo.storage.erasing import Erased
from huahuo.storage.quotas import Quotas
from huahuo.transport.protocol.codes import ErrorCode
from huahuo.transport.words import zh as words
from huahuo.users.users import UserRefused

type Erase = Callable[[int | str | None, str | None, str], Awaitable[Erased]]
"""Erases a user by id or by name, for this principal. Raises UserRefused."""


class UsageParams(msgspec.Struct, frozen=True):
    """Fields of `get_usage`. `user_id`: another user, for administrators."""

    user_id: int | str | None = None


class QuotaParams(msgspec.Struct, frozen=True):
    """Fields of `set_quota`. `bytes_max`: 0 for no bound, null for the bound of all users."""

    user_id: int | str
    bytes_max: Annotated[int, Meta(ge=0, le=BROWSER_INT_MAX)] | None = None


class EraseParams(msgspec.Struct, frozen=True):
    """Fields of `erase_user`: one of the two."""

    user_id: int | str | None = None
    name: str | None = None


class Nothing(msgspec.Struct, frozen=True):
    """No fields."""


class StorageActions:
    """See the module. `told`: how the service stands, besides its users."""

    def __init__(self, quotas: Quotas, told: Callable[[], dict[str, Any]], erase: Erase) -> None:
        self._quotas = quotas
        self._told = told
        self._erase_user = erase

    def register(self, registry: Registry) -> None:
        """Offer the actions."""
        for action in (
            Action("get_usage", UsageParams, self._usage, query=True),
            Action("get_storage", Nothing, self._storage, query=True, admin=True),
            Action("erase_user", EraseParams, self._erase, admin=True, frees=True, signed_in=True),
            Action("set_quota", QuotaParams, self._set, admin=True, frees=True),
        ):
            registry.command(action)

    async def _usage(self, call: Call[UsageParams]) -> Reply:
        given = call.params.user_id
        user_id = call.principal.user_id if given is None else user_id_of(given)
        if user_id is None:
            return _no_id()
        if user_id != call.principal.user_id and not call.principal.is_admin:
            return error_reply(Refusal(ErrorCode.FORBIDDEN, words.ADMINS_ONLY))
        await self._quotas.count()
        return _data("get_usage", self._quotas.taken(user_id))

    async def _storage(self, call: Call[Nothing]) -> Reply:
        del call
        await self._quotas.count()
        return _data("get_storage", {**self._told(), "users": self._quotas.largest()})

    async def _set(self, call: Call[QuotaParams]) -> Reply:
        user_id: UserId | None = user_id_of(call.params.user_id)
        if user_id is None:
            return _no_id()
        await self._quotas.set_bound(user_id, call.params.bytes_max, call.principal.name)
        return json_reply({"type": "success", "message": zh.DONE})

    async def _erase(self, call: Call[EraseParams]) -> Reply:
        try:
            erased = await self._erase_user(call.params.user_id, call.params.name, call.principal.name)
        except UserRefused as refused:
            return error_reply(Refusal(refused.code, refused.told, str(refused)))
        return json_reply({"type": "success", "message": zh.DONE, **msgspec.to_builtins(erased)})


def _data(type_: str, data: object) -> Reply:
    return json_reply({"type": type_, "data": msgspec.to_builtins(data)})


def _no_id() -> Reply:
    return error_reply(Refusal(ErrorCode.INVALID_FIELD, zh.INVALID_FIELD, f"user_id: {USER_ID_RULE}"))
