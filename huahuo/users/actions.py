"""Actions about users: of administrators (`add_user`, …), and of each user about himself."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from huahuo.actors.plugins.actions import Action, Registry
from huahuo.actors.plugins.calls import Call, Refusal, Reply, error_reply, json_reply
from huahuo.users import en, zh
from huahuo.users.book import UserBook
from huahuo.users.login import Login
from huahuo.users.users import UserRefused

_TEXT_MAX: Final = 1024

type _Text = Annotated[str, Meta(max_length=_TEXT_MAX)]


class _Sealed(msgspec.Struct, frozen=True):
    def __repr__(self) -> str:
        return f"{type(self).__name__}('[sealed]')"


class AddUser(_Sealed, frozen=True):
    """Fields of `add_user`."""

    name: _Text
    password: _Text
    is_admin: bool = False

    __repr__ = _Sealed.__repr__


class SetPassword(_Sealed, frozen=True):
    """Fields of `set_password`."""

    name: _Text
    password: _Text

    __repr__ = _Sealed.__repr__


class ChangePassword(_Sealed, frozen=True):
    """Fields of `change_password`."""

    old_password: _Text
    new_password: _Text

    __repr__ = _Sealed.__repr__


class Named(msgspec.Struct, frozen=True):
    """The field of actions on one user."""

    name: _Text


class Allow(msgspec.Struct, frozen=True):
    """The field of `set_registration`."""

    on: bool


class Nothing(msgspec.Struct, frozen=True):
    """No fields."""


class UserActions:
    """See the module. A change is made once; a repeat of it answers as the state then is."""

    def __init__(self, book: UserBook, login: Login) -> None:
        self._book = book
        self._login = login

    def register(self, registry: Registry) -> None:
        """Offer the actions. Answers with a token are not recorded."""
        registry.words.add(zh, en)
        for action in (
            Action("list_users", Nothing, self._list, query=True, admin=True),
            Action("add_user", AddUser, self._add, admin=True),
            Action("set_password", SetPassword, self._set_password, admin=True, frees=True),
            Action("disable_user", Named, self._disable, admin=True, frees=True),
            Action("enable_user", Named, self._enable, admin=True, frees=True),
            Action("remove_user", Named, self._remove, admin=True, frees=True),
            Action("change_password", ChangePassword, self._change_password, signed_in=True, frees=True),
            Action("sign_out_everywhere", Nothing, self._sign_out, signed_in=True, frees=True),
            Action("set_registration", Allow, self._allow, admin=True, frees=True),
            Action("renew_token", Nothing, self._renew, query=True, signed_in=True),
        ):
            registry.command(action)

    async def _list(self, call: Call[Nothing]) -> Reply:
        del call
        return json_reply({"type": "users", "data": msgspec.to_builtins(self._book.users.all())})

    async def _add(self, call: Call[AddUser]) -> Reply:
        params = call.params

        async def add() -> dict[str, Any]:
            user = await self._book.add(
                params.name, params.password, is_admin=params.is_admin, principal=call.principal.name
            )
            return {"user_id": user.user_id}

        return await _answered(zh.USER_ADDED, add)

    async def _set_password(self, call: Call[SetPassword]) -> Reply:
        params, who = call.params, call.principal.name
        return await _done(
            zh.PASSWORD_SET, self._book.set_password(params.name, params.password, principal=who)
        )

    async def _disable(self, call: Call[Named]) -> Reply:
        who = call.principal.name
        return await _done(
            zh.USER_DISABLED, self._book.set_disabled(call.params.name, disabled=True, principal=who)
        )

    async def _enable(self, call: Call[Named]) -> Reply:
        who = call.principal.name
        return await _done(
            zh.USER_ENABLED, self._book.set_disabled(call.params.name, disabled=False, principal=who)
        )

    async def _remove(self, call: Call[Named]) -> Reply:
        return await _done(
            zh.USER_REMOVED, self._book.remove(call.params.name, principal=call.principal.name)
        )

    async def _change_password(self, call: Call[ChangePassword]) -> Reply:
        user = self._book.users.of(call.principal.user_id)
        if user is None:
            return error_reply(
                Refusal("not_found", zh.NO_SUCH_USER, "this token names no user with a password")
            )
        known = await self._book.verified(user.name, call.params.old_password)
        if known is None:
            return error_reply(Refusal("forbidden", zh.OLD_PASSWORD_WRONG, "old_password"))
        who = call.principal.name
        return await _done(
            zh.PASSWORD_CHANGED,
            self._book.set_password(user.name, call.params.new_password, principal=who),
        )

    async def _allow(self, call: Call[Allow]) -> Reply:
        on = call.params.on
        change = self._book.allow_registration(allowed=on, principal=call.principal.name)
        return await _done(zh.REGISTRATION_ON if on else zh.REGISTRATION_OFF, change)

    async def _sign_out(self, call: Call[Nothing]) -> Reply:
        who = call.principal
        return await _done(zh.SIGNED_OUT, self._book.end_sessions(who.user_id, principal=who.name))

    async def _renew(self, call: Call[Nothing]) -> Reply:
        fresh = self._login.renew(call.principal.user_id, call.principal.signed_in_ms)
        if fresh is None:
            return error_reply(
                Refusal("not_found", zh.NO_SUCH_USER, "this token names no user with a password")
            )
        return json_reply({"type": "token", **fresh.body()})


async def _done(message: str, change: Awaitable[None]) -> Reply:
    async def run() -> dict[str, Any]:
        await change
        return {}

    return await _answered(message, run)


async def _answered(message: str, run: Callable[[], Awaitable[dict[str, Any]]]) -> Reply:
    try:
        fields = await run()
    except UserRefused as refused:
        return error_reply(Refusal(refused.code, zh.REFUSED, str(refused)))
    return json_reply({"type": "success", "message": message, **fields})
