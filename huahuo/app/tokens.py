"""Sign-in tokens from a data directory's key, for the command line and the embedding API."""

from collections.abc import Callable

from huahuo.actors.plugins.principal import USER_ID_RULE, Principal, UserId, user_id_of
from huahuo.app import keys
from huahuo.app.config import Settings
from huahuo.errors import ConfigError
from huahuo.eventstore.ambient import Ambient
from huahuo.transport.access.tokens import Authenticator
from huahuo.transport.access.verified import AuthFailure

_SERVICE_TTL_S = 3600


def mint(
    jwt_secret: bytes,
    ambient: Ambient,
    *,
    user_id: UserId,
    username: str,
    admin: bool = False,
    groups: tuple[str, ...] = (),
    ttl_s: float = 3600,
    by: Authenticator | None = None,
) -> str:
    """A token that a service with this key accepts. `by`: that of the service, if it runs here.

    Raises:
        ConfigError: the service would refuse a field.
    """
    judge = by or Authenticator(jwt_secret)
    clock_ms = ambient.now_ms()
    now_ms, issue_ms = judge.latest_ms(clock_ms), judge.issue_ms(user_id, clock_ms)
    principal = Principal(user_id, username, is_admin=admin, groups=groups, signed_in_ms=now_ms)
    token = judge.mint(principal, now_ms=now_ms, ttl_s=ttl_s, jti=ambient.token(), issue_ms=issue_ms)
    if isinstance(judge.verify(token, now_ms), AuthFailure):
        raise ConfigError(
            f"the service would refuse this token: {USER_ID_RULE}; a user name has 1 to 256 characters, "
            "group names are of letters, digits and _.- up to 64"
        )
    return token


def user_id_in(text: str) -> UserId:
    """The id of a user that a command line names. Raises ConfigError: no user can have it."""
    user_id = user_id_of(text)
    if user_id is None:
        raise ConfigError(f"--user-id {text}: {USER_ID_RULE}")
    return user_id


def token_source(token: str | None, settings: Settings | None, ambient: Ambient) -> Callable[[], str]:
    """The function from which a command gets its token each time it signs in.

    Raises:
        ConfigError: neither a token nor a data directory was given, or the directory has no key.
    """
    if token:
        return lambda: token
    if settings is None:
        raise ConfigError("give --token (or HUAHUO_TOKEN), or --data to sign in as an admin")
    try:
        jwt_secret = keys.read_jwt_secret(settings)
    except ConfigError as error:
        if settings.data.is_dir():
            raise
        raise ConfigError(
            f"no token: give --token (or HUAHUO_TOKEN), or sign in as an admin: {error}"
        ) from error
    return lambda: mint(jwt_secret, ambient, user_id=0, username="huahuo", admin=True, ttl_s=_SERVICE_TTL_S)
