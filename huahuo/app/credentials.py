"""The secrets of a data directory, the tokens signed with them, and who judges tokens and rights.

The settings give the token key and the master key, or they are made once as files of mode 0600 in the
directory. There is no built-in default, and they are never printed. Without `master.key` no stored
password can be read: back it up apart from the data. Tokens and rights are judged by the settings and by
the application's own functions.
"""

import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import structlog

from huahuo.actors.plugins.calls import USER_ID_RULE, Principal, UserId, user_id_of
from huahuo.app.config import Settings
from huahuo.errors import ConfigError
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.atomic_file import make_file
from huahuo.transport.access.claims import ClaimNames, Latest
from huahuo.transport.access.rights import AuthFailure
from huahuo.transport.access.tokens import Authenticator
from huahuo.transport.accounts.accounts import (
    Accounts,
    AskApplication,
    AskRights,
    Authenticate,
    Authorize,
    Issuer,
)
from huahuo.transport.accounts.issuer_keys import KeyServer, refuse_url

JWT_FILE = "jwt.secret"
MASTER_FILE = "master.key"
_SETTINGS = {JWT_FILE: "HUAHUO_JWT_SECRET", MASTER_FILE: "HUAHUO_MASTER_KEY"}
_MASTER_BYTES = 32
OWN_KEY = (
    f"put the key that belongs to it into {MASTER_FILE}, or set {_SETTINGS[MASTER_FILE]} to it."
    " Without that key neither the log nor a stored password can be read"
)
_BESIDE_MAX = 3


class Keys(msgspec.Struct, frozen=True):
    """The keys as bytes, hidden in `repr`. `previous` token keys verify but never sign."""

    jwt_secret: bytes
    master_key: bytes
    previous: tuple[bytes, ...] = ()

    def __repr__(self) -> str:
        return "Keys([sealed])"


def others_beside(data: Path) -> str:
    """Which data directories are next to `data`, for an error that says that there is none there."""
    there = sorted(str(key.parent) for key in data.parent.glob(f"*/{MASTER_FILE}") if key.parent != data)
    return f" (here: {', '.join(there[:_BESIDE_MAX])})" if there else ""


def ensure_keys(settings: Settings, ambient: Ambient) -> Keys:
    """The keys of `settings.data`. Keys that do not exist yet are made.

    Raises:
        ConfigError: a key is too short, malformed or not secret, or a file cannot be read or made; or this
            is a node without keys, which makes none.
    """
    if settings.log:
        _refuse_to_make(settings)
    _make_directory(settings.data)
    if not settings.master_key:
        _refuse_another(settings.data)
    jwt_text = settings.jwt_secret or _stored(settings.data / JWT_FILE, ambient.token(32))
    master_text = settings.master_key or _stored(settings.data / MASTER_FILE, ambient.token(_MASTER_BYTES))
    return Keys(_jwt(jwt_text), _master(master_text), tuple(map(_jwt, settings.jwt_secrets_previous)))


def read_keys(settings: Settings) -> Keys:
    """The keys of a directory that exists.

    Raises:
        ConfigError: there are none. The text says what to do.
    """
    jwt_text = settings.jwt_secret or _read(settings.data / JWT_FILE)
    master_text = settings.master_key or _read(settings.data / MASTER_FILE)
    return Keys(_jwt(jwt_text), _master(master_text), tuple(map(_jwt, settings.jwt_secrets_previous)))


def read_jwt_secret(settings: Settings) -> bytes:
    """The token key alone. If the settings hold it, no directory is needed. Raises as `read`."""
    return _jwt(settings.jwt_secret or _read(settings.data / JWT_FILE))


def read_master_key(settings: Settings) -> bytes:
    """The master key alone: all that opening a log takes. Raises as `read`."""
    return _master(settings.master_key or _read(settings.data / MASTER_FILE))


def files_of(settings: Settings) -> list[str]:
    """The files that keys are read from: those that the settings do not give."""
    given = {JWT_FILE: settings.jwt_secret, MASTER_FILE: settings.master_key}
    return [name for name, value in given.items() if not value]


def _refuse_to_make(settings: Settings) -> None:
    """Nodes have the same two keys, so a node makes none."""
    given = (settings.jwt_secret, JWT_FILE), (settings.master_key, MASTER_FILE)
    if not all(value or (settings.data / file).is_file() for value, file in given):
        raise ConfigError(
            f"the nodes of a log share two keys, and {settings.data} lacks one. Make them for the first node"
            f" by `huahuo cluster keys --data {settings.data}`; for each further one copy {JWT_FILE} and"
            f" {MASTER_FILE} from there, or set HUAHUO_JWT_SECRET and HUAHUO_MASTER_KEY on all nodes"
        )


