"""The shapes of stored events: by kind, type and version, which fields of which types a body has.

The commit of the first event of a shape keeps it in the log, as JSON, in a row. A start compares what the log
has with today's classes, and refuses to go on with classes that could not read it.
"""

from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any, Final, Protocol

import msgspec
from msgspec import inspect

from huahuo.actors.domain.entity import Entity
from huahuo.actors.domain.projection_rows import KIND
from huahuo.actors.domain.structs import place_of, traits
from huahuo.eventstore.model import RowPut

_PART: Final = "shapes"
_PAGE: Final = 1_000
_LOWER: Final = frozenset({"ge", "gt", "min_length"})
_UPPER: Final = frozenset({"le", "lt", "max_length"})
_ARRAYS: Final = {"set", "frozenset", "vartuple", "collection"}
"""Kinds of types that JSON writes as it writes a list."""

type Form = dict[str, Any]
"""`{}` is anything; else it has one of `any` (a union), `values`, `fields` and `type`."""


class Rows(Protocol):
    """The part of a log that reads rows."""

    async def rows(
        self, table: str, part: str, *, after: bytes | None = None, limit: int
    ) -> list[tuple[bytes, bytes]]:
        """See `Log`."""
        ...


class Kept:
    """What a decision starts: the shape of this type was kept in its commit."""

    __slots__ = ("type_name",)

    def __init__(self, type_name: str) -> None:
        self.type_name = type_name


def row_of(entity: Entity[Any], cls: type) -> RowPut:
    """The row that keeps the shape of a class of events."""
    key = f"{entity.kind}\0{traits(cls).name}\0{entity.version}"
    return RowPut(KIND, _PART, key.encode(), _shape_of(cls))


async def differences(log: Rows, entities: Iterable[Entity[Any]], *, shared: bool = False) -> list[str]:
    """Which events of the log today's classes cannot read, a sentence each.

    `shared`: where nodes share the log, types that a newer version of the entity has written are carried.
    """
    by_kind = {entity.kind: entity for entity in entities}
    found = []
    async for kind, name, version, shape in _stored(log):
        if kind in by_kind and (said := _difference(by_kind[kind], name, version, shape, shared=shared)):
            found.append(said)
    return found


async def kept(log: Rows, entity: Entity[Any]) -> set[str]:
    """The types whose events have today's shape in the log, in today's version."""
    by_name = {traits(cls).name: cls for cls in entity.evolves}
    return {
        name
        async for kind, name, version, shape in _stored(log)
        if kind == entity.kind and version == entity.version and name in by_name
        and shape == _shape_of(by_name[name])
    }  # fmt: skip


async def _stored(log: Rows) -> AsyncIterator[tuple[str, str, int, bytes]]:
    after = b""
    while rows := await log.rows(KIND, _PART, after=after, limit=_PAGE):
        for key, shape in rows:
            kind, name, version = key.decode().split("\0")
            yield kind, name, int(version), shape
        after = rows[-1][0]


def _difference(entity: Entity[Any], name: str, version: int, shape: bytes, *, shared: bool) -> str | None:
    kind, newer = entity.kind, version > entity.version
    cls = next((cls for cls in entity.evolves if traits(cls).name == name), None)
    if cls is None:
        if name in entity.retired or (newer and shared):
            return None
        write = f"keep a class with type={name!r} and its evolve, or write retired=[{name!r}] in the Entity"
        where = f"{entity.place}: Entity({kind!r})"
        return f"{where}: the log has events {name!r}, and no evolve takes them: {write}"
    if any((name, step) in entity.upcasts for step in range(version, entity.version)):
        return None
    found = next(_unlike(_form(inspect.type_info(cls)), msgspec.json.decode(shape), "", newer=newer), None)
    if found is None:
        return None
    what, way = found
    where = f"{place_of(cls)}: class {cls.__name__}(Event): the log has {name!r} of version {version}"
    if newer:
        return f"{where}, and {what}: start the version of the application that wrote it"
    upcast = (
        f"write version={entity.version + 1} in Entity({kind!r}, …)" if version == entity.version else "add"
    )
    return f"{where}, and {what}: {way}, or {upcast} with @{kind}.upcast({name!r}, from_version={version})"


def _shape_of(cls: type) -> bytes:
    return msgspec.json.encode(_form(inspect.type_info(cls)), order="sorted")


