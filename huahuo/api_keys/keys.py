"""The API keys of a service, folded from the stream `api_keys`, and what may be in one. Pure.

A key is `hhk_<id>_<43 characters>`: 32 random bytes, of which the log has only the SHA-256. A plain hash is
enough for them, because nobody can guess them.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Collection, Iterable
from typing import Any, Final

import msgspec

from huahuo.actors.plugins.principal import Principal, UserId
from huahuo.eventstore.ambient import json_bytes, rfc3339
from huahuo.eventstore.model import NewEvent, StoredEvent
from huahuo.transport.access.revocations import AUTH_STREAM, REVOKED
from huahuo.transport.access.rights import ADMIN, RIGHTS

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


class KeyRefused(Exception):  # noqa: N818  a refusal, not a fault
    """A change of the keys that is not allowed. `code` is an error code of PROTOCOL 6."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A key as it was made. The user's name, groups and administration are those of that moment."""

    key_id: int
    user_id: UserId
    username: str
    is_admin: bool = False
    groups: tuple[str, ...] = ()
    name: str
    rights: tuple[str, ...]
    created_at_ms: int
    expires_at_ms: int
    digest: str = ""

    @property
    def jti(self) -> str:
        """The name by which a revocation ends it (`Revocations`)."""
        return f"{_JTI}{self.key_id}"

    @property
    def owner(self) -> Principal:
        """The user for whom it was made, without its rights."""
        return Principal(self.user_id, self.username, is_admin=self.is_admin, groups=self.groups)


class _Added(msgspec.Struct):
    key_id: int
    user_id: UserId
    username: str
    name: str
    rights: tuple[str, ...]
    expires_at_ms: int
    digest: str
    is_admin: bool = False
    groups: tuple[str, ...] = ()


class _Revoked(msgspec.Struct):
    key_id: int


class Keys:
    """All keys that were not revoked, by id. Expired ones stay until somebody revokes them."""

    def __init__(self) -> None:
        self.seq = 0
        self._by_id: dict[int, Key] = {}
        self.used_ms: dict[int, int] = {}
        """When each key was last accepted, since the start. No event says it."""

    def __len__(self) -> int:
        return len(self._by_id)

    def of(self, key_id: int) -> Key | None:
        """The key of this id."""
        return self._by_id.get(key_id)

    def all(self, user_id: UserId | None = None) -> list[Key]:
        """Every key by id, ascending; only those of `user_id` if that is given."""
        return [key for key in self._by_id.values() if user_id in (None, key.user_id)]

    def live(self, user_id: UserId, now_ms: int) -> int:
        """How many keys of a user have not expired."""
        return sum(key.expires_at_ms > now_ms for key in self.all(user_id))

    def apply(self, event: StoredEvent) -> None:
        """Fold in the next event of the stream."""
        self.seq = event.seq
        if event.type == ADDED:
            body = msgspec.json.decode(event.body, type=_Added)
            fields = msgspec.structs.asdict(body)
            self._by_id[body.key_id] = Key(created_at_ms=event.ts_ms, **fields)
        elif event.type == REVOKED_KEY:
            key_id = msgspec.json.decode(event.body, type=_Revoked).key_id
            self._by_id.pop(key_id, None)
            self.used_ms.pop(key_id, None)


def is_key(token: str) -> bool:
    """Whether a token claims to be an API key. Tokens of other kinds begin otherwise."""
    return token.startswith(_PREFIX)


def text_of(key_id: int, secret: bytes) -> str:
    """The key as its user gets it, once."""
    return f"{_PREFIX}{key_id}_{base64.urlsafe_b64encode(secret).rstrip(b'=').decode()}"


def digest_of(key: str) -> str:
    """What the log keeps of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def id_in(token: str) -> int | None:
    """The number in a key, None if it is none."""
    found = _SHAPE.fullmatch(token)
    return int(found[1]) if found else None


def number_in(jti: str) -> int:
    """The number in a key's `jti`, 0 if it is none."""
    number = jti.removeprefix(_JTI)
    return int(number) if jti.startswith(_JTI) and number.isdigit() else 0


def fits(key: Key, token: str) -> bool:
    """Whether `token` is this key. It takes as long for a wrong one."""
    return hmac.compare_digest(key.digest, digest_of(token))


def refuse_key(name: str, days: int, rights: Collection[str]) -> None:
    """Raise KeyRefused if nobody can have such a key."""
    if not 0 < len(name) <= NAME_CHARS_MAX or not name.isprintable() or name != name.strip():
        raise KeyRefused("invalid_field", f"name: 1 to {NAME_CHARS_MAX} visible characters are needed")
    if not 1 <= days <= DAYS_MAX:
        raise KeyRefused("invalid_field", f"expires_in_days: a number from 1 to {DAYS_MAX} is needed")
    if not 0 < len(rights) <= RIGHTS_MAX:
        raise KeyRefused("invalid_field", f"rights: 1 to {RIGHTS_MAX} are needed")


def refuse_rights(
    rights: Iterable[str], *, actions: Collection[str], admin_actions: Collection[str], is_admin: bool
) -> None:
    """Raise KeyRefused: a right does not exist, or the user must not have it.

    `actions`: those that keys may call, `admin_actions` those of them that only administrators may.
    """
    for right in rights:
        if right not in RIGHTS and right not in actions:
            known = ", ".join(RIGHTS)
            raise KeyRefused("invalid_field", f"rights: {right!r} is none of {known}, and no action for keys")
        if not is_admin and (right == ADMIN or right in admin_actions):
            raise KeyRefused("forbidden", f"rights: only administrators may give {right!r}")


def added(now_ms: int, key: Key) -> NewEvent:
    """The event of a new key."""
    fields = msgspec.to_builtins(key)
    del fields["created_at_ms"]
    return _event(ADDED, now_ms, fields)


def revoked(now_ms: int, key: Key) -> tuple[NewEvent, NewEvent]:
    """The events that end a key: the one for lists and audits, and the one that closes its connections."""
    body = {"type": REVOKED, "timestamp": rfc3339(now_ms), "jti": key.jti, "is_gone": True}
    ends = NewEvent(AUTH_STREAM, REVOKED, json_bytes(body))
    return _event(REVOKED_KEY, now_ms, {"key_id": key.key_id, "user_id": key.user_id}), ends


def expiry(now_ms: int, days: int) -> int:
    """When a key made now ends."""
    return now_ms + days * _DAY_MS


def _event(type_: str, now_ms: int, fields: dict[str, Any]) -> NewEvent:
    return NewEvent(API_KEYS, type_, json_bytes({"type": type_, "timestamp": rfc3339(now_ms), **fields}))
