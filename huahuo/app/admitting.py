"""Who may come in, put together: users with passwords, API keys, and the judges of tokens."""

import msgspec

from huahuo.actors.plugins.actions import Registry
from huahuo.actors.plugins.plugin import Host
from huahuo.api_keys.actions import admit_keys
from huahuo.api_keys.book import KeyBook
from huahuo.api_keys.verifying import WithKeys
from huahuo.app import accounts
from huahuo.app.accounts import Asked
from huahuo.app.config import Settings
from huahuo.app.keys import Keys
from huahuo.app.nodes import issued_of, latest_of
from huahuo.app.stopping import Parts
from huahuo.eventstore.ambient import Ambient
from huahuo.transport.access.tokens import Authenticator
from huahuo.users.actions import UserActions
from huahuo.users.book import UserBook
from huahuo.users.login import Login
from huahuo.users.routes import UserRoutes


class Admitted(msgspec.Struct, frozen=True):
    """`authenticator`: the tokens of the service itself. `verifier`: every token and key that it takes."""

    users: UserBook
    login: Login
    api_keys: KeyBook
    authenticator: Authenticator
    verifier: WithKeys


async def admit(
    settings: Settings,
    secrets: Keys,
    asked: Asked,
    host: Host,
    ambient: Ambient,
    registry: Registry,
    parts: Parts,
) -> Admitted:
    """Read the users and keys that the log has, and register their commands and routes.

    `ambient`: its clock goes on while the process sleeps, so a sign-in link ends when it says.
    """
    log = host.log
    latest_ms = latest_of(log)
    authenticator = accounts.authenticator(settings, secrets, latest_ms, issued_of(log, latest_ms))
    users = UserBook(log, ambient, host.executor, latest_ms)
    parts.add("users", users.stop)
    await users.start()
    login = Login(
        users, authenticator, ambient, token_ttl_s=settings.login_ttl_s, registration=settings.registration
    )
    UserActions(users, login).register(registry)
    for route in UserRoutes(users, login, ambient).routes(classic=bool(settings.classic_ui)):
        registry.route(route)
    keys = KeyBook(log, ambient, authenticator.issue_ms, latest_ms)
    parts.add("API keys", keys.stop)
    await keys.start()
    judges = accounts.accounts(settings, authenticator, asked, host.ambient)
    parts.add("accounts", judges.close)
    verifier = admit_keys(keys, users, judges, authenticator.revocations, registry)
    return Admitted(users, login, keys, authenticator, verifier)
