"""The users in the log: read as it grows, and changed in one commit each. A thin shell.

It works over the log of a running service, and over one that a command has opened. Every change expects the
head of `accounts`, so two writers never decide on the same state.

Passwords as argon2id hashes. Hashing takes some 50 ms and 64 MiB: callers run it on another thread.

A hash that was brought from another service is verified in its own form; it is dated, so the first sign-in
replaces it.
"""

import contextlib
import hashlib
import hmac
from functools import cache
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from huahuo import en, zh
from huahuo.actors.plugins.calls import UserId
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.errors import Conflict
from huahuo.eventstore.executor import Executor
from huahuo.eventstore.model import Append, NewEvent, Secret, SecretPut
from huahuo.eventstore.port import Log
from huahuo.refusals import ChangeRefused
from huahuo.replay.ledger import Ledger
from huahuo.transport.access.claims import Latest, own_clock
from huahuo.users.users import (
    ACCOUNTS,
    ADDED,
    CHANGED,
    HASH,
    REMOVED,
    User,
    Users,
    event,
    owner_of,
    refuse_name,
    registration,
    revocation,
)

if TYPE_CHECKING:
    from argon2 import PasswordHasher

CHARS_MIN: Final = 8
CHARS_MAX: Final = 256
_BROUGHT_ROUNDS: Final = 100_000
_BROUGHT: Final = f"$pbkdf2-sha256-hex${_BROUGHT_ROUNDS}$"

UNKNOWN: Final = (
    "$argon2id$v=19$m=65536,t=3,p=4$aHVhaHVvIG5vYm9keSdzIQ$8Ae5ki2YV4NWoCnVeVYo0kEE9vKJD9b8MlEfGqXyRNo"
)
"""The hash of nobody's password: a sign-in with an unknown name takes as long as any other."""


@cache
def hasher() -> "PasswordHasher":
    """argon2id with the parameters of RFC 9106 for servers. Raises ChangeRefused: it is not installed."""
    try:
        from argon2 import PasswordHasher
    except ModuleNotFoundError:
        raise ChangeRefused("forbidden", en.NEEDS_ARGON2, zh.NEEDS_ARGON2) from None
    return PasswordHasher()


def refuse_password(password: str) -> None:
    """Raise ChangeRefused if a password is too short or too long."""
    if not CHARS_MIN <= len(password) <= CHARS_MAX:
        bounds = CHARS_MIN, CHARS_MAX
        raise ChangeRefused(
            "invalid_field", en.PASSWORD_LENGTH.format(*bounds), zh.PASSWORD_LENGTH.format(*bounds)
        )


def hashed(password: str) -> str:
    """The hash to store. Raises ChangeRefused as `hasher`."""
    return hasher().hash(password)


def brought_hash(salt: str, digest: str) -> str:
    """The hash to store for one that another service has: PBKDF2 with SHA-256 and 100,000 rounds, in hex."""
    return f"{_BROUGHT}{salt}${digest.lower()}"


def password_fits(stored: str, password: str) -> bool:
    """Whether a password is that of a hash. A hash that cannot be read fits nothing. Raises as `hasher`."""
    if stored.startswith(_BROUGHT):
        salt, _, digest = stored.removeprefix(_BROUGHT).rpartition("$")
        given = password[: CHARS_MAX + 1].encode("utf-8", "replace")
        made = hashlib.pbkdf2_hmac("sha256", given, salt.encode(), _BROUGHT_ROUNDS)
        return hmac.compare_digest(made.hex(), digest)
    verify = hasher().verify
    from argon2.exceptions import InvalidHashError, VerificationError

    try:
        return verify(stored, password[: CHARS_MAX + 1])
    except (VerificationError, InvalidHashError):
        return False


def is_dated(stored: str) -> bool:
    """Whether a hash was made with other parameters than those of today."""
    return stored.startswith(_BROUGHT) or hasher().check_needs_rehash(stored)


