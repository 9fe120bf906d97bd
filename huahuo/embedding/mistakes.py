"""Calls of `send` that would be ignored in part, or fail in other words, and what to write instead. Pure."""

from collections.abc import Mapping
from typing import Any, Final

from huahuo.actors.domain.catalog import Catalog, creates
from huahuo.actors.domain.decision import Refused
from huahuo.actors.domain.entity import Entity
from huahuo.actors.domain.structs import Command, traits

_MEANT_AS_USER: Final = frozenset({"user", "user_id"})
"""Fields by which a caller means `as_user`."""


def refuse_the_user_as_a_field(catalog: Catalog, command: object, fields: Mapping[str, Any]) -> None:
    """Refuse a field that stands for `as_user`: it would be ignored, and the service itself would send."""
    found = catalog.by_action.get(command) if isinstance(command, str) else None
    if found is None:
        return
    for name in sorted(_MEANT_AS_USER & fields.keys() - {*found[1].__struct_encode_fields__}):
        raise _invalid(f"{name}: {command} has no such field: write as_user= for the user who sends it")


def refuse_a_number_of_ones_own(entity: Entity[Any], command: Command, key: int | str) -> None:
    """Refuse an id for a new entity where the log gives them: it would give the same to another one."""
    if entity.key is int and creates(entity, type(command)):
        kind, name = entity.kind, type(command).__name__
        raise _invalid(f"{kind}_id: there is no {kind} {key}: without {kind}_id=, {name}(…) makes a new one")


def unknown(catalog: Catalog, command: object, why: str) -> Refused:
    """The refusal of what is neither a command nor an action: what may have been meant, or else `why`."""
    if isinstance(command, type):
        why = f"{command.__name__} is a class: write {command.__name__}(…)"
    for cls in catalog.owners:
        if issubclass(cls, Command) and traits(cls).name == command:
            why = f"{command!r} is the name of {cls.__name__}, which has no action: send {cls.__name__}(…)"
    return Refused("unknown_action", why)


def _invalid(details: str) -> Refused:
    return Refused("invalid_field", "a field is not valid", details)
