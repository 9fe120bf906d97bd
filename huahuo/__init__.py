"""huahuo (花火): mailboxes checked over IMAP, streamed to clients that may disconnect and resume.

Exports the embedding API and the interface of plug-ins. All but the errors are imported at their first use,
so that each part of the package can be imported alone.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from huahuo.errors import ConfigError, HuahuoError, NotRunning, OutcomeUnknown

if TYPE_CHECKING:
    from huahuo.actors.plugins.actions import Action
    from huahuo.actors.plugins.calls import Call, Refusal, Reply
    from huahuo.actors.plugins.past import Past
    from huahuo.actors.plugins.plugin import ApiRefused, Brought, EntityKind, Host, Plugin
    from huahuo.actors.plugins.principal import Principal, UserId
    from huahuo.embedding.service import Service

__all__ = [
    "Action",
    "ApiRefused",
    "Brought",
    "Call",
    "ConfigError",
    "EntityKind",
    "Host",
    "HuahuoError",
    "NotRunning",
    "OutcomeUnknown",
    "Past",
    "Plugin",
    "Principal",
    "Refusal",
    "Reply",
    "Service",
    "UserId",
]

_HOMES = {
    "Action": "huahuo.actors.plugins.actions",
    "ApiRefused": "huahuo.actors.plugins.plugin",
    "Brought": "huahuo.actors.plugins.plugin",
    "Call": "huahuo.actors.plugins.calls",
    "EntityKind": "huahuo.actors.plugins.plugin",
    "Host": "huahuo.actors.plugins.plugin",
    "Past": "huahuo.actors.plugins.past",
    "Plugin": "huahuo.actors.plugins.plugin",
    "Principal": "huahuo.actors.plugins.principal",
    "Refusal": "huahuo.actors.plugins.calls",
    "Reply": "huahuo.actors.plugins.calls",
    "UserId": "huahuo.actors.plugins.principal",
    "Service": "huahuo.embedding.service",
}


if not TYPE_CHECKING:  # a type checker takes the names from the imports above

    def __getattr__(name: str) -> object:
        """Import an exported name at its first use."""
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(home), name)
        return value
