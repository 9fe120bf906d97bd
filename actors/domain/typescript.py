"""Structs as types of TypeScript: what the service tells, and what clients send. Pure.

The directions differ: a client may leave out a field with a default, and the service always tells it. So a
type that is sent has a name of its own, with `Input` behind it.
"""

import json
import re
from enum import Enum
from typing import Any, Final

import msgspec
from msgspec import inspect

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