class UserBook(Ledger[Users]):
    """See the module. Exceptions of the log pass through. All methods belong to the loop's thread."""

    def __init__(self, log: Log, ambient: Ambient, executor: Executor, latest_ms: Latest = own_clock) -> None:
        """`latest_ms`: up to when the sessions of a user end that are to end now."""
        self.users = Users()
        super().__init__(log, ACCOUNTS, self.users)
        self._latest_ms = latest_ms
        self._ambient = ambient
        self._executor = executor

    async def add(
        self, name: str, password: str, *, is_admin: bool = False, first: bool = False, principal: str
    ) -> User:
        """Add a user; `first`: only if there was never one.

        Raises:
            ChangeRefused: the name is taken or cannot be one, or the password is too short or too long.
        """
        refuse_name(name)
        stored = await self._hashed(password)
        return await self.add_hashed(name, stored, is_admin=is_admin, first=first, principal=principal)

    async def add_hashed(
        self, name: str, stored: str, *, is_admin: bool = False, first: bool = False, principal: str
    ) -> User:
        """As `add`, of a password of which only the hash is known (`passwords`)."""
        refuse_name(name)

        def change(users: Users) -> Append:
            if first and len(users):
                raise ChangeRefused("forbidden", en.USERS_ALREADY, zh.USERS_ALREADY)
            if users.named(name) is not None:
                raise ChangeRefused("already_exists", f"there is a user {name!r}", zh.NAME_TAKEN)
            user_id = self._log.take("account")
            added = event(ADDED, self._now_ms, user_id, name=name, is_admin=is_admin)
            return self._append(principal, added, sealed=(user_id, stored))

        await self.change(change)
        return self._known(name)

    async def set_password(self, name: str, password: str, *, principal: str) -> None:
        """Give a user another password, and end all sessions. Raises ChangeRefused."""
        stored = await self._hashed(password)

        def change(users: Users) -> Append:
            user = _named(users, name)
            now_ms = self._now_ms
            changed = event(CHANGED, now_ms, user.user_id, what="password")
            sealed = user.user_id, stored
            return self._append(principal, changed, revocation(now_ms, user.user_id), sealed=sealed)

        await self.change(change)

    async def set_disabled(self, name: str, *, disabled: bool, principal: str) -> None:
        """Let a user sign in no more, and end all sessions; or let them in again.

        Raises:
            ChangeRefused: there is no such user, or it is the last administrator.
        """

        def change(users: Users) -> Append | None:
            user = _named(users, name)
            if user.disabled == disabled:
                return None
            if disabled:
                _refuse_last(users, user)
            now_ms = self._now_ms
            changed = event(CHANGED, now_ms, user.user_id, what="disabled", disabled=disabled)
            ends = (revocation(now_ms, user.user_id),) if disabled else ()
            return self._append(principal, changed, *ends)

        await self.change(change)

    async def remove(self, name: str, *, principal: str) -> None:
        """Remove a user with the password, and end all sessions. Raises as `set_disabled`."""

        def change(users: Users) -> Append:
            user = _named(users, name)
            _refuse_last(users, user)
            now_ms = self._now_ms
            removed = event(REMOVED, now_ms, user.user_id)
            ends = revocation(now_ms, user.user_id)
            return self._append(principal, removed, ends, shred=(owner_of(user.user_id),))

        await self.change(change)

    async def allow_registration(self, *, allowed: bool, principal: str) -> None:
        """Let anybody make an account, or nobody."""

        def change(users: Users) -> Append | None:
            if users.registration is allowed:
                return None
            return self._append(principal, registration(self._now_ms, allowed=allowed))

        await self.change(change)

    async def end_sessions(self, user_id: UserId, *, principal: str) -> None:
        """End all sessions of a user: sign out everywhere."""
        now_ms = self._now_ms
        await self._log.append(
            Append(ts_ms=now_ms, events=(revocation(now_ms, user_id),), principal=principal)
        )

    async def verified(self, name: str, password: str) -> User | None:
        """The user of this name, if this is the password and the user may sign in.

        It takes as long for names that nobody has.
        """
        user, seq = self.users.named(name), self.seq
        sealed = None if user is None else await self._log.secret(owner_of(user.user_id), HASH)
        stored = UNKNOWN if sealed is None else sealed.reveal()
        fits = await self._executor.run(lambda: password_fits(stored, password))
        if user is None or sealed is None or not fits:
            return None
        if is_dated(stored):
            await self._rehash(user.user_id, password, seq)
        now = self.users.of(user.user_id)  # it may have changed meanwhile
        return None if now is None or now.disabled else now

    async def _rehash(self, user_id: int, password: str, seq: int) -> None:
        """`seq`: of the users when the password was right. It may be another one by now."""
        stored = await self._executor.run(lambda: hashed(password))
        changed = event(CHANGED, self._now_ms, user_id, what="hash")
        with contextlib.suppress(Conflict):  # a later sign-in does it
            append = self._append("service", changed, sealed=(user_id, stored))
            await self._log.append(replace(append, expected={ACCOUNTS: seq}))

    async def _hashed(self, password: str) -> str:
        refuse_password(password)
        return await self._executor.run(lambda: hashed(password))

    def _append(
        self,
        principal: str,
        *events: NewEvent,
        sealed: tuple[int, str] | None = None,
        shred: tuple[str, ...] = (),
    ) -> Append:
        secrets = () if sealed is None else (SecretPut(owner_of(sealed[0]), HASH, Secret(sealed[1])),)
        return Append(
            ts_ms=self._now_ms,
            events=events,
            principal=principal,
            secrets=secrets,
            shred=shred,
        )

    def _known(self, name: str) -> User:
        user = self.users.named(name)
        assert user is not None, "its commit was folded in"
        return user

    @property
    def _now_ms(self) -> int:
        return self._latest_ms(self._ambient.now_ms())


def _named(users: Users, name: str) -> User:
    user = users.named(name)
    if user is None:
        raise ChangeRefused("not_found", f"there is no user {name!r}", zh.NO_SUCH_USER)
    return user


def _refuse_last(users: Users, user: User) -> None:
    if users.is_last_admin(user):
        text = f"{user.name!r} is the last administrator: add another one first"
        raise ChangeRefused("forbidden", text, zh.LAST_ADMIN)
