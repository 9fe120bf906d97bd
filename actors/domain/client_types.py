"""The module that tells the browser client of an application's events, commands and states. Pure.

It is made of the classes with which the service itself reads messages, so a field that is renamed there is
an error in the page's next build.

Structs as types of TypeScript: what the service tells, and what clients send. Pure.

The directions differ: a client may leave out a field with a default, and the service always tells it. So a
type that is sent has a name of its own, with `Input` behind it.
"""

import json
import re
import typing
from collections.abc import Iterable, Mapping
from enum import Enum
from textwrap import indent
from types import MappingProxyType
from typing import Any, Final

import msgspec
from msgspec import inspect

from huahuo.actors.domain import jobs
from huahuo.actors.domain.catalog import Catalog, creates
from huahuo.actors.domain.client_actions import ListQuery
from huahuo.actors.domain.entity import Entity, Handler
from huahuo.actors.domain.structs import traits
from huahuo.actors.plugins.actions import LiveList

_IDENTIFIER: Final = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")
_LINE_CHARS_MAX: Final = 110
_PLAIN: Final[tuple[tuple[type, str], ...]] = (
    (inspect.NoneType, "null"),
    (inspect.BoolType, "boolean"),
    (inspect.IntType, "number"),
    (inspect.FloatType, "number"),
    (inspect.StrType, "string"),
    (inspect.BytesType, "string"),
    (inspect.ByteArrayType, "string"),
    (inspect.MemoryViewType, "string"),
    (inspect.DateTimeType, "string"),
    (inspect.DateType, "string"),
    (inspect.TimeType, "string"),
    (inspect.TimeDeltaType, "string"),
    (inspect.UUIDType, "string"),
    (inspect.DecimalType, "string"),
    (inspect.CustomType, "string"),  # the one that our codec knows is a secret, which clients send as a text
)
_LISTS: Final = (inspect.ListType, inspect.SetType, inspect.FrozenSetType, inspect.VarTupleType)
_OBJECTS: Final = (inspect.StructType, inspect.DataclassType, inspect.TypedDictType)


class Types:
    """The types of one direction: `sent` by clients, or told to them."""

    def __init__(self, *, sent: bool) -> None:
        self._sent = sent
        self._names: dict[type, str] = {}
        self.declared: dict[str, str] = {}
        """The types that were needed and have a name."""

    def of(self, annotation: Any) -> str:
        """The type of an annotation, `unknown` if the codec has none for it."""
        try:
            return self._text(inspect.type_info(annotation))
        except Exception:  # noqa: BLE001  whatever a type that the codec does not know raises
            return "unknown"

    def inline(self, cls: type, *more: str, without: tuple[str, ...] = ()) -> str:
        """The fields of a struct as an object, behind `more` fields."""
        info = inspect.type_info(cls)
        assert isinstance(info, inspect.StructType), "only structs come here"
        return self._object([*more, *self._fields(info, without)])

    def _text(self, info: inspect.Type) -> str:
        for kind, text in _PLAIN:
            if isinstance(info, kind):
                return text
        match info:
            case inspect.Metadata():
                return self._text(info.type)
            case inspect.LiteralType():
                return " | ".join(map(json.dumps, sorted(info.values, key=str)))
            case inspect.EnumType():
                members: list[Enum] = list(info.cls)
                return " | ".join(json.dumps(member.value) for member in members)
            case inspect.UnionType():
                return " | ".join(dict.fromkeys(map(self._text, info.types)))
            case inspect.TupleType():
                return f"readonly [{', '.join(map(self._text, info.item_types))}]"
            case inspect.DictType():
                return f"Readonly<Record<string, {self._text(info.value_type)}>>"
        if isinstance(info, _LISTS):
            item = self._text(info.item_type)
            return f"readonly ({item})[]" if " " in item else f"readonly {item}[]"
        return self._name(info) if isinstance(info, _OBJECTS) else "unknown"

    def _name(self, info: Any) -> str:
        if getattr(info, "array_like", False):
            return f"readonly [{', '.join(self._text(field.type) for field in info.fields)}]"
        cls = info.cls
        if cls not in self._names:
            plain = re.sub(r"\W", "_", cls.__name__) + ("Input" if self._sent else "")
            name = plain if plain not in self.declared else f"{plain}{len(self.declared)}"
            self._names[cls] = name
            self.declared[name] = ""  # a type may hold itself
            self.declared[name] = self._object(self._fields(info, ()))
        return self._names[cls]

    def _object(self, fields: list[str]) -> str:
        if not fields:
            return "Record<string, never>" if self._sent else "object"
        text = f"{{ {'; '.join(fields)} }}"
        if len(text) <= _LINE_CHARS_MAX:
            return text
        return "{\n" + "".join(f"  {field};\n" for field in fields) + "}"

    def _fields(self, info: Any, without: tuple[str, ...]) -> list[str]:
        tag = [] if getattr(info, "tag_field", None) is None else [(info.tag_field, json.dumps(info.tag))]
        found = [f"{key(name)}: {value}" for name, value in tag if name not in without]
        omits = self._sent or getattr(getattr(info.cls, "__struct_config__", None), "omit_defaults", False)
        for field in info.fields:
            unset = field.default is field.default_factory is msgspec.NODEFAULT
            mark = "?" if not field.required and (omits or unset) else ""
            if field.encode_name not in without:
                found.append(f"{key(field.encode_name)}{mark}: {self._text(field.type)}")
        return found


