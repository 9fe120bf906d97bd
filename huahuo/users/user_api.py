"""What is asked about users: over the wire, by people who make accounts, and by FireMail's front end.

Actions are of administrators (`add_user`, …) and of each user about himself. FireMail's front end signs
out at every 401, so only a refused token may be one; it is told things in Chinese, its only language.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from huahuo import en, zh
from huahuo.actors.plugins.actions import (
    Action,
    HttpAnswer,
    HttpHandler,
    HttpRefused,
    HttpRequest,
    HttpRoute,
    Registry,
)
from huahuo.actors.plugins.calls import Call, Refusal, Reply, error_reply, json_reply
from huahuo.eventstore.ambient import Ambient, rfc3339
from huahuo.refusals import ChangeRefused, refusing
from huahuo.users import classic_zh
from huahuo.users.book import CHARS_MAX, CHARS_MIN, UserBook
from huahuo.users.login import Login, Refused, SignedIn
from huahuo.users.users import User

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


class SetPassword(_Sealed, frozen=True):
    """Fields of `set_password`."""

    name: _Text
    password: _Text


class ChangePassword(_Sealed, frozen=True):
    """Fields of `change_password`."""

    old_password: _Text
    new_password: _Text


class Named(msgspec.Struct, frozen=True):
    """The field of actions on one user."""

    name: _Text


class Allow(msgspec.Struct, frozen=True):
    """The field of `set_registration`."""

    on: bool


class Nothing(msgspec.Struct, frozen=True):
    """No fields."""


class UserActions:
    """Actions about users: of administrators (`add_user`, …), and of each user about himself.

    A change is made once; a repeat of it answers as the state then is.
    """

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
            Action("disable_user", Named, partial(self._set_disabled, disabled=True), admin=True, frees=True),
            Action("enable_user", Named, partial(self._set_disabled, disabled=False), admin=True, frees=True),
            Action("remove_user", Named, self._remove, admin=True, frees=True),
            Action("change_password", ChangePassword, self._change_password, signed_in=True, frees=True),
            Action("sign_out_everywhere", Nothing, self._sign_out, signed_in=True, frees=True),
            Action("set_registration", Allow, self._allow, admin=True, frees=True),
            Action("renew_token", Nothing, self._renew, query=True, signed_in=True),
        ):
            registry.command(refusing(action))

    async def _list(self, call: Call[Nothing]) -> Reply:
        del call
        return json_reply({"type": "users", "data": msgspec.to_builtins(self._book.users.all())})

    async def _add(self, call: Call[AddUser]) -> Reply:
        asked, who = call.params, call.principal.name
        user = await self._book.add(asked.name, asked.password, is_admin=asked.is_admin, principal=who)
        return _done(zh.USER_ADDED, user_id=user.user_id)

    async def _set_password(self, call: Call[SetPassword]) -> Reply:
        await self._book.set_password(call.params.name, call.params.password, principal=call.principal.name)
        return _done(zh.PASSWORD_SET)

    async def _set_disabled(self, call: Call[Named], *, disabled: bool) -> Reply:
        await self._book.set_disabled(call.params.name, disabled=disabled, principal=call.principal.name)
        return _done(zh.USER_DISABLED if disabled else zh.USER_ENABLED)

    async def _remove(self, call: Call[Named]) -> Reply:
        await self._book.remove(call.params.name, principal=call.principal.name)
        return _done(zh.USER_REMOVED)

    async def _change_password(self, call: Call[ChangePassword]) -> Reply:
        user = self._book.users.of(call.principal.user_id)
        if user is None:
            return _NO_PASSWORD
        known = await self._book.verified(user.name, call.params.old_password)
        if known is None:
            return error_reply(Refusal("forbidden", zh.OLD_PASSWORD_WRONG, "old_password"))
        await self._book.set_password(user.name, call.params.new_password, principal=call.principal.name)
        return _done(zh.PASSWORD_CHANGED)

    async def _allow(self, call: Call[Allow]) -> Reply:
        on = call.params.on
        await self._book.allow_registration(allowed=on, principal=call.principal.name)
        return _done(zh.REGISTRATION_ON if on else zh.REGISTRATION_OFF)

    async def _sign_out(self, call: Call[Nothing]) -> Reply:
        await self._book.end_sessions(call.principal.user_id, principal=call.principal.name)
        return _done(zh.SIGNED_OUT)

    async def _renew(self, call: Call[Nothing]) -> Reply:
        fresh = self._login.renew(call.principal.user_id, call.principal.signed_in_ms)
        return _NO_PASSWORD if fresh is None else json_reply({"type": "token", **fresh.body()})


_NO_PASSWORD: Final = error_reply(
    Refusal("not_found", zh.NO_SUCH_USER, "this token names no user with a password")
)


def _done(message: str, **fields: object) -> Reply:
    return json_reply({"type": "success", "message": message, **fields})


BODY_BYTES_MAX: Final = 4_096
_CLASSIC: Final[Mapping[str, str]] = {
    "already_exists": zh.NAME_TAKEN,
    "invalid_field": classic_zh.INVALID.format(CHARS_MIN, CHARS_MAX),
}
_BAD, _UNAUTHORIZED, _TOO_MANY = 400, 401, 429


class _Account(_Sealed, frozen=True):
    username: _Text = ""
    password: _Text = ""
    code: _Text = ""
    is_admin: bool | int = False


class _Passwords(_Sealed, frozen=True):
    old_password: _Text = ""
    new_password: _Text = ""


class _Allow(msgspec.Struct):
    allow: bool = False


class UserRoutes:
    """Users over HTTP: accounts that people make themselves, and what FireMail's front end asks."""

    def __init__(self, book: UserBook, login: Login, ambient: Ambient) -> None:
        self._book = book
        self._login = login
        self._ambient = ambient

    def routes(self, *, classic: bool) -> Sequence[HttpRoute]:
        """The routes; `classic`: also those of FireMail's front end."""
        own = [
            _route("GET", "/accounts", self._may_make_account, "anyone"),
            _route("POST", "/accounts", self._make_account, "anyone"),
        ]
        return [*own, *self._classic()] if classic else own

    def _classic(self) -> Sequence[HttpRoute]:
        one = "/api/users/{user_id:int}"
        return [
            _route("GET", "/api/config", self._config, "anyone", told=True),
            _route("GET", "/api/health", self._health, "anyone", told=True),
            _route("POST", "/api/auth/login", self._sign_in, "anyone", told=True),
            _route("POST", "/api/auth/register", self._register, "anyone", told=True),
            _route("POST", "/api/auth/logout", self._sign_out, "anyone", told=True),
            _route("GET", "/api/auth/user", self._me, "user", told=True),
            _route("POST", "/api/auth/change-password", self._change_password, "user", told=True),
            _route("GET", "/api/users", self._list, "admin", told=True),
            _route("POST", "/api/users", self._add, "admin", told=True),
            _route("DELETE", one, self._remove, "admin", told=True),
            _route("POST", f"{one}/reset-password", self._reset, "admin", told=True),
            _route("POST", "/api/admin/config/registration", self._allow, "admin", told=True),
        ]

    async def _may_make_account(self, _request: HttpRequest) -> HttpAnswer:
        """`GET /accounts`: whether somebody may, so that a page shows the form for it."""
        return HttpAnswer.json({"registration": self._login.registration})

    async def _make_account(self, request: HttpRequest) -> HttpAnswer:
        """`POST /accounts`: a new account, with a token for it as `POST /login` gives one."""
        given = request.json(_Account)
        made = await self._login.register(given.username, given.password, request.address, given.code)
        return HttpAnswer.json(_signed_in(made).body(), 201)

    # FireMail -----------------------------------------------------------------------------------------------

    async def _config(self, _request: HttpRequest) -> HttpAnswer:
        now = rfc3339(self._ambient.now_ms())
        return HttpAnswer.json({"allow_register": self._login.registration, "server_time": now})

    async def _health(self, _request: HttpRequest) -> HttpAnswer:
        return HttpAnswer.json({"status": "ok", "message": "huahuo"})

    async def _sign_in(self, request: HttpRequest) -> HttpAnswer:
        given = _named(request)
        cookies = request.headers.get("cookie", "")
        found = await self._login.attempt(given.username, given.password, request.address, cookies)
        signed = _signed_in(found)
        answer = HttpAnswer.json({"token": signed.token, "user": _shown(signed.user)})
        headers = (("Set-Cookie", signed.cookie),) if signed.cookie else ()
        return msgspec.structs.replace(answer, headers=headers)

    async def _register(self, request: HttpRequest) -> HttpAnswer:
        if not self._login.registration:
            raise HttpRefused("forbidden", zh.REGISTRATION_OFF)
        given = _named(request)
        made = _signed_in(await self._login.register(given.username, given.password, request.address))
        shown = {"username": made.user.name, "is_admin": False, "note": ""}
        return HttpAnswer.json({"message": classic_zh.REGISTERED, **shown})

    async def _sign_out(self, _request: HttpRequest) -> HttpAnswer:
        """The page forgets its token. To end all sessions there is `sign_out_everywhere`."""
        return HttpAnswer.json({"message": classic_zh.SIGNED_OUT})

    async def _me(self, request: HttpRequest) -> HttpAnswer:
        who = request.user
        known = self._book.users.of(who.user_id)
        if known is not None:
            return HttpAnswer.json(_shown(known))
        shown = {"id": who.user_id, "username": who.username, "is_admin": int(who.is_admin)}
        return HttpAnswer.json(shown)

    async def _change_password(self, request: HttpRequest) -> HttpAnswer:
        given = request.json(_Passwords)
        if not given.old_password or not given.new_password:
            raise _refusal(classic_zh.BOTH_NEEDED)
        fields = {"old_password": given.old_password, "new_password": given.new_password}
        reply = await request.call("change_password", fields)
        if reply["type"] == "error":
            wrong = reply["code"] == "forbidden"
            raise _refusal(classic_zh.OLD_WRONG if wrong else _CLASSIC.get(reply["code"], reply["message"]))
        return HttpAnswer.json({"message": classic_zh.PASSWORD_UPDATED})

    async def _list(self, _request: HttpRequest) -> HttpAnswer:
        users = reversed(self._book.users.all())  # newest first
        return HttpAnswer.json([{**_shown(user), "created_at": user.created_at} for user in users])

    async def _add(self, request: HttpRequest) -> HttpAnswer:
        given = _named(request)
        who, is_admin = request.user.name, bool(given.is_admin)
        self._login.must_have_room(who)
        await self._book.add(given.username, given.password, is_admin=is_admin, principal=who)
        shown = {"username": given.username, "is_admin": is_admin}
        return HttpAnswer.json({"message": classic_zh.USER_MADE, **shown})

    async def _remove(self, request: HttpRequest) -> HttpAnswer:
        user = self._of(request)
        if user.user_id == request.user.user_id:
            raise _refusal(classic_zh.NOT_YOURSELF)
        await self._book.remove(user.name, principal=request.user.name)
        return HttpAnswer.json({"message": classic_zh.USER_REMOVED.format(user.user_id)})

    async def _reset(self, request: HttpRequest) -> HttpAnswer:
        user, given = self._of(request), request.json(_Passwords)
        if not given.new_password:
            raise _refusal(classic_zh.NEW_NEEDED)
        await self._book.set_password(user.name, given.new_password, principal=request.user.name)
        return HttpAnswer.json({"message": classic_zh.PASSWORD_RESET.format(user.user_id)})

    async def _allow(self, request: HttpRequest) -> HttpAnswer:
        allowed = request.json(_Allow).allow
        await self._book.allow_registration(allowed=allowed, principal=request.user.name)
        said = classic_zh.REGISTRATION_ON if allowed else classic_zh.REGISTRATION_OFF
        return HttpAnswer.json({"message": said, "allow_register": allowed})

    def _of(self, request: HttpRequest) -> User:
        user = self._book.users.of(int(request.names["user_id"]))
        if user is None:
            raise HttpRefused("not_found", zh.NO_SUCH_USER)
        return user


