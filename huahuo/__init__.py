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

_DECISION = "huahuo.actors.domain.structs"
_STRUCTS = "huahuo.actors.domain.structs"
_CALLS = "huahuo.actors.plugins.calls"
_HTTP = "huahuo.actors.plugins.actions"
_PLUGIN = "huahuo.actors.plugins.plugin"
_PRINCIPAL = "huahuo.actors.plugins.calls"

_HOMES = {
    "Action": "huahuo.actors.plugins.actions",
    "After": _DECISION,
    "ApiRefused": _PLUGIN,
    "At": "huahuo.at",
    "Brought": _PLUGIN,
    "Call": _CALLS,
    "CancelEffects": _DECISION,
    "Command": _STRUCTS,
    "Context": _DECISION,
    "Decision": _DECISION,
    "DefinitionError": "huahuo.actors.domain.structs",
    "Drop": _DECISION,
    "Effect": _STRUCTS,
    "EffectFailed": _STRUCTS,
    "EffectRun": "huahuo.actors.effects.run",
    "Entity": "huahuo.actors.domain.entity",
    "EntityKind": _PLUGIN,
    "Event": _STRUCTS,
    "Every": _DECISION,
    "Followed": "huahuo.actors.followers.spec",
    "FollowerRun": "huahuo.actors.followers.spec",
    "Host": _PLUGIN,
    "HttpAnswer": _HTTP,
    "HttpRefused": _HTTP,
    "HttpRequest": _HTTP,
    "HttpRoute": _HTTP,
    "Huahuo": "huahuo.embedding.huahuo",
    "Outcome": _DECISION,
    "Past": "huahuo.actors.plugins.past",
    "Plugin": _PLUGIN,
    "Principal": _PRINCIPAL,
    "Publisher": "huahuo.publisher",
    "Put": _DECISION,
    "Refusal": _CALLS,
    "Refused": _DECISION,
    "Reply": _CALLS,
    "RunOver": "huahuo.actors.effects.books",
    "Rows": "huahuo.actors.domain.client_actions",
    "Secret": "huahuo.eventstore.model",
    "Service": "huahuo.embedding.service",
    "To": _DECISION,
    "UserId": _PRINCIPAL,
    "to": _DECISION,
}


if not TYPE_CHECKING:  # a type checker takes the names from the imports above

    def __getattr__(name: str) -> object:
        """Import an exported name at its first use."""
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(home), name)
        return value
