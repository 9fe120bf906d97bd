"""API keys: tokens for programs, with rights and an expiry, stored as hashes and revoked one by one.

A key is `hhk_<id>_<43 characters>`: 32 random bytes, of which the log has only the SHA-256. A plain hash
is enough for them, because nobody can guess them. Everything that asks for a token takes a key, too.

`Keys` is folded from the stream `api_keys`; it and what may be in a key are pure. `KeyBook` is a thin
shell: it works over the log of a running service, and over one that a command has opened. `KeyActions`
are of users about their own keys, and of administrators about everybody's.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from huahuo import en, zh
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
from huahuo.eventstore.ambient import Ambient, json_bytes, rfc3339
from huahuo.eventstore.model import Append, CommandRecord, Duplicate, NewEvent, StoredEvent
from huahuo.eventstore.port import Log
from huahuo.refusals import ChangeRefused, refusing
from huahuo.replay.ledger import Ledger
from huahuo.transport.access.claims import Latest, own_clock
from huahuo.transport.access.revocations import AUTH_STREAM, REVOKED, Revocations
from huahuo.transport.access.rights import ADMIN, RIGHTS, AuthFailure, Verdict, Verified, Verifier
from huahuo.transport.protocol.codes import AuthCode
from huahuo.users.belongings import Belonging, Belongings, ListBelongings
from huahuo.users.book import UserBook
from huahuo.users.users import User

API_KEYS: Final = "api_keys"
ADDED, REVOKED_KEY = "api_key_added", "api_key_revoked"
KEYS_PER_USER_MAX: Final = 50
"""Live keys of one user."""
NAME_CHARS_MAX: Final = 64
RIGHTS_MAX: Final = 32
DAYS_MAX: Final = 3650
DAYS: Final = 365
_DAY_MS: Final = 86_400_000
_PREFIX: Final = "hhk_"
SECRET_BYTES: Final = 32
_JTI: Final = "key."
_SHAPE: Final = re.compile(r"hhk_([1-9][0-9]{0,15})_([A-Za-z0-9_-]{43})")


class Key(Belonging, frozen=True, kw_only=True):
    """A key as it was made."""

    key_id: int
    name: str
    rights: tuple[str, ...]
    created_at_ms: int = 0
    """The time of the event, which has no such field."""
    expires_at_ms: int
    digest: str = ""

    @property
    def jti(self) -> str:
        """The name by which a revocation ends it (`Revocations`)."""
        return f"{_JTI}{self.key_id}"


class _Revoked(msgspec.Struct):
    key_id: int


class Keys(Belongings[Key]):
    """All keys that were not revoked, by id. Expired ones stay until somebody revokes them."""

    what = "key"

    def __init__(self) -> None:
        super().__init__()
        self.used_ms: dict[int, int] = {}
        """When each key was last accepted, since the start. No event says it."""

    def live(self, user_id: UserId, now_ms: int) -> int:
        """How many keys of a user have not expired."""
        return sum(key.expires_at_ms > now_ms for key in self.all(user_id))

    def apply(self, event: StoredEvent) -> None:
        """Fold in the next event of the stream."""
        if event.type == ADDED:
            key = msgspec.json.decode(event.body, type=Key)
            self._by_id[key.key_id] = replace(key, created_at_ms=event.ts_ms)
        elif event.type == REVOKED_KEY:
            key_id = msgspec.json.decode(event.body, type=_Revoked).key_id
            self._by_id.pop(key_id, None)
            self.used_ms.pop(key_id, None)


def is_key(token: str) -> bool:
    """Whether a token claims to be an API key. Tokens of other kinds begin otherwise."""
    return token.startswith(_PREFIX)


def key_digest(key: str) -> str:
    """What the log keeps of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def key_id_in(token: str) -> int | None:
    """The number in a key, None if it is none."""
    found = _SHAPE.fullmatch(token)
    return int(found[1]) if found else None


