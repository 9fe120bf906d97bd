"""API keys besides tokens: whose a key is now. Everything that asks for a token takes a key, too."""

from collections.abc import Awaitable, Callable

from msgspec.structs import replace

from huahuo.actors.plugins.principal import UserId
from huahuo.api_keys.keys import Key, Keys, fits, id_in, is_key, number_in
from huahuo.transport.access.revocations import Revocations
from huahuo.transport.access.rights import ADMIN
from huahuo.transport.access.verified import AuthFailure, Verdict, Verified, Verifier
from huahuo.transport.protocol.codes import AuthCode

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
        self._keys.used_ms[key.key_id] = now_ms
        principal = replace(key.owner, is_admin=ADMIN in rights, rights=rights)
        return Verified(principal, key.expires_at_ms, key.jti, key.created_at_ms)

    def is_over(self, key: Key) -> bool:
        """Whether a revocation of its user has ended the key."""
        return self._revocations.covers(key.user_id, key.jti, key.created_at_ms)


def _failure(code: AuthCode, reason: str) -> AuthFailure:
    return AuthFailure(code, reason)