def _route(method: str, path: str, handler: HttpHandler, access: Any, *, told: bool = False) -> HttpRoute:
    most = 0 if method == "GET" else BODY_BYTES_MAX
    return HttpRoute(
        method=method, path=path, handler=_refusing(handler, _CLASSIC if told else {}), access=access,
        body_bytes_max=most,
        refuse=_as_told if told else None, language="zh" if told else None,
    )  # fmt: skip


def _as_told(problem: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"error": problem["detail"], "message": problem["detail"]}


def _named(request: HttpRequest) -> _Account:
    given = request.json(_Account)
    if not given.username or not given.password:
        raise _refusal(classic_zh.NOT_GIVEN)
    return given


def _signed_in(found: SignedIn | Refused) -> SignedIn:
    if isinstance(found, SignedIn):
        return found
    if found.retry_s is not None:
        raise HttpRefused("rate_limited", zh.TOO_OFTEN, status=_TOO_MANY, retry_s=found.retry_s)
    raise HttpRefused("unauthenticated", classic_zh.WRONG, status=_UNAUTHORIZED)


def _shown(user: User) -> dict[str, Any]:
    return {"id": user.user_id, "username": user.name, "is_admin": int(user.is_admin)}


def _refusing(handler: HttpHandler, words: Mapping[str, str]) -> HttpHandler:
    """The handler, with what is refused as answers. `words`: by code, in place of the refusal's own."""

    async def answered(request: HttpRequest) -> HttpAnswer:
        try:
            return await handler(request)
        except ChangeRefused as refused:
            message = words.get(refused.code, refused.told)
            raise HttpRefused(refused.code, message, retry_s=refused.retry_s) from None

    return answered


def _refusal(text: str) -> HttpRefused:
    return HttpRefused("invalid_field", text, status=_BAD)
