"""Who judges tokens and rights, from the settings and the application's own functions."""

import msgspec
import structlog

from huahuo.app.config import Settings
from huahuo.app.keys import Keys
from huahuo.errors import ConfigError
from huahuo.eventstore.ambient import Ambient
from huahuo.transport.access.claims import ClaimNames
from huahuo.transport.access.common_time import Latest
from huahuo.transport.access.tokens import Authenticator
from huahuo.transport.accounts.accounts import Accounts, Issuer
from huahuo.transport.accounts.application import AskApplication, AskRights, Authenticate, Authorize
from huahuo.transport.accounts.issuer_keys import KeyServer, refuse_url

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
