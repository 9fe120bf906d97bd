"""huahuo (花火): event-sourced entities, streamed to clients that may disconnect and resume.

Exports what an application writes: its entities (`Entity`, `Event`, `Command`, …), the service that runs them
(`Service`), and the errors. Each name is imported at its first use, so that each part of the package can be
imported alone.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from huahuo.errors import ConfigError, HuahuoError, NotRunning, OutcomeUnknown

if TYPE_CHECKING:
    from huahuo.actors.domain.decision import (
        After,
        CancelEffects,
        Context,
        Decision,
        Drop,
        Every,
        Outcome,
        Put,
        Refused,
        to,
    )
    from huahuo.actors.domain.entity import Entity
    from huahuo.actors.domain.errors import DefinitionError
    from huahuo.actors.domain.structs import Command, Effect, Event
    from huahuo.actors.plugins.principal import Principal, UserId
    from huahuo.embedding.service import Service
    from huahuo.eventstore.model import Secret

__all__ = [
    "After",
    "CancelEffects",
    "Command",
    "ConfigError",
    "Context",
    "Decision",
    "DefinitionError",
    "Drop",
    "Effect",
    "Entity",
    "Event",
    "Every",
    "HuahuoError",
    "NotRunning",
    "Outcome",
    "OutcomeUnknown",
    "Principal",
    "Put",
    "Refused",
    "Secret",
    "Service",
    "UserId",
    "to",
]

_DECISION = "huahuo.actors.domain.decision"
_STRUCTS = "huahuo.actors.domain.structs"
_PRINCIPAL = "huahuo.actors.plugins.principal"

_HOMES = {
    "After": _DECISION,
    "CancelEffects": _DECISION,
    "Command": _STRUCTS,
    "Context": _DECISION,
    "Decision": _DECISION,
    "DefinitionError": "huahuo.actors.domain.errors",
    "Drop": _DECISION,
    "Effect": _STRUCTS,
    "Entity": "huahuo.actors.domain.entity",
    "Event": _STRUCTS,
    "Every": _DECISION,
    "Outcome": _DECISION,
    "Principal": _PRINCIPAL,
    "Put": _DECISION,
    "Refused": _DECISION,
    "Secret": "huahuo.eventstore.model",
    "Service": "huahuo.embedding.service",
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
