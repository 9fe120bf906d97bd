"""Passwords as argon2id hashes. Hashing takes some 50 ms and 64 MiB: callers run it on another thread.

A hash that was brought from another service is verified in its own form; it is dated, so the first sign-in
replaces it.
"""

import hashlib
import hmac
from functools import cache
from typing import TYPE_CHECKING, Final

from huahuo.users import en, zh
from huahuo.users.users import UserRefused

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
    """argon2id with the parameters of RFC 9106 for servers. Raises UserRefused: it is not installed."""
    try:
        from argon2 import PasswordHasher
    except ModuleNotFoundError:
        raise UserRefused("forbidden", en.NEEDS_ARGON2, zh.NEEDS_ARGON2) from None
    return PasswordHasher()


def refuse_password(password: str) -> None:
    """Raise UserRefused if a password is too short or too long."""
    if not CHARS_MIN <= len(password) <= CHARS_MAX:
        bounds = CHARS_MIN, CHARS_MAX
        raise UserRefused(
            "invalid_field", en.PASSWORD_LENGTH.format(*bounds), zh.PASSWORD_LENGTH.format(*bounds)
        )


def hashed(password: str) -> str:
    """The hash to store. Raises UserRefused as `hasher`."""
    return hasher().hash(password)


def brought(salt: str, digest: str) -> str:
    """The hash to store for one that another service has: PBKDF2 with SHA-256 and 100,000 rounds, in hex."""
    return f"{_BROUGHT}{salt}${digest.lower()}"


def fits(stored: str, password: str) -> bool:
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