def _refuse_another(data: Path) -> None:
    """A log is opened by the key that it was made with. A second one would hide that the first is gone."""
    from huahuo.eventstore.sqlite.schema import DATABASE

    path, database = data / MASTER_FILE, data / DATABASE
    if os.path.lexists(path) or not (database.is_file() and database.stat().st_size):
        return
    raise ConfigError(
        f"{path} is gone, and {database} was made with it: {OWN_KEY}. To begin anew, give another --data"
    )


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"cannot make the data directory {path}: {error.strerror}. Choose another --data"
        ) from None


def _stored(path: Path, fresh: str) -> str:
    """The file's text. If there is no file, it is made from `fresh`, unless a second starter was faster."""
    try:
        write_key(path, fresh)
    except FileExistsError:
        return _read(path)
    except OSError as error:
        raise ConfigError(f"cannot make {path}: {error.strerror}") from None
    return fresh


def write_key(path: Path, text: str) -> None:
    """Make a key's file, or none. Raises OSError, if there is one already FileExistsError."""
    make_file(path, f"{text}\n".encode("ascii"))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise ConfigError(
                f"there is no directory {path.parent}: check --data{others_beside(path.parent)},"
                f" or make it by `huahuo serve --data {path.parent}`"
            ) from None
        raise ConfigError(
            f"{path} does not exist: put the key that belongs to this directory there,"
            f" or set {_SETTINGS[path.name]} to it, as for the service,"
            f" or let `huahuo serve --data {path.parent}` make one if the directory is new"
        ) from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(
            f"{path} is damaged: it is no text. Put the key that belongs to this directory there,"
            f" or set {_SETTINGS[path.name]} to it"
        ) from None


def _jwt(text: str) -> bytes:
    data = text.encode()
    try:
        Authenticator(data)
    except ValueError as error:
        raise ConfigError(f"HUAHUO_JWT_SECRET or {JWT_FILE}: {error}") from None
    return data


def _master(text: str) -> bytes:
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != _MASTER_BYTES:
        raise ConfigError(
            f"the master key must be 64 hex digits (HUAHUO_MASTER_KEY or {MASTER_FILE}):"
            " if the file was damaged, put your copy of it back"
        )
    return key


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
        jwt_secret = read_jwt_secret(settings)
    except ConfigError as error:
        if settings.data.is_dir():
            raise
        raise ConfigError(
            f"no token: give --token (or HUAHUO_TOKEN), or sign in as an admin: {error}"
        ) from error
    return lambda: mint(jwt_secret, ambient, user_id=0, username="huahuo", admin=True, ttl_s=_SERVICE_TTL_S)


_log = structlog.get_logger(__name__)


class Asked(msgspec.Struct, frozen=True):
    """The functions of an application that are asked about users: see docs/accounts.md."""

    authenticate: Authenticate | None = None
    authorize: Authorize | None = None


NOBODY = Asked()


def authenticator(
    settings: Settings, secrets: Keys, latest_ms: Latest, issued_ms: Latest | None = None
) -> Authenticator:
    """Who judges and signs the tokens of the shared secret."""
    return Authenticator(
        secrets.jwt_secret,
        previous=secrets.previous,
        names=_names(settings),
        latest_ms=latest_ms,
        issued_ms=issued_ms,
    )


def accounts(settings: Settings, own: Authenticator, asked: Asked, ambient: Ambient) -> Accounts:
    """Who judges all tokens.

    Raises:
        ConfigError: keys may not be fetched from the address, or a setting would not be heeded.
    """
    application = None
    if asked.authenticate is not None:
        application = AskApplication(asked.authenticate, settings.authenticate_timeout_s, own.asked_from)
    return Accounts(own, issuer=_issuer(settings, ambient), application=application)


def rights(settings: Settings, asked: Asked) -> AskRights | None:
    """Who judges rights that no rule and no entity says. None: nobody."""
    if asked.authorize is None:
        return None
    return AskRights(asked.authorize, settings.authenticate_timeout_s)


def _issuer(settings: Settings, ambient: Ambient) -> Issuer | None:
    if not settings.jwks_url:
        for name in ("jwt_issuer", "jwt_audience"):
            if getattr(settings, name):
                raise ConfigError(
                    f"{name} is for tokens of an issuer's keys: set jwks_url, or leave it unset"
                )
        return None
    refused = refuse_url(settings.jwks_url)
    if refused:
        raise ConfigError(f"jwks_url: {refused}")
    if not (settings.jwt_issuer and settings.jwt_audience):
        _log.warning(
            "tokens of these keys are good here whomever they are meant for: set jwt_issuer and jwt_audience",
            jwks_url=settings.jwks_url,
        )
    keys = KeyServer(settings.jwks_url, ambient)
    return Issuer(keys, _names(settings), settings.jwt_issuer, settings.jwt_audience)


def _names(settings: Settings) -> ClaimNames:
    return ClaimNames(settings.user_claim, settings.groups_claim, settings.admin_claim)
