"""The messages by which clients reach entities: fields of a command or query, and the entity's id. Pure."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta

from huahuo.actors.domain import en
from huahuo.actors.domain.catalog import creates
from huahuo.actors.domain.entity import Entity
from huahuo.actors.domain.names import is_key
from huahuo.actors.domain.structs import Command
from huahuo.eventstore.limits import BROWSER_INT_MAX

_NUMBER: Final = Annotated[int, Meta(ge=1, le=BROWSER_INT_MAX)]
_TEXT: Final = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.@+-]{1,64}$")]


class InvalidMessage(ValueError):  # noqa: N818  a refusal
    """A field is not allowed. The text begins with its name."""


class CommandMessage:
    """The struct that a message with `cls.action` is decoded into, and what it means."""

    def __init__(self, entity: Entity[Any], cls: type[Command]) -> None:
        self._cls = cls
        self._entity = entity
        self.key_field = f"{entity.kind}_id"
        self.makes_id = entity.key is int and creates(entity, cls)
        """Whether the id comes from the log, so that the message has none."""
        self._names = tuple(field.name for field in msgspec.structs.fields(cls))
        self.params = _with_key(cls, entity, optional=self.makes_id)

    def read(self, message: Any) -> tuple[int | str | None, Command]:
        """The entity's key (None: the log gives one) and the command.

        Raises:
            InvalidMessage: an id where the command makes one, or a value that the command itself refuses.
        """
        key = getattr(message, self.key_field)
        if self.makes_id:
            if key is not UNSET:
                raise InvalidMessage(f"{self.key_field}: {en.MAKES_A_NEW_ONE.format(self._entity.kind)}")
            key = None
        elif not is_key(key, self._entity.key):
            raise InvalidMessage(f"{self.key_field}: this value is not allowed")
        try:
            return key, self._cls(**{name: getattr(message, name) for name in self._names})
        except (TypeError, ValueError) as error:  # from a __post_init__ of the application
            raise InvalidMessage(str(error)) from error


def key_beside(entity: Entity[Any], command: Command, fields: Mapping[str, Any]) -> int | str | None:
    """The entity's key of a command that is an object, from the `fields` given with it.

    Raises:
        InvalidMessage: no entity can have it, it is needed and not there, or there is another field.
    """
    name = f"{entity.kind}_id"
    for other in sorted(fields.keys() - {name}):
        raise InvalidMessage(f"{other}: with an object, write its fields in it; besides, only {name}=")
    key = fields.get(name)
    if key is None and not (entity.key is int and creates(entity, type(command))):
        raise InvalidMessage(f"{name}: say which {entity.kind} it is for")
    if key is not None and not is_key(key, entity.key):
        raise InvalidMessage(f"{name}: no {entity.kind} can have the id {key!r}")
    return key


def query_params(entity: Entity[Any], fields: type[msgspec.Struct] | None) -> type[msgspec.Struct]:
    """The struct of a query's message: the entity's id, and the fields of its own struct."""
    return _with_key(fields, entity, optional=False)


def with_fields(
    fields: type[msgspec.Struct] | None, base: type[msgspec.Struct], name: str
) -> type[msgspec.Struct]:
    """A struct with the fields of both."""
    both = [*(() if fields is None else msgspec.structs.fields(fields)), *msgspec.structs.fields(base)]
    copied: list[Any] = [_copied(field) for field in both]
    return msgspec.defstruct(f"{name}Message", copied, frozen=True, kw_only=True)


def struct_of(message: Any, cls: type[msgspec.Struct]) -> msgspec.Struct:
    """The part of a message that belongs to `cls`."""
    return cls(**{field.name: getattr(message, field.name) for field in msgspec.structs.fields(cls)})


def _with_key(
    cls: type[msgspec.Struct] | None, entity: Entity[Any], *, optional: bool
) -> type[msgspec.Struct]:
    fields: list[Any] = [] if cls is None else [_copied(field) for field in msgspec.structs.fields(cls)]
    key = f"{entity.kind}_id"
    kind = _NUMBER if entity.key is int else _TEXT
    fields.append((key, Any, UNSET) if optional else (key, kind))
    name = f"{'' if cls is None else cls.__name__}Message"
    return msgspec.defstruct(name, fields, frozen=True, kw_only=True)


def _copied(field: msgspec.structs.FieldInfo) -> tuple[Any, ...]:
    given: dict[str, Any] = {"name": field.encode_name}
    if field.default is not msgspec.NODEFAULT:
        given["default"] = field.default
    elif field.default_factory is not msgspec.NODEFAULT:
        given["default_factory"] = field.default_factory
    return field.name, field.type, msgspec.field(**given)
