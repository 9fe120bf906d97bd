"""Writes what follows from `huahuo.transport.protocol.kinds`: browser types, reserved names, a table.

Run `python scripts/kinds_page.py`. It writes the table of section 4 in docs/protocol.md, the browser
client's types, `web/client/src/wire/kinds.ts`, and the names that no event of an application may have,
`actors/domain/wire_types.py`. A test fails while one of them is not what this prints.
"""

import types
import typing
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Meta

from huahuo.transport.protocol import kinds
from huahuo.transport.protocol.kinds import KINDS, Kind, Moving, name_of

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "protocol.md"
TYPES = ROOT / "web" / "client" / "src" / "wire" / "kinds.ts"
RESERVED = ROOT / "actors" / "domain" / "wire_types.py"
BEGIN, END = "<!-- kinds -->\n", "<!-- /kinds -->"
IN_SECTION_4 = (kinds.LiveFrame, kinds.SnapshotFrame, kinds.SkippedFrame, kinds.LagFrame)
IN_PARTS = ("part", "more")
PLAIN = {str: "string", int: "number", float: "number", bool: "boolean"}
NESTED = {kinds.StreamPlace: "Place", kinds.DictionaryPlace: "DictionaryPlace"}
HEAD = """\
/** The kinds of messages that the server sends of itself. Written by `scripts/kinds_page.py`: do not edit. */

import type { Outcome } from "../model/model.js";
import type { DictionaryPlace } from "./inflow.js";

"""


def row(kind: type[Kind]) -> str:
    """A kind in the table of the page: its message, and the docstring of its struct."""
    members = [f'"type":"{name_of(kind)}"']
    for field in msgspec.structs.fields(kind):
        if field.name not in IN_PARTS:
            examples = _meta(field.type).examples or ()
            members.append(f'"{field.name}"' + "".join(f':"{example}"' for example in examples[:1]))
    return f"| `{{{','.join(members)}}}` | {' '.join((kind.__doc__ or '').split())} |\n"


def with_table(page: str) -> str:
    """`page` with the table of today."""
    head, rest = page.split(BEGIN)
    _old, tail = rest.split(END)
    return (
        head
        + BEGIN
        + "| message | means |\n|---|---|\n"
        + "".join([row(kind) for kind in IN_SECTION_4])
        + END
        + tail
    )


def browser_types() -> str:
    """The TypeScript of all kinds."""
    moving = [kind for kind in KINDS if issubclass(kind, Moving)]
    return (
        HEAD
        + f"export interface Place {{\n{_members(kinds.StreamPlace, required=True)}}}\n\n"
        + "".join(
            f"/** {' '.join((kind.__doc__ or '').split())} */\n"
            f'export interface {_named(kind)} {{\n  readonly type: "{name_of(kind)}";\n{_members(kind)}}}\n\n'
            for kind in KINDS
        )
        + f"export type Known = {''.join(f'\n  | {_named(kind)}' for kind in KINDS)};\n"
        + "/** Those that move a cursor. */\n"
        + f"export type Moving = {' | '.join(map(_named, moving))};\n\n"
        + f"export const KINDS: ReadonlySet<string> = new Set({_listed(KINDS)});\n"
        + f"export const MOVING: ReadonlySet<string> = new Set({_listed(moving)});\n"
    )


def reserved_names() -> str:
    """The Python of the names, for a floor that may not import them."""
    listed = "".join(f'        "{name}",\n' for name in sorted(map(name_of, KINDS)))
    return (
        '"""Types of the messages that the server sends of itself. Written by `scripts/kinds_page.py`."""\n\n'
        f"from typing import Final\n\nWIRE_TYPES: Final = frozenset(\n    {{\n{listed}    }}\n)\n"
    )


def _named(kind: type[Kind]) -> str:
    return kind.__name__.removesuffix("Frame") + "Frame"


def _listed(some: typing.Sequence[type[Kind]]) -> str:
    return "[\n" + "".join(f'  "{name_of(kind)}",\n' for kind in some) + "]"


def _members(struct: type[msgspec.Struct], *, required: bool = False) -> str:
    lines = []
    for field in msgspec.structs.fields(struct):
        written, nullable = _written(field.type)
        maybe = not required and (nullable or bool((_meta(field.type).extra or {}).get("maybe")))
        lines.append(f"  readonly {field.name}{'?' if maybe else ''}: {written};\n")
    return "".join(lines)


def _meta(annotation: Any) -> Meta:
    annotation = getattr(annotation, "__value__", annotation)
    found = [one for one in getattr(annotation, "__metadata__", ()) if isinstance(one, Meta)]
    return found[0] if found else Meta()


def _written(annotation: Any) -> tuple[str, bool]:
    """The type in TypeScript, and whether it may be null."""
    browser = (_meta(annotation).extra or {}).get("browser")
    if browser:
        return str(browser), False
    if typing.get_origin(annotation) is typing.Annotated:
        return _written(typing.get_args(annotation)[0])
    args = typing.get_args(annotation)
    match typing.get_origin(annotation):
        case types.UnionType:
            return " | ".join([_written(one)[0] for one in args if one is not type(None)] + ["null"]), True
        case origin if origin is dict:
            value = "unknown" if args[1] is Any else _written(args[1])[0]
            return f"Record<string, {value}>", False
        case origin if origin is list:
            return f"{_written(args[0])[0]}[]", False
        case origin if origin is tuple:
            return f"[{', '.join(_written(one)[0] for one in args)}]", False
    return PLAIN.get(annotation) or NESTED[annotation], False


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    TYPES.write_text(browser_types(), encoding="utf-8")
    RESERVED.write_text(reserved_names(), encoding="utf-8")