def key(name: str) -> str:
    """A name of a field, in quotes if it is no identifier."""
    return name if _IDENTIFIER.fullmatch(name) else json.dumps(name)


_HEAD: Final = """\
// Made by `huahuo types`. Do not change it: run the command again.
import type {{ {} }} from "huahuo-client";
"""
_APP: Final = """\
/** `const client: AppClient = new Client({{ … }})` knows this application only. */
export interface App {{ commands: {}; lists: {}; states: States }}
export type AppClient = TypedClient<App>;
"""
_OTHERS: Final = "Readonly<Record<string, unknown>>"


def client_types(
    catalog: Catalog, lists: Mapping[str, ListQuery], live: Mapping[str, LiveList] = MappingProxyType({})
) -> str:
    """The text of a module of TypeScript. The client knows jobs already."""
    entities = [entity for kind, entity in catalog.by_kind.items() if kind != jobs.KIND]
    told, sent = Types(sent=False), Types(sent=True)
    events = {
        traits(cls).name: told.inline(cls, without=("type",))
        for entity in entities
        for cls in (*entity.evolves, *(entity.events or ()))
    }
    states = {entity.kind: told.of(entity.state) for entity in entities}
    commands: dict[str, str] = {}
    for entity in entities:
        commands |= _commands(entity, sent) | _queries(entity, told, sent)
    commands |= {action: _list(one, sent) for action, one in lists.items()}
    followed = {
        name: "{{ fields: {}; row: {} }}".format(
            "object" if one.fields is None else sent.inline(one.fields),
            "unknown" if one.row is Any else told.of(one.row),
        )
        for name, one in live.items()
    }
    about = "The state of each kind, as the snapshots of its streams have it."
    return "\n".join(
        [
            _HEAD.format("Commands, Lists, TypedClient" if followed else "Commands, TypedClient"),
            *_interfaces(told, sent),
            f"/** {about} */\nexport {_table('States', states)}\n",
            _APP.format(_picked("Commands", commands), _picked("Lists", followed)),
            'declare module "huahuo-client" {',
            indent(
                "\n".join(
                    [
                        _table("EventTypes", events),
                        _table("Commands", commands),
                        *([_table("Lists", followed)] if followed else []),
                    ]
                ),
                "  ",
            ),
            "}",
        ]
    )


def _commands(entity: Entity[Any], sent: Types) -> dict[str, str]:
    """The commands that clients may send. A new entity with an id from the log has none yet."""
    found: dict[str, str] = {}
    for cls in entity.decides:
        said = traits(cls)
        if not said.action:
            continue
        makes = entity.key is int and creates(entity, cls)
        fields = sent.inline(cls, *([] if makes else [_id(entity)]))
        found[said.action] = _command(fields, f"{{ {_id(entity)} }} & {_OTHERS}")
    return found


def _queries(entity: Entity[Any], told: Types, sent: Types) -> dict[str, str]:
    return {
        action: _command(
            f"{{ {_id(entity)} }}" if one.fields is None else sent.inline(one.fields, _id(entity)),
            f"{{ data: {_returned(one.answer, told)}; stream: string; seq: number }}",
        )
        for action, one in entity.queries.items()
    }


def _list(one: ListQuery, sent: Types) -> str:
    reply = "{ data: readonly unknown[]; next: string | null; position: number }"
    return _command(sent.inline(one.params), reply)


def _command(fields: str, reply: str) -> str:
    return f"{{\n  fields: {indent(fields, '  ').lstrip()};\n  reply: {reply};\n}}"


def _id(entity: Entity[Any]) -> str:
    return f"{entity.kind}_id: {'number' if entity.key is int else 'string'}"


def _returned(answer: Handler, told: Types) -> str:
    try:
        hints = typing.get_type_hints(answer)
    except Exception:  # noqa: BLE001  whatever an annotation raises that cannot be resolved
        return "unknown"
    return told.of(hints["return"]) if "return" in hints else "unknown"


def _interfaces(told: Types, sent: Types) -> Iterable[str]:
    for name, text in (told.declared | sent.declared).items():
        yield f"export type {name} = {text};\n"


def _picked(name: str, keys: Iterable[str]) -> str:
    names = " | ".join(map(json.dumps, sorted(keys)))
    return f"Pick<{name}, {names}>" if names else "Record<never, never>"


def _table(name: str, rows: Mapping[str, str]) -> str:
    body = "".join(f"{key(row)}: {text};\n" for row, text in sorted(rows.items()))
    return f"interface {name} {{\n{indent(body, '  ')}}}"