def number_in(jti: str) -> int:
    """The number in a key's `jti`, 0 if it is none."""
    number = jti.removeprefix(_JTI)
    return int(number) if jti.startswith(_JTI) and number.isdigit() else 0


def refuse_key(name: str, days: int, rights: Collection[str]) -> None:
    """Raise ChangeRefused if nobody can have such a key."""
    if not 0 < len(name) <= NAME_CHARS_MAX or not name.isprintable() or name != name.strip():
        raise ChangeRefused("invalid_field", f"name: 1 to {NAME_CHARS_MAX} visible characters are needed")
    if not 1 <= days <= DAYS_MAX:
        raise ChangeRefused("invalid_field", f"expires_in_days: a number from 1 to {DAYS_MAX} is needed")
    if not 0 < len(rights) <= RIGHTS_MAX:
        raise ChangeRefused("invalid_field", f"rights: 1 to {RIGHTS_MAX} are needed")


def refuse_rights(
    rights: Iterable[str], *, actions: Collection[str], admin_actions: Collection[str], is_admin: bool
) -> None:
    """Raise ChangeRefused: a right does not exist, or the user must not have it.

    `actions`: those that keys may call, `admin_actions` those of them that only administrators may.
    """
    for right in rights:
        if right not in RIGHTS and right not in actions:
            known = ", ".join(RIGHTS)
            raise ChangeRefused(
                "invalid_field", f"rights: {right!r} is none of {known}, and no action for keys"
            )
        if not is_admin and (right == ADMIN or right in admin_actions):
            raise ChangeRefused("forbidden", f"rights: only administrators may give {right!r}")


def key_added(now_ms: int, key: Key) -> NewEvent:
    """The event of a new key."""
    fields = msgspec.to_builtins(key)
    del fields["created_at_ms"]
    return _event(ADDED, now_ms, fields)


def key_revoked(now_ms: int, key: Key) -> tuple[NewEvent, NewEvent]:
    """The events that end a key: the one for lists and audits, and the one that closes its connections."""
    body = {"type": REVOKED, "timestamp": rfc3339(now_ms), "jti": key.jti, "is_gone": True}
    ends = NewEvent(AUTH_STREAM, REVOKED, json_bytes(body))
    return _event(REVOKED_KEY, now_ms, {"key_id": key.key_id, "user_id": key.user_id}), ends


def _event(type_: str, now_ms: int, fields: dict[str, Any]) -> NewEvent:
    return NewEvent(API_KEYS, type_, json_bytes({"type": type_, "timestamp": rfc3339(now_ms), **fields}))


type IsAdmin = Callable[[UserId], bool | None]
"""Whether a user of this service is an administrator now, None if the service does not know the user."""


class WithKeys:
    """A `Verifier` of keys and of what `tokens` accepts.

    A key ends with a revocation of its user (sign-out everywhere, another password, a disabled or removed
    user), as tokens do. `admin_actions`: the actions that only administrators may call.
    """

    def __init__(
        self,
        keys: Keys,
        tokens: Verifier,
        revocations: Revocations,
        *,
        is_admin: IsAdmin,
        admin_actions: Callable[[str], bool],
    ) -> None:
        self._keys = keys
        self._tokens = tokens
        self._revocations = revocations
        self._is_admin = is_admin
        self._admin_action = admin_actions

    def verify(self, token: str, now_ms: int) -> Verdict | Awaitable[Verdict]:
        """See `Verifier`."""
        return self.of_key(token, now_ms) if is_key(token) else self._tokens.verify(token, now_ms)

    def still_good(self, verified: Verified, now_ms: int) -> AuthFailure | None:
        """See `Verifier`."""
        key = self._keys.of(number_in(verified.jti)) if verified.principal.rights is not None else None
        if verified.principal.rights is None:
            return self._tokens.still_good(verified, now_ms)
        if key is None or self.is_over(key):
            return _failure(AuthCode.TOKEN_REVOKED, "the API key was revoked")
        if key.expires_at_ms <= now_ms:
            return _failure(AuthCode.TOKEN_EXPIRED, f"the API key {key.key_id} expired")
        return None

    def of_key(self, token: str, now_ms: int) -> Verdict:
        """The user of an API key."""
        key = self._keys.of(key_id_in(token) or 0)
        if key is None or not hmac.compare_digest(key.digest, key_digest(token)):
            return _failure(AuthCode.TOKEN_INVALID, "no such API key, or it was revoked")
        if key.expires_at_ms <= now_ms:
            return _failure(AuthCode.TOKEN_EXPIRED, f"the API key {key.key_id} expired")
        if self.is_over(key):
            return _failure(AuthCode.TOKEN_REVOKED, f"the sessions of user/{key.user_id} were ended")
        is_admin = self._is_admin(key.user_id)
        rights = key.rights
        if not (key.is_admin if is_admin is None else is_admin):
            rights = tuple(one for one in rights if one != ADMIN and not self._admin_action(one))
        self._keys.used_ms[key.key_id] = now_ms
        principal = replace(key.owner, is_admin=ADMIN in rights, rights=rights)
        return Verified(principal, key.expires_at_ms, key.jti, key.created_at_ms)

    def is_over(self, key: Key) -> bool:
        """Whether a revocation of its user has ended the key."""
        return self._revocations.covers(key.user_id, key.jti, key.created_at_ms)


