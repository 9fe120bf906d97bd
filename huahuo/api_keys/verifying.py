"""API keys beside tokens: who a key stands for now. Everything that asks for a token takes a key, too."""

from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from huahuo.actors.plugins.principal import UserId
from huahuo.api_keys.keys import Key, Keys, fits, id_in, is_key
from huahuo.transport.access.revocations import Revocations
from huahuo.transport.access.rights import ADMIN
from huahuo.transport.access.verified import AuthFailure, Verified, Verifier
from huahuo.transport.protocol.codes import AuthCode

_SAY: Final = {
    AuthCode.TOKEN_EXPIRED: "密钥已过期",
    AuthCode.TOKEN_INVALID: "无效的密钥",
    AuthCode.TOKEN_REVOKED: "密钥已被吊销",
}

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
        self.used_ms: dict[int, int] = {}
        """When each key was last accepted, since the start."""

    def verify(self, token: str, now_ms: int) -> Verified | AuthFailure:
        """See `Verifier`."""
        if not is_key(token):
            return self._tokens.verify(token, now_ms)
        key = self._keys.of(id_in(token) or 0)
        if key is None or not fits(key, token):
            return _failure(AuthCode.TOKEN_INVALID, "no such API key, or it was revoked")
        if key.expires_at_ms <= now_ms:
            return _failure(AuthCode.TOKEN_EXPIRED, f"the API key {key.key_id} expired")
        if self.is_over(key):
            return _failure(AuthCode.TOKEN_REVOKED, f"the sessions of user/{key.user_id} were ended")
        is_admin = self._is_admin(key.user_id)
        rights = key.rights
        if not (key.is_admin if is_admin is None else is_admin):
            rights = tuple(one for one in rights if one != ADMIN and not self._admin_action(one))
        self.used_ms[key.key_id] = now_ms
        principal = replace(key.owner, is_admin=ADMIN in rights, rights=rights)
        return Verified(principal, key.expires_at_ms, key.jti, key.created_at_ms)

    def is_over(self, key: Key) -> bool:
        """Whether a revocation of its user has ended the key."""
        return self._revocations.covers(key.user_id, key.jti, key.created_at_ms)


def _failure(code: AuthCode, reason: str) -> AuthFailure:
    return AuthFailure(code, _SAY[code], reason)
