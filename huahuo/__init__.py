"""huahuo (花火): event-sourced entities, streamed to clients that may disconnect and resume.

Exports what an application writes: its entities (`Entity`, `Event`, `Command`, …), the service that runs
them (`Huahuo`, `Service`), the interface of plug-ins, and the errors. All but the errors are imported at
their first use, so that each part of the package can be imported alone.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from huahuo.errors import ConfigError as ConfigError
from huahuo.errors import HuahuoError as HuahuoError
from huahuo.errors import JobCancelled as JobCancelled
from huahuo.errors import NotRunning as NotRunning
from huahuo.errors import OutcomeUnknown as OutcomeUnknown
from huahuo.errors import Unknown as Unknown

if TYPE_CHECKING:
    from huahuo.actors.domain.client_actions import Rows as Rows
    from huahuo.actors.domain.entity import Entity as Entity
    from huahuo.actors.domain.structs import After as After
    from huahuo.actors.domain.structs import CancelEffects as CancelEffects
    from huahuo.actors.domain.structs import Command as Command
    from huahuo.actors.domain.structs import Context as Context
    from huahuo.actors.domain.structs import Decision as Decision
    from huahuo.actors.domain.structs import DefinitionError as DefinitionError
    from huahuo.actors.domain.structs import Drop as Drop
    from huahuo.actors.domain.structs import Effect as Effect
    from huahuo.actors.domain.structs import EffectFailed as EffectFailed
    from huahuo.actors.domain.structs import Event as Event
    from huahuo.actors.domain.structs import Every as Every
    from huahuo.actors.domain.structs import Outcome as Outcome
    from huahuo.actors.domain.structs import Put as Put
    from huahuo.actors.domain.structs import Refused as Refused
    from huahuo.actors.domain.structs import To as To
    from huahuo.actors.domain.structs import to as to
    from huahuo.actors.effects.books import RunOver as RunOver
    from huahuo.actors.effects.run import EffectRun as EffectRun
    from huahuo.actors.followers.spec import Followed as Followed
    from huahuo.actors.followers.spec import FollowerRun as FollowerRun
    from huahuo.actors.plugins.actions import Action as Action
    from huahuo.actors.plugins.actions import HttpAnswer as HttpAnswer
    from huahuo.actors.plugins.actions import HttpRefused as HttpRefused
    from huahuo.actors.plugins.actions import HttpRequest as HttpRequest
    from huahuo.actors.plugins.actions import HttpRoute as HttpRoute
    from huahuo.actors.plugins.calls import Call as Call
    from huahuo.actors.plugins.calls import Principal as Principal
    from huahuo.actors.plugins.calls import Refusal as Refusal
    from huahuo.actors.plugins.calls import Reply as Reply
    from huahuo.actors.plugins.calls import UserId as UserId
    from huahuo.actors.plugins.past import Past as Past
    from huahuo.actors.plugins.plugin import ApiRefused as ApiRefused
    from huahuo.actors.plugins.plugin import Brought as Brought
    from huahuo.actors.plugins.plugin import EntityKind as EntityKind
    from huahuo.actors.plugins.plugin import Host as Host
    from huahuo.actors.plugins.plugin import Plugin as Plugin
    from huahuo.at import At as At
    from huahuo.embedding.huahuo import Huahuo as Huahuo
    from huahuo.embedding.service import Service as Service
    from huahuo.eventstore.model import Secret as Secret
    from huahuo.publisher import Publisher as Publisher

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

__all__ = [  # noqa: PLE0604
    *("ConfigError", "HuahuoError", "JobCancelled", "NotRunning", "OutcomeUnknown", "Unknown"),
    *(name for names in _HOMES.values() for name in names),
]


if not TYPE_CHECKING:  # a type checker takes the names from the imports above

    def __getattr__(name: str) -> object:
        """Import an exported name at its first use."""
        for home, names in _HOMES.items():
            if name in names:
                value = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