def _failure(code: AuthCode, reason: str) -> AuthFailure:
    return AuthFailure(code, reason)


class KeyBook(Ledger[Keys]):
    """The API keys in the log: made, revoked, and read as the log grows. A thin shell."""

    def __init__(
        self,
        log: Log,
        ambient: Ambient,
        issue_ms: Callable[[UserId, int], int] = lambda _user, now_ms: now_ms,
        latest_ms: Latest = own_clock,
    ) -> None:
        """`issue_ms(user, now_ms)`: the time of issue of a key made at `now_ms` of this machine's clock.

        `latest_ms`: from when a key's days count. The time of issue may be far behind or ahead of it.
        """
        super().__init__(log, API_KEYS, Keys())
        self._ambient = ambient
        self._issue_ms = issue_ms
        self._latest_ms = latest_ms

    async def add(
        self,
        owner: Principal,
        name: str,
        rights: Sequence[str],
        days: int,
        *,
        by: str,
        record: CommandRecord | None = None,
    ) -> tuple[Key, str] | Duplicate:
        """Make a key for `owner`, whose rights were judged. Its text is nowhere else.

        `record`: the answer to a repeat of the command, which must not hold the key.

        Raises:
            ChangeRefused: a field is out of bounds, or the user has as many keys as one may have.
        """
        refuse_key(name, days, rights)
        secret = base64.urlsafe_b64encode(self._ambient.token_bytes(SECRET_BYTES)).rstrip(b"=").decode()
        made = ""
        key: Key | None = None

        def change(state: Keys) -> Append:
            nonlocal key, made
            clock_ms = self._ambient.now_ms()
            now_ms, issue_ms = self._latest_ms(clock_ms), self._issue_ms(owner.user_id, clock_ms)
            if state.live(owner.user_id, now_ms) >= KEYS_PER_USER_MAX:
                why = f"a user may have {KEYS_PER_USER_MAX} keys: revoke one first"
                raise ChangeRefused("rate_limited", why)
            number = self._log.take("api_key")
            made = f"{_PREFIX}{number}_{secret}"
            key = Key(
                key_id=number,
                user_id=owner.user_id,
                username=owner.username,
                is_admin=owner.is_admin,
                groups=owner.groups,
                name=name,
                rights=tuple(dict.fromkeys(rights)),
                created_at_ms=issue_ms,
                expires_at_ms=now_ms + days * _DAY_MS,
                digest=key_digest(made),
            )
            return Append(
                ts_ms=issue_ms,
                events=(key_added(issue_ms, key),),
                principal=by,
                command=record,
            )

        written = await self.change(change)
        if isinstance(written, Duplicate):
            return written
        assert key is not None, "it was appended"
        return key, made

    async def revoke(self, key_id: int, *, by: str, only: UserId | None = None) -> None:
        """End a key and its connections. `only`: the user whose key it must be.

        Raises ChangeRefused: there is no such key.
        """

        def change(state: Keys) -> Append:
            now_ms = self._ambient.now_ms()
            events = key_revoked(now_ms, state.known(key_id, only))
            return Append(ts_ms=now_ms, events=events, principal=by)

        await self.change(change)


