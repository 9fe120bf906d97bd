"""`huahuo types`: an application's events, commands and states, as a module of TypeScript."""

from huahuo.actors.domain.client_types import client_types
from huahuo.app.plugins import chosen
from huahuo.errors import ConfigError


def types() -> str:
    """The module for the application of `--app`.

    Raises:
        ConfigError: no application is named.
    """
    entities = chosen().entities
    if len(entities.catalog.by_kind) == 1 and not entities.lists.by_action:  # the kind `job` is always there
        raise ConfigError("name the application whose types you want: --app MODULE:NAME")
    return client_types(entities.catalog, entities.lists.by_action)