def _form(told: inspect.Type, inside: tuple[type, ...] = ()) -> Form:
    match told:
        case inspect.Metadata():
            return _form(told.type, inside)
        case inspect.AnyType() | inspect.RawType():
            return {}
        case inspect.UnionType():
            return {"any": sorted((_form(one, inside) for one in told.types), key=_text)}
        case inspect.EnumType():
            return {"values": sorted((one.value for one in told.cls), key=repr)}
        case inspect.LiteralType():
            return {"values": sorted(told.values, key=repr)}
    cls: Any = getattr(told, "cls", None)
    fields = getattr(told, "fields", None)
    if fields is not None:
        if cls in inside:
            return {"type": cls.__name__}
        inner = (*inside, cls)
        tag = getattr(told, "tag", None)
        if isinstance(told, inspect.NamedTupleType) or getattr(told, "array_like", False):
            return {"type": "tuple", "tag": tag, "item_types": [_form(one.type, inner) for one in fields]}
        return {
            "tag": tag,
            "fields": {one.encode_name: [_form(one.type, inner), one.required] for one in fields},
        }
    kind = type(told).__name__.removesuffix("Type").lower()
    form: Form = {"type": "list" if kind in _ARRAYS else kind}
    for part in told.__struct_fields__:
        value = getattr(told, part)
        if isinstance(value, inspect.Type):
            form[part] = _form(value, inside)
        elif isinstance(value, tuple):
            form[part] = [_form(one, inside) for one in value]
        elif value is not None:
            form[part] = value
    return form


def _unlike(now: Form, was: Form, field: str, *, newer: bool) -> Iterator[tuple[str, str]]:
    """Why a value of the form `was` cannot be read as `now`: what is wrong with which field, and a way out.

    `newer`: it was written by newer code, so fields that only it has are ignored.
    """
    if not now or now == was:
        return
    if "any" in was:
        for one in was["any"]:
            yield from _unlike(now, one, field, newer=newer)
    elif "fields" in now and "fields" in was and now["tag"] == was["tag"]:
        yield from _fields_unlike(now["fields"], was["fields"], field, newer=newer)
    elif not any(_reads(one, was, newer=newer) for one in now.get("any", (now,))):
        what = f"the field {field!r} was {_text(was)} there and is {_text(now)} now"
        yield what, "give the field its old type, and a new one another name and a default"


def _fields_unlike(now: Form, was: Form, path: str, *, newer: bool) -> Iterator[tuple[str, str]]:
    added, gone = now.keys() - was.keys(), was.keys() - now.keys()
    for name, (form, required) in now.items():
        field = f"{path}.{name}".strip(".")
        if required and not (name in was and was[name][1]):
            yield f"the field {field!r}, which has no default, is not in all of them", "give it a default"
        elif name in was:
            yield from _unlike(form, was[name][0], field, newer=newer)
    for name in sorted(gone):
        if not newer and (added or was[name][1]):  # beside an added field, it seems to have another name now
            yield f"their field {f'{path}.{name}'.strip('.')!r} is missing now", "keep it, with a default"


def _reads(now: Form, was: Form, *, newer: bool) -> bool:
    if not now or now == was:
        return True
    if "fields" in now or "fields" in was:
        alike = now.get("tag", ()) == was.get("tag", ())  # else one of them has no fields at all
        return alike and not any(_fields_unlike(now["fields"], was["fields"], "", newer=newer))
    if "values" in was:
        values = was["values"]
        return set(values) <= set(now["values"]) if "values" in now else all(
            now == {"type": type(value).__name__} for value in values
        )  # fmt: skip
    if "type" not in now or now["type"] not in (was["type"], {"int": "float"}.get(was["type"])):
        return False
    return all(_allows(part, limit, was.get(part), newer=newer) for part, limit in now.items())


def _allows(part: str, limit: Any, was: Any, *, newer: bool) -> bool:
    """Whether a bound of today, or the type of what is inside, lets in all that the one before did."""
    if isinstance(limit, dict):
        return not any(_unlike(limit, was, "", newer=newer))
    if part in _LOWER | _UPPER:
        return was is not None and (was >= limit if part in _LOWER else was <= limit)
    return part == "type" or was == limit


def _text(form: Form) -> str:
    if "any" in form:
        return " | ".join(map(_text, form["any"]))
    return (
        str(form["type"]) if form.keys() == {"type"} else msgspec.json.encode(form, order="sorted").decode()
    )