type _Text = Annotated[str, Meta(max_length=256)]


class AddKey(msgspec.Struct, frozen=True):
    """Fields of `add_key`. `user`: the name of the user it is for, if another (administrators)."""

    name: _Text
    rights: Annotated[tuple[_Text, ...], Meta(max_length=64)]
    expires_in_days: int = DAYS
    user: _Text | None = None


class RevokeKey(msgspec.Struct, frozen=True):
    """The field of `revoke_key`."""

    key_id: int


class KeyActions:
    """Actions about API keys: of users about their own, and of administrators about everybody's."""

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
            Action("list_keys", ListBelongings, self._list, query=True, signed_in=True),
            Action("revoke_key", RevokeKey, self._revoke, signed_in=True, frees=True),
        ):
            self._registry.command(refusing(action))

    async def _add(self, call: Call[AddKey]) -> Reply:
        asked = call.params
        owner = self._owner(call.principal, asked.user)
        refuse_more_rights(asked.rights, self._registry, is_admin=owner.is_admin)
        made = await self._book.add(
            owner,
            asked.name,
            asked.rights,
            asked.expires_in_days,
            by=call.principal.name,
            record=without_secret(call, zh.KEY_MADE_BEFORE),
        )
        if isinstance(made, Duplicate):
            return from_record(made.command)
        key, text = made
        answer = json_reply({"type": "key_added", "key": text, **self._shown(key)})
        return msgspec.structs.replace(answer, recorded=call.key is not None)

    async def _list(self, call: Call[ListBelongings]) -> Reply:
        who = call.principal
        if call.params.everybody and not who.is_admin:
            return error_reply(Refusal("forbidden", zh.ADMINS_ONLY))
        found = self._book.state.all(None if call.params.everybody else who.user_id)
        return json_reply({"type": "keys", "data": [self._shown(key) for key in found]})

    async def _revoke(self, call: Call[RevokeKey]) -> Reply:
        who = call.principal
        await self._book.revoke(call.params.key_id, by=who.name, only=None if who.is_admin else who.user_id)
        return json_reply({"type": "success", "message": zh.KEY_REVOKED})

    def _owner(self, who: Principal, name: str | None) -> Principal:
        if name is None or name == who.username:
            return who
        if not who.is_admin:
            raise ChangeRefused("forbidden", "user: only administrators may make keys for others")
        return owner_named(self._users, name)

    def _shown(self, key: Key) -> dict[str, Any]:
        used_ms = self._book.state.used_ms.get(key.key_id)
        return {**key_row(key), "ended": self._verifier.is_over(key),
                "last_used_at": None if used_ms is None else rfc3339(used_ms)}  # fmt: skip


def key_row(key: Key) -> dict[str, Any]:
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
    """The user of this name, as the owner of a key. Raises ChangeRefused: there is none who may sign in."""
    user: User | None = users.users.named(name)
    if user is None or user.disabled:
        raise ChangeRefused("not_found", f"there is no user {name!r} who may sign in")
    return Principal(user.user_id, user.name, is_admin=user.is_admin)


def refuse_more_rights(rights: tuple[str, ...], registry: Registry, *, is_admin: bool) -> None:
    """Raise ChangeRefused: a right does not exist here, or the owner must not have it."""
    free = {name: action for name, action in registry.commands.items() if not action.signed_in}
    admins = {name for name, action in free.items() if action.admin}
    refuse_rights(rights, actions=free.keys(), admin_actions=admins, is_admin=is_admin)


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
