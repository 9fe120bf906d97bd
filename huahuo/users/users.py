"""The users of a service, folded from the stream `accounts`, and what changes them. Pure.

Hashes of passwords are in no event. They are sealed under the owner `account/<id>`, and removed with its key.
"""

import unicodedata
from typing import Any, Final

import msgspec

from huahuo import en, zh
from huahuo.actors.plugins.calls import UserId
from huahuo.eventstore.ambient import json_bytes, rfc3339
from huahuo.eventstore.model import NewEvent, StoredEvent
from huahuo.refusals import ChangeRefused
from huahuo.transport.access.revocations import AUTH_STREAM, REVOKED

ACCOUNTS: Final = "accounts"
HASH: Final = "password"
"""The name under which a user's hash is sealed."""
NAME_CHARS_MAX: Final = 64

ADDED, CHANGED, REMOVED = "account_added", "account_changed", "account_removed"
REGISTRATION: Final = "registration_changed"


class User(msgspec.Struct, frozen=True):
    """One user. `name` as it was entered; names are compared without case and width."""

    user_id: int
    name: str
    is_admin: bool = False
    disabled: bool = False
    created_at: str = ""


class _Body(msgspec.Struct):
    timestamp: str
    user_id: int = 0
    name: str = ""
    is_admin: bool = False
    disabled: bool | None = None
    allowed: bool = False


def owner_of(user_id: int) -> str:
    """The owner of a user's sealed hash."""
    return f"account/{user_id}"


def key_of(name: str) -> str:
    """The form in which names are compared."""
    return unicodedata.normalize("NFKC", name).casefold()


def refuse_name(name: str) -> None:
    """Raise ChangeRefused if nobody can have this name."""
    if not 0 < len(name) <= NAME_CHARS_MAX or not name.isprintable() or name != name.strip():
        raise ChangeRefused(
            "invalid_field",
            en.NAME_INVALID.format(NAME_CHARS_MAX),
            zh.NAME_INVALID.format(NAME_CHARS_MAX),
        )


class Users:
    """All users, by id and by name."""

    def __init__(self) -> None:
        self.registration: bool | None = None
        """Whether anybody may make an account, as an administrator said last. None: as the setting has it."""
        self._by_id: dict[int, User] = {}
        self._by_name: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def all(self) -> list[User]:
        """Every user by id, ascending."""
        return [self._by_id[number] for number in sorted(self._by_id)]

    def named(self, name: str) -> User | None:
        """The user of this name."""
        return self._by_id.get(self._by_name.get(key_of(name), 0))

    def of(self, user_id: UserId) -> User | None:
        """The user of this id."""
        return self._by_id.get(user_id) if isinstance(user_id, int) else None

    def apply(self, event: StoredEvent) -> None:
        """Fold in the next event of the stream."""
        body = msgspec.json.decode(event.body, type=_Body)
        known = self._by_id.get(body.user_id)
        if event.type == REGISTRATION:
            self.registration = body.allowed
        elif event.type == ADDED:
            user = User(body.user_id, body.name, body.is_admin, created_at=body.timestamp)
            self._by_id[user.user_id] = user
            self._by_name[key_of(user.name)] = user.user_id
        elif event.type == REMOVED and known is not None:
            del self._by_id[known.user_id]
            del self._by_name[key_of(known.name)]
        elif event.type == CHANGED and known is not None and body.disabled is not None:
            self._by_id[known.user_id] = msgspec.structs.replace(known, disabled=body.disabled)

    def is_last_admin(self, user: User) -> bool:
        """Whether nobody could administer the users without this one."""
        admins = [one for one in self._by_id.values() if one.is_admin and not one.disabled]
        return admins == [user]


def event(type_: str, now_ms: int, user_id: int, **fields: Any) -> NewEvent:
    """One event of the stream."""
    body = {"type": type_, "timestamp": rfc3339(now_ms), "user_id": user_id, **fields}
    return NewEvent(ACCOUNTS, type_, json_bytes(body), entity=owner_of(user_id))


def registration(now_ms: int, *, allowed: bool) -> NewEvent:
    """The event by which an administrator lets anybody make an account, or nobody."""
    body = {"type": REGISTRATION, "timestamp": rfc3339(now_ms), "allowed": allowed}
    return NewEvent(ACCOUNTS, REGISTRATION, json_bytes(body))


def revocation(now_ms: int, user_id: UserId) -> NewEvent:
    """The event that ends all sessions of a user."""
    body = {"type": REVOKED, "timestamp": rfc3339(now_ms), "user_id": user_id}
    return NewEvent(AUTH_STREAM, REVOKED, json_bytes(body))
