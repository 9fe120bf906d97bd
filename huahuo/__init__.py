"""huahuo (花火): event-sourced entities, streamed to clients that may disconnect and resume.

Exports what an application writes: its entities (`Entity`, `Event`, `Command`, …), the service that runs
them (`Huahuo`, `Service`), the interface of plug-ins, and the errors. All but the errors are imported at
their first use, so that each part of the package can be imported alone.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from huahuo.errors import ConfigError, HuahuoError, JobCancelled, NotRunning, OutcomeUnknown, Unknown

if TYPE_CHECKING:
    from huahuo.actors.domain.client_actions import Rows
    from huahuo.actors.domain.entity import Entity
    from huahuo.actors.domain.structs import (
        After,
        CancelEffects,
        Command,
        Context,
        Decision,
        DefinitionError,
        Drop,
        Effect,
        EffectFailed,
        Event,
        Every,
        Outcome,
        Put,
        Refused,
        To,
        to,
    )
    from huahuo.actors.effects.books import RunOver
    from huahuo.actors.effects.run import EffectRun
    from huahuo.actors.followers.spec import Followed, FollowerRun
    from huahuo.actors.plugins.actions import Action, HttpAnswer, HttpRefused, HttpRequest, HttpRoute
    from huahuo.actors.plugins.calls import Call, Principal, Refusal, Reply, UserId
    from huahuo.actors.plugins.past import Past
    from huahuo.actors.plugins.plugin import ApiRefused, Brought, EntityKind, Host, Plugin
    from huahuo.at import At
    from huahuo.embedding.huahuo import Huahuo
    from huahuo.embedding.service import Service
    from huahuo.eventstore.model import Secret
    from huahuo.publisher import Publisher

__all__ = [
    "Action",
    "After",
    "ApiRefused",
    "At",
    "Brought",
    "Call",
    "CancelEffects",
    "Command",
    "ConfigError",
    "Context",
    "Decision",
    "DefinitionError",
    "Drop",
    "Effect",
    "EffectFailed",
    "EffectRun",
    "Entity",
    "EntityKind",
    "Event",
    "Every",
    "Followed",
    "FollowerRun",
    "Host",
    "HttpAnswer",
    "HttpRefused",
    "HttpRequest",
    "HttpRoute",
    "Huahuo",
    "HuahuoError",
    "JobCancelled",
    "NotRunning",
    "Outcome",
    "OutcomeUnknown",
    "Past",
    "Plugin",
    "Principal",
    "Publisher",
    "Put",
    "Refusal",
    "Refused",
    "Reply",
    "Rows",
    "RunOver",
    "Secret",
    "Service",
    "To",
    "Unknown",
    "UserId",
    "to",
]

_HOMES = {
    "actors.domain.client_actions": ("Rows",),
    "actors.domain.entity": ("Entity",),
    "actors.domain.structs": (
        "After",
        "CancelEffects",
        "Command",
        "Context",
        "Decision",
        "DefinitionError",
        "Drop",
        "Effect",
        "EffectFailed",
        "Event",
        "Every",
        "Outcome",
        "Put",
        "Refused",
        "To",
        "to",
    ),
    "actors.effects.books": ("RunOver",),
    "actors.effects.run": ("EffectRun",),
    "actors.followers.spec": ("Followed", "FollowerRun"),
    "actors.plugins.actions": ("Action", "HttpAnswer", "HttpRefused", "HttpRequest", "HttpRoute"),
    "actors.plugins.calls": ("Call", "Principal", "Refusal", "Reply", "UserId"),
    "actors.plugins.past": ("Past",),
    "actors.plugins.plugin": ("ApiRefused", "Brought", "EntityKind", "Host", "Plugin"),
    "at": ("At",),
    "embedding.huahuo": ("Huahuo",),
    "embedding.service": ("Service",),
    "eventstore.model": ("Secret",),
    "publisher": ("Publisher",),
}
"""The modules that export names, and which."""


if not TYPE_CHECKING:  # a type checker takes the names from the imports above

    def __getattr__(name: str) -> object:
        """Import an exported name at its first use."""
        for home, names in _HOMES.items():
            if name in names:
                value = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
